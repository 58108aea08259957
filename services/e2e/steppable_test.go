package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clockStep is by how much the clock of a process is set at a time.
const clockStep = 10 * time.Minute

// steppable builds the program with a wall clock that a test sets, as an operator sets that
// of a machine: everything that asks package time what time it is hears another time, and
// clocks that count durations go on. The program is the same otherwise, and nothing of this
// is in the one that people run: the compiler is given other text for one function of
// package time, and a file more for package main.
var steppable = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bindery-e2e-")
	if err != nil {
		return "", err
	}
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	program, err := filepath.Abs("../cmd/bindery")
	if err != nil {
		return "", err
	}
	original := filepath.Join(strings.TrimSpace(string(root)), "src", "time", "time.go")
	text, err := os.ReadFile(original)
	if err != nil {
		return "", err
	}
	before, after, ok := strings.Cut(string(text), nowBody)
	if !ok || strings.Contains(after, nowBody) {
		return "", fmt.Errorf("the function Now of this version of Go is another one: %s", original)
	}
	replace := map[string]string{}
	for path, text := range map[string]string{
		original: before + nowBody + "\n\tsec += stepped.Load()" + after,
		filepath.Join(filepath.Dir(original), "stepped.go"): steppedSource,
		filepath.Join(program, "stepped.go"):                signalSource,
	} {
		name := filepath.Join(dir, fmt.Sprintf("%d.go", len(replace)))
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", err
		}
		replace[path] = name
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "bindery")
	build := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-ldflags", "-X main.version=v0.0.0-e2e", "-o", bin, program)
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// nowBody is where package time asks the runtime what time it is.
const nowBody = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()"

const steppedSource = `package time

import "sync/atomic"

var stepped atomic.Int64 // seconds

// Step sets the wall clock of the process.
func Step(by Duration) { stepped.Add(int64(by / Second)) }
`

const signalSource = `package main

import (
	"os"
	"os/signal"
	"syscall"
	"time"
)

func init() {
	steps := make(chan os.Signal, 16)
	signal.Notify(steps, syscall.SIGUSR1, syscall.SIGUSR2)
	go func() {
		for s := range steps {
			by := 10 * time.Minute
			if s == syscall.SIGUSR2 {
				by = -by
			}
			time.Step(by)
		}
	}()
}
`

// stepClock sets the clock of a process of the program that steppable builds forward, or
// back, and waits until it is: the process shows it in its answers.
func (s *server) stepClock(t *testing.T, forward bool) {
	t.Helper()
	before := s.ahead(t)
	sig, by := syscall.SIGUSR1, clockStep
	if !forward {
		sig, by = syscall.SIGUSR2, -clockStep
	}
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if moved := s.ahead(t) - before; (moved - by).Abs() < clockStep/10 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the clock of the process is not set: it is %v ahead", s.ahead(t))
		}
	}
}

// ahead is how far the clock of a process is ahead of that of the test, nearly.
func (s *server) ahead(t *testing.T) time.Duration {
	t.Helper()
	resp, err := http.Get("http://" + s.ops + "/healthz")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	date, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		t.Fatal(err)
	}
	return time.Until(date)
}
