package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// server is one installation: a data directory and the process that serves it,
// which may be stopped, killed and started again. It keeps its addresses.
type server struct {
	t testing.TB

	dataDir     string
	databaseURL string            // empty means SQLite in dataDir
	units       []string          // what is served
	flags       []string          // more of them
	program     string            // what runs; empty means what binary builds
	ca          string            // of its certificate; empty means the one it makes itself
	operatorDir string            // the data directory for operators; empty means dataDir
	desks       map[string]string // data directories of units elsewhere, for their operators

	beside []*server // further processes of the installation, which come and go with it

	grpc, http, ops string // HOST:PORT, once it has been ready

	cmd    *exec.Cmd
	exited chan error
	log    *buffer
}

// eachEngine runs f with a server on SQLite and with one on PostgreSQL.
func eachEngine(t *testing.T, f func(t *testing.T, s *server)) {
	t.Helper()
	binary(t)
	t.Run("sqlite", func(t *testing.T) { f(t, startServer(t, "")) })
	t.Run("postgres", func(t *testing.T) { f(t, startServer(t, sqldbtest.URL(t))) })
}

// eachForm is eachEngine, and once more with every unit in a process of its own.
func eachForm(t *testing.T, f func(t *testing.T, s *server)) {
	t.Helper()
	eachEngine(t, f)
	t.Run("split", func(t *testing.T) { f(t, startSplit(t).server) })
}

// eitherForm runs f with all units in one process, and with each in its own.
func eitherForm(t *testing.T, f func(t *testing.T, s *server)) {
	t.Helper()
	binary(t)
	t.Run("all", func(t *testing.T) { f(t, startServer(t, "")) })
	t.Run("split", func(t *testing.T) { f(t, startSplit(t).server) })
}

// startServer starts a server that ends with the test.
func startServer(t testing.TB, databaseURL string) *server {
	t.Helper()
	s := newServer(t, databaseURL)
	s.start()
	return s
}

// newServer returns a server that is not started, and ends with the test.
func newServer(t testing.TB, databaseURL string) *server {
	t.Helper()
	s := &server{
		t: t, dataDir: filepath.Join(t.TempDir(), "data"), databaseURL: databaseURL, units: []string{"all"},
		grpc: servertest.FreeAddress(t), http: servertest.FreeAddress(t), ops: servertest.FreeAddress(t), log: &buffer{},
	}
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("the last lines of the server of %v:\n%s", s.units, s.log.tail(4<<10))
		}
	})
	return s
}

// deskOf is the data directory by which operators reach a unit.
func (s *server) deskOf(unit string) string { return cmp.Or(s.desks[unit], s.dataDir) }

// caFile is the CA of the server's certificate: the one that it makes on first
// start, unless it is given another.
func (s *server) caFile() string { return cmp.Or(s.ca, filepath.Join(s.dataDir, "tls", "ca.pem")) }

// ready is the line that a server prints when it answers. Without REST it has no
// address for it.
var ready = regexp.MustCompile(`^bindery ready grpc=(\S+) http=(\S*) ops=(\S+)$`)

// start starts the process, and those beside it, and waits until they say that they
// are ready.
func (s *server) start() {
	s.t.Helper()
	all := append([]*server{s}, s.beside...)
	lines := make([]<-chan []string, len(all))
	for i, one := range all {
		lines[i] = one.launch()
	}
	for i, one := range all {
		one.await(lines[i])
	}
}

// launch starts the process. The parts of its ready line will be sent.
func (s *server) launch() <-chan []string {
	s.t.Helper()
	args := append([]string{"serve"}, s.units...)
	args = append(append(args, s.flags...), "--data-dir", s.dataDir, "--listen", s.grpc, "--http", s.http, "--ops", s.ops)
	if s.databaseURL != "" {
		args = append(args, "--database-url", s.databaseURL)
	}
	s.cmd = exec.Command(cmp.Or(s.program, binary(s.t)), args...)
	s.cmd.Env = append(os.Environ(), "DATABASE_URL=")
	s.cmd.Stderr = s.log
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	lines := make(chan []string, 1)
	s.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) {
		readReady(out, lines)
		exited <- cmd.Wait()
	}(s.cmd, s.exited)
	return lines
}

// await waits for the ready line.
func (s *server) await(lines <-chan []string) {
	s.t.Helper()
	select {
	case addresses, ok := <-lines:
		if !ok {
			err := <-s.exited
			s.cmd = nil
			s.t.Fatalf("the server of %v ended before it was ready: %v", s.units, err)
		}
		s.grpc, s.http, s.ops = addresses[1], cmp.Or(addresses[2], s.http), addresses[3]
	case <-time.After(time.Minute):
		s.t.Fatalf("the server of %v was not ready within a minute", s.units)
	}
}

// readReady sends the parts of the ready line, and reads on until the output ends.
func readReady(out io.Reader, lines chan<- []string) {
	defer close(lines)
	scanner := bufio.NewScanner(out)
	for scanner.Scan() {
		if m := ready.FindStringSubmatch(scanner.Text()); m != nil {
			lines <- m
		}
	}
}

// stop asks the process, and those beside it, to end and waits until they have.
func (s *server) stop() {
	s.t.Helper()
	for _, one := range s.beside {
		defer one.stop()
	}
	if err := s.end(syscall.SIGTERM); err != nil {
		s.t.Fatalf("the server did not end well: %v", err)
	}
}

// kill ends the process at once, as a power cut would, if there is one.
func (s *server) kill() {
	if s.cmd != nil {
		_ = s.end(syscall.SIGKILL) // "signal: killed" is what was asked for
	}
}

func (s *server) end(sig os.Signal) error {
	if err := s.cmd.Process.Signal(sig); err != nil {
		return err
	}
	select {
	case err := <-s.exited:
		s.cmd = nil
		return err
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
		s.cmd = nil
		return os.ErrDeadlineExceeded
	}
}

// maxLog bounds what is kept of a log, in bytes.
const maxLog = 64 << 20

// buffer is a log that a process writes and a test reads.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.buf.Len() > maxLog { // a test that lasts an hour keeps the end
		b.buf.Next(b.buf.Len() - maxLog/2)
	}
	return b.buf.Write(p)
}

// tail returns the last n bytes.
func (b *buffer) tail(n int) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := b.buf.Bytes()
	return bytes.Clone(all[max(0, len(all)-n):])
}
