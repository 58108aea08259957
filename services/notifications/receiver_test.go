package notifications

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// receiver is a program that is called by webhooks over HTTPS, and can be told what
// to answer.
type receiver struct {
	*httptest.Server
	port uint16

	mu     sync.Mutex
	calls  []call
	status int
	before func() // runs when a call is there, before it is answered
}

// call is one request that came.
type call struct {
	id, timestamp, signature string
	body                     []byte
	payload                  payload
}

// startReceiver serves HTTPS on 127.0.0.1 until the test ends.
func startReceiver(t *testing.T, cert tls.Certificate) *receiver {
	t.Helper()
	r := &receiver{status: http.StatusNoContent}
	r.Server = httptest.NewUnstartedServer(r)
	r.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	r.StartTLS()
	t.Cleanup(r.Close)
	r.port = uint16(r.Listener.Addr().(*net.TCPAddr).Port)
	return r
}

// ServeHTTP takes a call.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	c := call{id: req.Header.Get("webhook-id"), timestamp: req.Header.Get("webhook-timestamp"), signature: req.Header.Get("webhook-signature"), body: body}
	if err != nil || json.Unmarshal(body, &c.payload) != nil || req.Method != http.MethodPost || req.Header.Get("Content-Type") != "application/json" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.calls = append(r.calls, c)
	status, before := r.status, r.before
	r.mu.Unlock()
	if before != nil {
		before()
	}
	if status/100 == 3 {
		w.Header().Set("Location", r.URL+"/elsewhere")
	}
	w.WriteHeader(status)
}

func (r *receiver) set(change func(*receiver)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *receiver) got() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]call(nil), r.calls...)
}

// signed reports whether a call was signed by a secret, as the specification of
// Standard Webhooks says it is verified.
func (c call) signed(secret string) bool {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", c.id, c.timestamp, c.body) // a hash never fails
	return c.signature == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
