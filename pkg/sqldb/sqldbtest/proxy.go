package sqldbtest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
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

	mu      sync.Mutex
	cuts    []cut // asked for, and not made yet
	delay   time.Duration
	swallow bool  // new connections are half-open
	hold    *hold // nil for none
	open    map[net.Conn]struct{}
	links   map[*link]struct{}
}

// link is a client and its connection to the server.
type link struct {
	client, server net.Conn
	lost           atomic.Bool // what either side says does not arrive
}

// hold keeps the executions of a statement back.
type hold struct {
	text     string
	held     chan struct{} // closed when one is
	once     sync.Once
	released chan struct{}
}

// NewProxy starts a proxy of the server at a URL, which ends with the test.
func NewProxy(tb testing.TB, databaseURL string) *Proxy {
	tb.Helper()
	u, err := url.Parse(databaseURL)
	if err != nil {
		tb.Fatal(err)
	}
	p := &Proxy{network: "tcp", server: u.Host, open: map[net.Conn]struct{}{}, links: map[*link]struct{}{}}
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
		p.Release()
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

// Swallow makes all connections half-open, those that come as well: each side is connected,
// and what it says arrives nowhere.
func (p *Proxy) Swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = true
	for l := range p.links {
		l.lost.Store(true)
	}
}

// Heal ends Swallow for connections to come. Those that are half-open are cut, as by a
// machine that was away and does not know them, or stay so until their client gives them
// up, as when something between has forgotten them.
func (p *Proxy) Heal(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.swallow = false
	for l := range p.links {
		if cut && l.lost.Load() {
			_, _ = l.client.Close(), l.server.Close() // the other side may have been first
		}
	}
}

// Hold keeps back every execution of a prepared statement with the text until Release, also
// when its client has gone meanwhile: it reaches the server late. What it returns is closed
// when one is held.
func (p *Proxy) Hold(text string) <-chan struct{} {
	h := &hold{text: text, held: make(chan struct{}), released: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hold = h
	return h.held
}

// Release ends Hold.
func (p *Proxy) Release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hold != nil {
		close(p.hold.released)
		p.hold = nil
	}
}

// holds returns what is to be waited for before a message is passed on; nil for nothing.
// prepared are the statements of the connection by name, which it keeps.
func (p *Proxy) holds(kind byte, body []byte, prepared map[string]string) *hold {
	first, rest, _ := strings.Cut(string(body), "\x00")
	second, _, _ := strings.Cut(rest, "\x00")
	switch kind {
	case 'P': // Parse: the name of the statement, its text
		prepared[first] = second
	case 'B': // Bind: the name of the portal, that of the statement
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.hold != nil && strings.Contains(prepared[second], p.hold.text) {
			return p.hold
		}
	}
	return nil
}

// late passes a message, and those up to the end of its statement, on when it is released.
func (h *hold) late(client io.Reader, server io.Writer, kind, body []byte) error {
	var all bytes.Buffer
	err := write(&all, kind, body)
	for err == nil && kind[0] != 'S' { // Sync
		if kind, body, err = read(client); err == nil {
			err = write(&all, kind, body)
		}
	}
	if err != nil {
		return err
	}
	h.once.Do(func() { close(h.held) })
	<-h.released
	_, err = server.Write(all.Bytes())
	return err
}

func (p *Proxy) serve(client net.Conn) {
	defer p.keep(client)()
	server, err := net.Dial(p.network, p.server)
	if err != nil {
		return // so does the client see that there is no server
	}
	defer p.keep(server)()
	l := &link{client: client, server: server}
	defer p.join(l)()
	silenced := make(chan struct{}) // what the server says from now on is not for the client
	ready := make(chan struct{}, 1) // the server has said that it awaits the next query
	var answers sync.WaitGroup
	answers.Go(func() {
		_ = p.answer(l, silenced, ready) // it ends with its connections
		_ = client.Close()
	})
	_ = p.ask(l, silenced, ready)
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

// join remembers a link, which is half-open if all are, and returns what forgets it.
func (p *Proxy) join(l *link) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[l] = struct{}{}
	l.lost.Store(p.swallow)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.links, l)
	}
}

// ask passes messages of the client on, until one at which it is to cut.
func (p *Proxy) ask(l *link, silenced chan<- struct{}, ready <-chan struct{}) error {
	client, server := l.client, io.Writer(&lossy{l.server, &l.lost})
	first, err := readBody(client) // it has no kind
	if err != nil {
		return err
	}
	if err := write(server, nil, first); err != nil {
		return err
	}
	committing := false // a COMMIT was sent that goes with the next sync
	prepared := make(map[string]string)
	for {
		kind, body, err := read(client)
		if err != nil {
			return err
		}
		if h := p.holds(kind[0], body, prepared); h != nil {
			if err := h.late(client, server, kind, body); err != nil {
				return err
			}
			continue
		}
		committing = committing || kind[0] == parse && commits(kind[0], body)
		where, cut := p.cutAt(kind[0], body, committing)
		committing = committing && kind[0] != syncing
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

// Kinds of messages of a client. Statements without arguments are simple queries, those
// with arguments, and those that are sent several at a time, end with a sync.
const (
	query   = 'Q'
	parse   = 'P'
	syncing = 'S'
)

// commits reports whether a message holds a COMMIT.
func commits(kind byte, body []byte) bool {
	text := string(body)
	switch kind {
	case query:
	case parse: // the name of the statement comes first
		_, text, _ = strings.Cut(text, "\x00")
	default:
		return false
	}
	text, _, _ = strings.Cut(text, "\x00")
	words := strings.Fields(strings.TrimRight(text, "; "))
	return len(words) > 0 && strings.EqualFold(words[0], "commit")
}

// cutAt reports whether the connection is to be cut at a message, and where. committing
// says that the next sync has a COMMIT executed.
func (p *Proxy) cutAt(kind byte, body []byte, committing bool) (Cut, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.cuts) == 0 {
		return 0, false
	}
	next := p.cuts[0]
	var here bool
	switch next.where {
	case AfterStatement:
		here = kind == syncing && !committing
	case BeforeCommit:
		here = commits(kind, body)
	case AfterCommit, DuringCommit:
		here = kind == query && commits(kind, body) || kind == syncing && committing
	}
	if !here {
		return 0, false
	}
	close(next.done)
	p.cuts = p.cuts[1:]
	return next.where, true
}

// lossy is a side of a link to which what is said does not arrive when the link is lost.
type lossy struct {
	to   io.Writer
	lost *atomic.Bool
}

func (l *lossy) Write(b []byte) (int, error) {
	if l.lost.Load() {
		return len(b), nil
	}
	return l.to.Write(b)
}

// answer passes messages of the server on, and tells when it is ready.
func (p *Proxy) answer(l *link, silenced <-chan struct{}, ready chan<- struct{}) error {
	server, client := l.server, io.Writer(&lossy{l.client, &l.lost})
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
