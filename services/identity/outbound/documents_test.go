package outbound

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// source serves a document that counts its reads, or fails.
type source struct {
	url   string
	reads atomic.Int64
	down  atomic.Bool
	docs  *Documents[string]
	clock *clock
}

func newSource(t *testing.T) *source {
	t.Helper()
	s := &source{clock: newClock()}
	srv, conf := issuerServer(t, func(w http.ResponseWriter, _ *http.Request) {
		n := s.reads.Add(1)
		if s.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("read " + strconv.FormatInt(n, 10)))
	})
	s.url = srv.URL
	s.docs = NewDocuments(NewClient(conf), s.clock.now, func(raw []byte) (string, error) {
		if string(raw) == "read 100" {
			return "", errors.New("not that one")
		}
		return string(raw), nil
	})
	return s
}

// want reads and compares; "" means a failure.
func (s *source) want(t *testing.T, get func(context.Context, string) (string, error), text string) {
	t.Helper()
	got, err := get(t.Context(), s.url)
	if got != text || (text == "") != (err != nil) || err != nil && !errors.Is(err, ErrUnread) {
		t.Errorf("%q, %v; want %q", got, err, text)
	}
}

func TestDocumentsAreKept(t *testing.T) {
	s := newSource(t)
	s.want(t, s.docs.Get, "read 1")
	s.clock.pass(Fresh - time.Second)
	s.want(t, s.docs.Get, "read 1")
	s.clock.pass(time.Second)
	s.want(t, s.docs.Get, "read 2")

	s.down.Store(true) // read 3 fails, and what there was goes on
	s.clock.pass(Fresh)
	s.want(t, s.docs.Get, "read 2")
	s.clock.pass(Period - time.Second) // not tried again
	s.want(t, s.docs.Get, "read 2")
	if n := s.reads.Load(); n != 3 {
		t.Errorf("%d reads, want 3", n)
	}
	s.clock.pass(Stale - Period) // a second before it is too old
	s.want(t, s.docs.Get, "read 2")
	s.clock.pass(time.Second)
	s.want(t, s.docs.Get, "")

	s.down.Store(false)
	s.want(t, s.docs.Get, "") // it was tried within the period
	s.clock.pass(Period)
	s.want(t, s.docs.Get, "read 5")
}

func TestDocumentsNewer(t *testing.T) {
	s := newSource(t)
	s.want(t, s.docs.Newer, "read 1")
	s.clock.pass(Period - time.Second)
	s.want(t, s.docs.Newer, "read 1")
	s.clock.pass(time.Second)
	s.want(t, s.docs.Newer, "read 2")
	s.down.Store(true)
	s.clock.pass(Period)
	s.want(t, s.docs.Newer, "read 2") // better than none
	s.down.Store(false)
	s.want(t, s.docs.Newer, "read 2")
	if n := s.reads.Load(); n != 3 {
		t.Errorf("%d reads, want 3", n)
	}
}

func TestDocumentsThatDoNotParse(t *testing.T) {
	s := newSource(t)
	s.reads.Store(99)
	s.want(t, s.docs.Get, "")
	s.clock.pass(Period)
	s.want(t, s.docs.Get, "read 101")
	s.reads.Store(99)
	s.clock.pass(Fresh)
	s.want(t, s.docs.Get, "read 101")
}

// Any number of callers at once are one read.
func TestDocumentsAreReadOnceAtATime(t *testing.T) {
	s := newSource(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got, err := s.docs.Get(t.Context(), s.url); got != "read 1" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := s.reads.Load(); n != 1 {
		t.Errorf("%d reads, want 1", n)
	}
}

// A caller that gives up spoils the document for nobody.
func TestDocumentsOutliveCallers(t *testing.T) {
	came, answer := make(chan struct{}), make(chan struct{})
	srv, conf := issuerServer(t, func(w http.ResponseWriter, _ *http.Request) {
		close(came)
		<-answer
		_, _ = w.Write([]byte("ok"))
	})
	docs := NewDocuments(NewClient(conf), nil, func(raw []byte) (string, error) { return string(raw), nil })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := docs.Get(ctx, srv.URL)
		ended <- err
	}()
	<-came
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
	close(answer)
	if got, err := docs.Get(t.Context(), srv.URL); got != "ok" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// What is kept is bounded, whatever is read.
func TestDocumentsMakeRoom(t *testing.T) {
	srv, conf := issuerServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, MaxBody)) })
	c := newClock()
	docs := NewDocuments(NewClient(conf), c.now, func(raw []byte) (int, error) { return len(raw), nil })
	docs.client.hosts.hosts["127.0.0.1"] = unlimited
	for i := range 2 * mostBytes / MaxBody {
		c.pass(time.Millisecond)
		if _, err := docs.Get(t.Context(), srv.URL+"/"+strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
	}
	if docs.bytes > mostBytes || len(docs.kept) < mostBytes/MaxBody-2 {
		t.Errorf("%d documents of %d bytes are kept", len(docs.kept), docs.bytes)
	}
	if docs.kept[srv.URL+"/0"] != nil {
		t.Error("the oldest is kept")
	}
}
