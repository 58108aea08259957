package sqldbtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Cut is where a Proxy breaks a connection.
type Cut int

// Where.
const (
	BeforeCommit   Cut = iota // COMMIT does not reach the server
	AfterCommit               // the server has committed, its answer does not arrive
	DuringCommit              // COMMIT is sent, and nobody waits for what comes of it
	AfterStatement            // the server has executed a statement, its answer does not arrive
)

// Proxy stands between clients and a PostgreSQL server and breaks connections
// where it is told to.
type Proxy struct {
	// URL is the database as clients reach it through the proxy.
	URL string

	listener net.Listener
	network  string
	server   string

	mu    sync.Mutex
	cuts  []cut // asked for, and not made yet
	delay time.Duration
	open  map[net.Conn]struct{}
}

// NewProxy starts a proxy of the server at a URL, which ends with the test.
func NewProxy(tb testing.TB, databaseURL string) *Proxy {
	tb.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{network: "tcp", server: u.Host, open: map[net.Conn]struct{}{}}
	q := u.Query()
	if dir := q.Get("host"); strings.HasPrefix(dir, "/") {
		p.network, p.server = "unix", filepath.Join(dir, ".s.PGSQL.5432")
	}
	if p.listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		tb.Fatal(err)
	}
	q.Del("host")
	q.Set("sslmode", "disable") // the proxy reads what is sent
	u.Host, u.RawQuery = p.listener.Addr().String(), q.Encode()
	p.URL = u.String()
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := p.listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(client) })
		}
	})
	tb.Cleanup(func() {
		if err := p.listener.Close(); err != nil {
			tb.Error(err)
		}
		p.CutAll()
		running.Wait()
	})
	return p
}

// Cut breaks the next connection that comes to the point. What it returns is
// closed when that has happened.
func (p *Proxy) Cut(where Cut) <-chan struct{} {
	done := make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cuts = append(p.cuts, cut{where, done})
	return done
}

type cut struct {
	where Cut
	done  chan<- struct{}
}

// CutAll breaks all connections.
func (p *Proxy) CutAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.open {
		_ = c.Close() // the other side may have been first
	}
}

// Delay has every answer of the server wait. Zero ends it.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

func (p *Proxy) serve(client net.Conn) {
	defer p.keep(client)()
	server, err := net.Dial(p.network, p.server)
	if err != nil {
		return // so does the client see that there is no server
	}
	defer p.keep(server)()
	silenced := make(chan struct{}) // what the server says from now on is not for the client
	ready := make(chan struct{}, 1) // the server has said that it awaits the next query
	var answers sync.WaitGroup
	answers.Go(func() {
		_ = p.answer(client, server, silenced, ready) // it ends with its connections
		_ = client.Close()
	})
	_ = p.ask(client, server, silenced, ready)
	_ = server.Close()
	answers.Wait()
}

// keep remembers a connection and returns what closes it.
func (p *Proxy) keep(c net.Conn) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.open[c] = struct{}{}
	return func() {
		_ = c.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.open, c)
	}
}

// ask passes messages of the client on, until one at which it is to cut.
func (p *Proxy) ask(client io.Reader, server io.Writer, silenced chan<- struct{}, ready <-chan struct{}) error {
	first, err := readBody(client) // it has no kind
	if err != nil {
		return err
	}
	if err := write(server, nil, first); err != nil {
		return err
	}
	for {
		kind, body, err := read(client)
		if err != nil {
			return err
		}
		where, cut := p.cutAt(kind[0], body)
		if cut && where == BeforeCommit {
			return errCut
		}
		if cut {
			close(silenced)
			drain(ready)
		}
		if err := write(server, kind, body); err != nil {
			return err
		}
		if cut {
			if where != DuringCommit {
				select {
				case <-ready:
				case <-time.After(10 * time.Second):
				}
			}
			return errCut
		}
	}
}

func drain(c <-chan struct{}) {
	select {
	case <-c:
	default:
	}
}

var errCut = errors.New("cut")

// cutAt reports whether the connection is to be cut at a message, and where.
func (p *Proxy) cutAt(kind byte, body []byte) (Cut, bool) {
	// Statements without arguments are simple queries, those with arguments end
	// with a sync.
	commit := kind == 'Q' && strings.EqualFold(strings.TrimRight(string(body), "\x00; "), "commit")
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.cuts) == 0 {
		return 0, false
	}
	next := p.cuts[0]
	if next.where == AfterStatement && kind != 'S' || next.where != AfterStatement && !commit {
		return 0, false
	}
	close(next.done)
	p.cuts = p.cuts[1:]
	return next.where, true
}

// answer passes messages of the server on, and tells when it is ready.
func (p *Proxy) answer(client io.Writer, server io.Reader, silenced <-chan struct{}, ready chan<- struct{}) error {
	for {
		kind, body, err := read(server)
		if err != nil {
			return err
		}
		p.mu.Lock()
		delay := p.delay
		p.mu.Unlock()
		if kind[0] == 'Z' && delay > 0 {
			time.Sleep(delay)
		}
		select {
		case <-silenced:
		default:
			if err := write(client, kind, body); err != nil {
				return err
			}
		}
		if kind[0] == 'Z' {
			select {
			case ready <- struct{}{}:
			default:
			}
		}
	}
}

// maxMessage is more than any message of a test.
const maxMessage = 64 << 20

// read reads a message: a byte for its kind, its length with itself, its body.
func read(from io.Reader) (kind, body []byte, err error) {
	kind = make([]byte, 1)
	if _, err := io.ReadFull(from, kind); err != nil {
		return nil, nil, err
	}
	body, err = readBody(from)
	return kind, body, err
}

func readBody(from io.Reader) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n < 4 || n > maxMessage {
		return nil, fmt.Errorf("message of %d bytes", n)
	}
	body := make([]byte, n-4)
	_, err := io.ReadFull(from, body)
	return body, err
}

func write(to io.Writer, kind, body []byte) error {
	msg := binary.BigEndian.AppendUint32(kind, uint32(len(body)+4)) //nolint:gosec // at most maxMessage
	_, err := to.Write(append(msg, body...))
	return err
}
