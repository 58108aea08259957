package sqldbtest

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Shutdown is a way of PostgreSQL to end.
type Shutdown syscall.Signal

// The two that do not wait for clients.
const (
	Fast      = Shutdown(syscall.SIGINT)  // transactions are rolled back
	Immediate = Shutdown(syscall.SIGQUIT) // as after a crash
)

// Server is a PostgreSQL server of one test, which may end it and start it again.
// What it has committed survives every end of its processes.
type Server struct {
	// URL is an empty database on it.
	URL string

	tb     testing.TB
	bin    string
	dir    string
	fsync  string
	clock  *movable      // nil: the machine's
	keep   io.Closer     // the server ends when this is closed
	exited chan struct{} // closed when it has
}

// runScript runs the cluster in $2 until the standard input ends.
const runScript = `
bin=$1 dir=$2 fsync=$3 library=$4 # one that syncs is as servers are, the others do without what tests need not wait for
if [ ! -d "$dir/data" ]; then
	"$bin/initdb" -D "$dir/data" -U bindery -A trust -E UTF8 -N --locale=C >"$dir/initdb.log" 2>&1 || exit 1
fi
[ -z "$library" ] || export LD_PRELOAD="$library" SQLDBTEST_CLOCK="$dir/clock"
"$bin/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync=$fsync -c synchronous_commit=on \
	-c shared_buffers=32MB -c max_connections=200 -c wal_level=minimal -c max_wal_senders=0 \
	-c autovacuum=$fsync -c autovacuum_naptime=5 >>"$dir/postgres.log" 2>&1 &
pid=$!
unset LD_PRELOAD
{ cat >/dev/null; kill -QUIT $pid 2>/dev/null; } <&3 &
wait $pid
`

// NewServer starts a server that ends with the test. It skips the test when there
// are no binaries of PostgreSQL.
func NewServer(tb testing.TB) *Server { return newTestServer(tb, "off") }

// NewDurableServer starts a server as NewServer does, whose commits survive the end of
// the machine as well, at their price.
func NewDurableServer(tb testing.TB) *Server { return newTestServer(tb, "on") }

func newTestServer(tb testing.TB, fsync string) *Server {
	tb.Helper()
	bin, err := findBinaries()
	if err != nil && os.Getenv("BINDERY_REQUIRE_DB") == "1" {
		tb.Fatalf("PostgreSQL is required (BINDERY_REQUIRE_DB=1): %v", err)
	}
	if err != nil {
		tb.Skipf("SKIPPED, NOT PASSED: this test starts PostgreSQL: %v", err)
	}
	dir, err := os.MkdirTemp("", "bindery-pg-") // short, as the path of a socket must be
	if err != nil {
		tb.Fatal(err)
	}
	if cred, err := credential(); err != nil {
		tb.Fatal(err)
	} else if cred != nil {
		if err := os.Chown(dir, int(cred.Uid), int(cred.Gid)); err != nil {
			tb.Fatal(err)
		}
	}
	u := url.URL{Scheme: "postgres", User: url.User("bindery"), Path: "/postgres", RawQuery: url.Values{"host": {dir}}.Encode()}
	s := &Server{URL: u.String(), tb: tb, bin: bin, dir: dir, fsync: fsync}
	tb.Cleanup(func() {
		s.end(syscall.SIGQUIT)
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	s.Start()
	return s
}

// Start starts the server, which has ended, and waits until it answers.
func (s *Server) Start() {
	s.tb.Helper()
	const patience = time.Minute
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := s.try(deadline)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "postgres.log"))
			s.tb.Fatalf("PostgreSQL did not start within %s: %v\n%s", patience, err, log)
		}
	}
}

// try starts the server once: while processes of a killed one still end, it cannot.
func (s *Server) try(deadline time.Time) error {
	if err := s.launch(); err != nil {
		return err
	}
	for time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		conn, err := pgx.Connect(ctx, s.URL)
		cancel()
		if err == nil {
			return conn.Close(context.Background())
		}
		select {
		case <-s.exited:
			return fmt.Errorf("it ended: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	return context.DeadlineExceeded
}

func (s *Server) launch() error {
	library := ""
	if s.clock != nil {
		library = s.clock.library
	}
	cmd := exec.Command("/bin/sh", "-c", "exec 3<&0\n"+runScript, "sh", s.bin, s.dir, s.fsync, library) //nolint:gosec // the paths are our own
	cmd.Dir = "/"
	cred, err := credential()
	if err != nil {
		return err
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: cred}
	if s.keep, err = cmd.StdinPipe(); err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	s.exited = exited
	go func() {
		_ = cmd.Wait() // how it ends is the test's doing
		close(exited)
	}()
	return nil
}

// Log is what the server has written into its log so far.
func (s *Server) Log() []byte {
	s.tb.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "postgres.log"))
	if err != nil {
		s.tb.Fatal(err)
	}
	return text
}

// Stop ends the server as an operator does, and waits until it has ended.
func (s *Server) Stop(how Shutdown) {
	s.tb.Helper()
	s.end(syscall.Signal(how))
}

// Kill ends the first process of the server at once. The others notice, and may
// live a little longer.
func (s *Server) Kill() {
	s.tb.Helper()
	s.end(syscall.SIGKILL)
}

func (s *Server) end(sig syscall.Signal) {
	s.tb.Helper()
	select {
	case <-s.exited:
		return
	default:
	}
	text, err := os.ReadFile(filepath.Join(s.dir, "data", "postmaster.pid"))
	if err != nil {
		s.tb.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		s.tb.Fatal(err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		s.tb.Fatalf("end PostgreSQL: %v", err)
	}
	select {
	case <-s.exited:
	case <-time.After(time.Minute):
		s.tb.Fatal("PostgreSQL did not end within a minute")
	}
	_ = s.keep.Close() // nobody reads it any more
}

// credential is whom PostgreSQL runs as; nil means as the test does.
func credential() (*syscall.Credential, error) {
	if os.Geteuid() != 0 { // PostgreSQL refuses to run as root
		return nil, nil
	}
	return unprivileged()
}
