package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
)

// Senders that stop in the middle of a request, and readers that do not read, are
// given up; meanwhile they hold nobody.
func TestSlowHTTPIsGivenUpAndHoldsNobody(t *testing.T) {
	t.Parallel()
	w, err := openWeb("127.0.0.1:0", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		if r.Method == http.MethodGet {
			_, _ = io.WriteString(w, strings.Repeat("answer", 4<<20)) // more than sockets hold
		}
	}), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for what, d := range map[string]time.Duration{
		"header": w.server.ReadHeaderTimeout, "request": w.server.ReadTimeout, "answer": w.server.WriteTimeout, "idle": w.server.IdleTimeout,
	} {
		if d <= 0 || d > 2*time.Minute {
			t.Errorf("the time for %s is %v", what, d)
		}
	}
	if w.server.MaxHeaderBytes != maxHeaders {
		t.Errorf("headers of %d bytes", w.server.MaxHeaderBytes)
	}
	const brief = 2 * time.Second
	w.server.ReadHeaderTimeout, w.server.ReadTimeout, w.server.WriteTimeout, w.server.IdleTimeout = brief, brief, brief, brief
	go func() { _ = w.serve() }()
	defer w.close()

	var slow sync.WaitGroup
	for name, send := range map[string]string{
		"half a header":    "POST / HTTP/1.1\r\nHost: x\r\nX-Half",
		"half a body":      "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
		"half a chunk":     "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf",
		"nothing at all":   "",
		"and reads little": "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		for range 20 {
			conn, err := net.Dial("tcp", w.addr())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, send); err != nil {
				t.Fatal(err)
			}
			slow.Go(func() {
				time.Sleep(2 * brief)
				_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second)) // a TCP connection takes one
				if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "i/o timeout") {
					t.Errorf("%s: still open", name)
				}
			})
		}
	}
	start := time.Now()
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
	if took := time.Since(start); took >= brief {
		t.Errorf("good requests took %v, as if they had waited for the others", took)
	}
	slow.Wait()
}
