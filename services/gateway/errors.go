package gateway

import (
	"context"
	"net/http"

	"github.com/google/uuid"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// reasonMalformed is the reason of a refusal that the gateway makes itself, before
// there is a call: a path that leads nowhere, JSON that is none.
const reasonMalformed = "MALFORMED_REQUEST"

// writeError answers with the google.rpc.Status of the error. The ids that gRPC
// callers find in the trailer of a failure go into headers; an error that no unit
// made gets a reason and an id here.
func writeError(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, err error) {
	if md, ok := runtime.ServerMetadataFromContext(ctx); ok {
		for key, header := range answerHeaders {
			if v := md.TrailerMD.Get(key); len(v) > 0 {
				w.Header().Set(header, v[0])
			}
		}
	}
	if w.Header().Get("X-Request-Id") == "" {
		id := uuid.NewString()
		w.Header().Set("X-Request-Id", id)
		err = apierr.Edge(apierr.Described(err, reasonMalformed), id).Err()
	}
	if apierr.CodeOf(err) == codes.Unavailable {
		w.Header().Set("Retry-After", "1")
	}
	runtime.DefaultHTTPErrorHandler(ctx, mux, m, challengeWriter{w}, r, err)
}

// writeRoutingError answers where no method fits the path.
func writeRoutingError(ctx context.Context, mux *runtime.ServeMux, m runtime.Marshaler, w http.ResponseWriter, r *http.Request, code int) {
	var err error
	switch code {
	case http.StatusNotFound:
		err = apierr.NotFound(reasonMalformed, "no method has this path; see /docs/")
	case http.StatusMethodNotAllowed:
		err = apierr.Unimplemented("the path has no method for the verb %.16s", r.Method)
	default:
		err = apierr.InvalidField("url", "cannot be read")
	}
	writeError(ctx, mux, m, w, r, err)
}

// challengeWriter names the scheme of authentication in a 401, where the library
// puts the text of the error (RFC 9110, section 11.6.1; RFC 6750, section 3).
type challengeWriter struct{ http.ResponseWriter }

// WriteHeader sets the challenge.
func (w challengeWriter) WriteHeader(code int) {
	if code == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	w.ResponseWriter.WriteHeader(code)
}
