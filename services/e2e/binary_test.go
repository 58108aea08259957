package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built builds the program once for all tests of the process.
var built = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "bindery-e2e-")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "bindery")
	build := exec.Command("go", "build", "-ldflags", "-X main.version=v0.0.0-e2e", "-o", bin, "../cmd/bindery")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return bin, nil
})

// binary returns the path of the built program.
func binary(t testing.TB) string {
	t.Helper()
	if testing.Short() {
		t.Skip("starts processes")
	}
	bin, err := built()
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// command runs the program to its end and returns its standard output.
func command(t testing.TB, args ...string) []byte {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(binary(t), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("bindery %q: %v\n%s", args, err, &errs)
	}
	return out.Bytes()
}

// user is what `bindery user create` prints.
type user struct {
	ID         string `json:"id"`
	Login      string `json:"login"`
	OAuthToken string `json:"oauthToken"`
}

// createUser makes a user of a running server.
func (s *server) createUser(login string) user {
	s.t.Helper()
	out := command(s.t, "user", "create", "--login", login, "--email", login+"@example.com", "--data-dir", cmp.Or(s.operatorDir, s.dataDir))
	var u user
	if err := json.Unmarshal(out, &u); err != nil {
		s.t.Fatalf("user create printed %q: %v", out, err)
	}
	return u
}

// createToken returns an IAM token of a user of a running server.
func (s *server) createToken(login string) string {
	s.t.Helper()
	out := command(s.t, "token", "create", "--login", login, "--data-dir", cmp.Or(s.operatorDir, s.dataDir))
	return string(bytes.TrimSuffix(out, []byte("\n")))
}
