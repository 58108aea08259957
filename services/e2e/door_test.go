package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// door is one way into the server: an official client, or REST. It makes one
// call and shows what its user gets.
type door interface {
	do(call) (result, error)
}

// call is one call of the scenario. The clients read it as a line of JSON.
type call struct {
	Session session        `json:"session"`
	Name    string         `json:"call"`
	Message map[string]any `json:"message,omitempty"`
	// All follows the pages of a list to its end.
	All bool `json:"all,omitempty"`
	// Wait waits for the operation that the call returns.
	Wait bool `json:"wait,omitempty"`
}

// session is the credential of the caller; one field is set.
type session struct {
	OAuthToken string      `json:"oauthToken,omitempty"`
	IAMToken   string      `json:"iamToken,omitempty"`
	AccountKey *accountKey `json:"accountKey,omitempty"`
}

// accountKey is an authorized key of a service account.
type accountKey struct {
	ID               string `json:"id"`
	ServiceAccountID string `json:"service_account_id"`
	PrivateKey       string `json:"private_key"`
}

// result is what a call gave; the clients write it as a line of JSON.
type result struct {
	// Code is the name of the gRPC code, e.g. NOT_FOUND.
	Code string `json:"code"`
	// Error is the text of an error, for the reader of a failed test.
	Error string `json:"error,omitempty"`
	// Reason is the one of the ErrorInfo detail.
	Reason string `json:"reason,omitempty"`
	// Fields are those of the BadRequest detail.
	Fields []string `json:"fields,omitempty"`
	// Message is the answer as proto JSON; of an operation, its last state.
	Message map[string]any `json:"message,omitempty"`
}

// client is a door through a program around an official SDK.
type client struct {
	in   io.WriteCloser
	out  *bufio.Reader
	errs *buffer
}

// startClient starts a client program that ends with the test.
func startClient(t *testing.T, env []string, program string, args ...string) *client {
	t.Helper()
	cmd := exec.Command(program, args...)
	cmd.Env = append(withoutProxies(os.Environ()), env...)
	c := &client{errs: &buffer{}}
	cmd.Stderr = c.errs
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.in, c.out = in, bufio.NewReader(out)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.in.Close() // the program ends with its input
		if err := cmd.Wait(); err != nil {
			t.Errorf("the client ended badly: %v\n%s", err, c.errs.tail(4<<10))
		}
	})
	return c
}

// do implements door.
func (c *client) do(what call) (result, error) {
	if err := json.NewEncoder(c.in).Encode(what); err != nil {
		return result{}, fmt.Errorf("tell the client: %w\n%s", err, c.errs.tail(4<<10))
	}
	line, err := c.out.ReadBytes('\n')
	if err != nil {
		return result{}, fmt.Errorf("hear the client: %w\n%s", err, c.errs.tail(4<<10))
	}
	var r result
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.UseNumber()
	return r, decoder.Decode(&r)
}

// withoutProxies drops the variables by which the machine sends clients through a
// proxy: the servers of these tests are on the loopback.
func withoutProxies(env []string) []string {
	kept := make([]string, 0, len(env))
	for _, pair := range env {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasSuffix(strings.ToLower(name), "_proxy") {
			kept = append(kept, pair)
		}
	}
	return kept
}

// goClient builds one of the Go clients, which are modules of their own.
func goClient(t *testing.T, folder string) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), folder)
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Dir = folder
	build.Env = append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", folder, err, out)
	}
	return bin
}
