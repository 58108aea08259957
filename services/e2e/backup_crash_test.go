package e2e

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

var rowsWords = regexp.MustCompile(`(\d+) rows`)

// TestKilledBackup kills backups and restores half-way. A backup that was killed has
// no file; a restore that was killed has left nothing and is repeated, or was whole.
func TestKilledBackup(t *testing.T) {
	s := startServer(t, "")
	w := newWorld(t, s)
	w.writeUntil(t, w.writers(t, 0, rand.New(rand.NewPCG(5, 6))), time.Second, s.stop)
	file, said := s.backup()
	kills := 0
	for round := range 6 {
		out := filepath.Join(t.TempDir(), "backup")
		if killed(t, append([]string{"backup", "--out", out}, s.on()...)) {
			kills++
		}
		if _, err := os.Stat(out); err == nil { // what has its name is whole
			command(t, append([]string{"restore", "--in", out}, newServer(t, "").on()...)...)
		}
		url := ""
		if round%2 == 1 {
			url = sqldbtest.URL(t)
		}
		target := newServer(t, url)
		restore := append([]string{"restore", "--in", file}, target.on()...)
		if killed(t, restore) {
			kills++
		}
		if again, err := exec.Command(binary(t), restore...).CombinedOutput(); err != nil && !strings.Contains(string(again), "not empty") {
			t.Errorf("after a kill: %v, %s", err, again)
		}
		_, restoredAs := target.backup()
		if got, want := rowsWords.FindString(restoredAs), rowsWords.FindString(said); got != want || want == "" {
			t.Errorf("after a kill and another try there are %s, want %s", got, want)
		}
	}
	t.Logf("%d of 12 were killed", kills)
}

// killed runs the program for a short while and reports whether it was killed.
func killed(t *testing.T, args []string) bool {
	t.Helper()
	cmd := exec.Command(binary(t), args...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(time.Duration(5+rand.IntN(120))*time.Millisecond, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	return cmd.Wait() != nil
}
