package identity

import (
	"bytes"
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/log"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// web is bindery.identity.v1.WebService. What answers at a path is in Service.handlers; a
// path of a new beginning must be known to the gateway, too.
type web struct {
	identityv1.UnsafeWebServiceServer // a missing method does not compile
	*Service
}

// Serve lets the handler of the path answer. Audit records and log lines of what it does
// name whoever sent the request to the gateway.
func (s *web) Serve(ctx context.Context, req *identityv1.ServeRequest) (*identityv1.ServeResponse, error) {
	r, err := http.NewRequestWithContext(ctx, req.GetMethod(), string(req.GetTarget()), bytes.NewReader(req.GetBody()))
	if err != nil || r.URL.Host != "" || !strings.HasPrefix(r.URL.Path, "/") {
		return nil, apierr.Invalid(
			apierr.Field{Name: "method", Message: "must be a method of HTTP"},
			apierr.Field{Name: "target", Message: "must be the path and query of an HTTP request"})
	}
	for _, h := range req.GetHeaders() {
		r.Header.Add(h.GetName(), string(h.GetValue()))
	}
	asked := log.RequestFrom(ctx)
	asked.Remote, asked.UserAgent = req.GetRemoteAddress(), agentOf(r)
	r.RemoteAddr = asked.Remote
	answer := &webAnswer{header: make(http.Header)}
	s.handlers.ServeHTTP(answer, r.WithContext(log.NewContext(ctx, asked, s.log)))
	return answer.message(), nil
}

// agentOf is the User-Agent of a request as records show it: 256 bytes of printable
// ASCII at most.
func agentOf(r *http.Request) string {
	agent := strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return -1
		}
		return c
	}, r.UserAgent())
	return agent[:min(len(agent), 256)]
}

// webAnswer is the http.ResponseWriter of an answer that travels on as a message.
type webAnswer struct {
	status int
	header http.Header
	sent   http.Header // as it stood when the status was written
	body   bytes.Buffer
}

// Header is the header of the answer, until its status is written.
func (a *webAnswer) Header() http.Header { return a.header }

// WriteHeader sets the status, once.
func (a *webAnswer) WriteHeader(status int) {
	if a.status == 0 {
		a.status, a.sent = status, a.header.Clone()
	}
}

// Write adds to the body.
func (a *webAnswer) Write(b []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(b)
}

func (a *webAnswer) message() *identityv1.ServeResponse {
	a.WriteHeader(http.StatusOK)
	msg := &identityv1.ServeResponse{Status: int32(a.status), Body: a.body.Bytes()} //nolint:gosec // three digits
	for name, values := range a.sent {
		for _, v := range values {
			msg.Headers = append(msg.Headers, &identityv1.Header{Name: name, Value: []byte(v)})
		}
	}
	slices.SortStableFunc(msg.GetHeaders(), func(x, y *identityv1.Header) int { return strings.Compare(x.GetName(), y.GetName()) })
	return msg
}
