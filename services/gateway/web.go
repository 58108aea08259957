package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/server"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// webPaths are what identity answers by WebService: pages of sign-in and what OAuth
// and SAML say to be at a URL. As a pattern of http.ServeMux each.
var webPaths = []string{"/login", "/login/", "/logout", "/device"}

// webHeaders are the only request headers that identity sees.
var webHeaders = []string{
	"Accept", "Accept-Language", "Authorization", "Content-Type", "Cookie", "Origin", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site", "User-Agent",
}

// Limits of such a request: as ServeRequest, so that the refusal is HTTP's own.
const (
	maxWebBody    = 1 << 20
	maxWebTarget  = 16 << 10
	maxWebHeaders = 100
	webTimeout    = 30 * time.Second // the provider of somebody who signs in is asked meanwhile
)

// webDoor sends requests to identity as they came, and answers with what it says. The
// gateway vouches for the address of the sender, which is why only it may call.
type webDoor struct{ identity identityv1.WebServiceClient }

// ServeHTTP answers one request.
func (d webDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := uuid.NewString()
	w.Header().Set("X-Request-Id", id)
	req, status := webRequest(w, r)
	if status != 0 {
		http.Error(w, http.StatusText(status), status)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), webTimeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", id)
	resp, err := d.identity.Serve(server.AsUnit(ctx), req)
	if err != nil {
		refuseWeb(w, err)
		return
	}
	for _, h := range resp.GetHeaders() {
		w.Header().Add(h.GetName(), string(h.GetValue()))
	}
	w.WriteHeader(int(resp.GetStatus()))
	_, _ = w.Write(resp.GetBody()) // the caller is gone if it fails
}

// webRequest is the message of a request, or the status by which it is refused.
func webRequest(w http.ResponseWriter, r *http.Request) (*identityv1.ServeRequest, int) {
	target := r.URL.EscapedPath()
	if r.URL.RawQuery != "" {
		target += "?" + r.URL.RawQuery
	}
	req := &identityv1.ServeRequest{Method: r.Method, Target: []byte(target), RemoteAddress: r.RemoteAddr}
	for _, name := range webHeaders {
		for _, v := range r.Header.Values(name) {
			req.Headers = append(req.Headers, &identityv1.Header{Name: name, Value: []byte(v)})
		}
	}
	switch {
	case len(target) > maxWebTarget:
		return nil, http.StatusRequestURITooLong
	case len(req.GetHeaders()) > maxWebHeaders:
		return nil, http.StatusRequestHeaderFieldsTooLarge
	case len(r.Method) > 16:
		return nil, http.StatusMethodNotAllowed
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxWebBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, http.StatusRequestEntityTooLarge
	case err != nil:
		return nil, http.StatusBadRequest
	}
	req.Body = body
	return req, 0
}

// refuseWeb answers where identity did not.
func refuseWeb(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch apierr.CodeOf(err) {
	case codes.InvalidArgument:
		status = http.StatusBadRequest
	case codes.Unavailable, codes.DeadlineExceeded, codes.ResourceExhausted:
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", "1")
	default:
	}
	w.Header().Set("Cache-Control", "no-store")
	http.Error(w, http.StatusText(status), status)
}
