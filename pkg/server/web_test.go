package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// Senders that stop in the middle of a request, and readers that do not read, hold
// nobody while they are there.
func TestSlowHTTPHoldsNobody(t *testing.T) {
	t.Parallel()
	w := serveWeb(t, func(w *webServer) { // it gives nobody up while this test runs
		w.server.ReadHeaderTimeout, w.server.ReadTimeout, w.server.WriteTimeout, w.server.IdleTimeout = time.Hour, time.Hour, time.Hour, time.Hour
	})
	slow := dialSlow(t, w)
	for i := range 5 {
		resp, err := http.Post(fmt.Sprintf("http://%s/%d", w.addr(), i), "text/plain", strings.NewReader("whole"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close() // read to its end
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("a good request: %d %v", resp.StatusCode, err)
		}
	}
	for _, c := range slow {
		if c.sends == readsNothing {
			continue // its answer waits to be read
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond)) // a TCP connection takes one
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("%s: given up before the good requests were answered (%v), so this shows nothing", c.what, err)
		}
	}
}

// They are not there for ever.
func TestSlowHTTPIsGivenUp(t *testing.T) {
	t.Parallel()
	const brief = 2 * time.Second
	w := serveWeb(t, func(w *webServer) {
		for what, d := range map[string]*time.Duration{
			"header": &w.server.ReadHeaderTimeout, "request": &w.server.ReadTimeout, "answer": &w.server.WriteTimeout, "idle": &w.server.IdleTimeout,
		} {
			if *d <= 0 || *d > 2*time.Minute {
				t.Errorf("the time for %s is %v", what, *d)
			}
			*d = brief
		}
		if w.server.MaxHeaderBytes != maxHeaders {
			t.Errorf("headers of %d bytes", w.server.MaxHeaderBytes)
		}
	})
	var ended sync.WaitGroup
	for _, c := range dialSlow(t, w) {
		ended.Go(func() {
			time.Sleep(2 * brief) // it reads nothing either for that long
			_ = c.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: still open", c.what)
			}
		})
	}
	ended.Wait()
}

// readsNothing is the request of a client that leaves its answer unread.
const readsNothing = "GET / HTTP/1.1\r\nHost: x\r\n\r\n"

// slowConn is the connection of a client that does not go on.
type slowConn struct {
	net.Conn
	what, sends string
}

// dialSlow connects 20 slow clients of each kind.
func dialSlow(t *testing.T, w *webServer) []slowConn {
	t.Helper()
	var all []slowConn
	for what, sends := range map[string]string{
		"half a header":    "POST / HTTP/1.1\r\nHost: x\r\nX-Half",
		"half a body":      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
		"half a chunk":     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
		"nothing at all":   "",
		"and reads little": readsNothing,
	} {
		for range 20 {
			conn, err := net.Dial("tcp", w.addr())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = conn.Close() })
			if _, err := io.WriteString(conn, sends); err != nil {
				t.Fatal(err)
			}
			all = append(all, slowConn{conn, what, sends})
		}
	}
	return all
}

// serveWeb serves a handler that reads bodies to their end and answers GET with
// more than sockets hold.
func serveWeb(t *testing.T, set func(*webServer)) *webServer {
	t.Helper()
	answer := strings.Repeat("answer", 4<<20)
	w, err := openWeb("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, answer)
		}
	}), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	set(w)
	go func() { _ = w.serve() }()
	t.Cleanup(w.close)
	return w
}
