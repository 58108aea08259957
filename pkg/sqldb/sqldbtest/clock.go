package sqldbtest

import (
	_ "embed"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

//go:embed clock/clock.c
var clockSource []byte

// movable is a wall clock that the processes of a server read instead of the machine's.
type movable struct {
	library string // what the loader puts before the C library
	file    *os.File
	ahead   time.Duration
}

// NewServerWithClock starts a server as NewServer does, whose clock MoveClock sets. It
// needs a C compiler: without one the test is skipped, or fails where PostgreSQL is
// required.
func NewServerWithClock(tb testing.TB) *Server {
	tb.Helper()
	s := newTestServer(tb, "off")
	cc, err := exec.LookPath("cc")
	if err != nil && os.Getenv("BINDERY_REQUIRE_DB") == "1" {
		tb.Fatalf("a C compiler is required to move the clock of PostgreSQL: %v", err)
	}
	if err != nil {
		tb.Skipf("SKIPPED, NOT PASSED: this test moves the clock of PostgreSQL: %v", err)
	}
	source, library := filepath.Join(tb.TempDir(), "clock.c"), filepath.Join(s.dir, "clock.so")
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		tb.Fatal(err)
	}
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl").CombinedOutput(); err != nil { //nolint:gosec // our own source
		tb.Fatalf("compile the clock: %v\n%s", err, out)
	}
	file, err := os.OpenFile(filepath.Join(s.dir, "clock"), os.O_CREATE|os.O_RDWR, 0o644) //nolint:gosec // the server reads it as another user
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = file.Close() }) // it is removed with the server
	s.clock = &movable{library: library, file: file}
	s.MoveClock(0)
	s.Stop(Fast)
	s.Start()
	return s
}

// MoveClock sets the clock of a server of NewServerWithClock, by a whole number of seconds
// from what it shows; it stays so through its restarts.
func (s *Server) MoveClock(by time.Duration) {
	s.tb.Helper()
	s.clock.ahead += by
	text := binary.NativeEndian.AppendUint64(nil, uint64(s.clock.ahead/time.Second)) //nolint:gosec // two's complement is meant
	if _, err := s.clock.file.WriteAt(text, 0); err != nil {                         // in place: the processes have the page mapped
		s.tb.Fatal(err)
	}
}
