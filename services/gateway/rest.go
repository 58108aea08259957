package gateway

import (
	"context"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	endpointpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/endpoint"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// Limits of a REST call.
const (
	// maxBody is the largest request body, in bytes: what gRPC takes, as JSON.
	maxBody = 8 << 20
	// callTimeout bounds one call: no REST caller may hold one open for longer.
	callTimeout = 60 * time.Second
)

// forwardedHeaders are the request headers that travel on as metadata, besides
// authorization, which the library forwards by itself. No other header of a
// caller reaches a unit, so none can become an identity there.
var forwardedHeaders = map[string]string{
	"Idempotency-Key":     "idempotency-key",
	"X-Request-Id":        "x-request-id",
	"X-Client-Request-Id": "x-client-request-id",
	"X-Client-Trace-Id":   "x-client-trace-id",
	"Traceparent":         "traceparent",
}

// keptHeaders are those of HTTP itself that the translation needs.
var keptHeaders = []string{"Accept", "Authorization", "Content-Length", "Content-Type"}

// answerHeaders are the response metadata that REST callers see, unchanged.
var answerHeaders = map[string]string{
	"x-request-id":              "X-Request-Id",
	"x-server-trace-id":         "X-Server-Trace-Id",
	"x-operation-poll-interval": "X-Operation-Poll-Interval",
}

// registrations are the services with a REST door. Services between units are
// not among them. Of two paths that fit a request the one registered last wins.
var registrations = []func(context.Context, *runtime.ServeMux, *grpc.ClientConn) error{
	accessservicev2.RegisterAccessServiceHandler,
	accessv1.RegisterAccessBindingServiceHandler,
	endpointpb.RegisterApiEndpointServiceHandler,
	iamv1.RegisterIamTokenServiceHandler,
	iamv1.RegisterRoleServiceHandler,
	iamv1.RegisterUserAccountServiceHandler,
	iamv1.RegisterYandexPassportUserAccountServiceHandler,
	operationpb.RegisterOperationServiceHandler,
	orgv1.RegisterOrganizationServiceHandler,
	rmv1.RegisterCloudServiceHandler,
	rmv1.RegisterFolderServiceHandler,
	brmv1.RegisterDeletionServiceHandler, // clouds/{id}:state is also a clouds/{id}
	brmv1.RegisterOrganizationServiceHandler,
}

// newREST returns the handler that turns REST calls into gRPC calls over conn.
// A JSON field or query parameter that the request does not have is
// INVALID_ARGUMENT, as a wrong type is; an answer shows every field, the empty
// ones too.
func newREST(ctx context.Context, conn *grpc.ClientConn) (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, strictJSON{&runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: true},
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
		}}),
		runtime.WithIncomingHeaderMatcher(func(key string) (string, bool) {
			to, ok := forwardedHeaders[textproto.CanonicalMIMEHeaderKey(key)]
			return to, ok
		}),
		runtime.WithOutgoingHeaderMatcher(func(key string) (string, bool) {
			to, ok := answerHeaders[key]
			return to, ok
		}),
		runtime.WithErrorHandler(writeError),
		runtime.WithRoutingErrorHandler(writeRoutingError),
		runtime.SetQueryParameterParser(strictQuery{}),
		runtime.WithDisablePathLengthFallback(),
		runtime.WithDisableHTTPMethodOverride(),
	)
	for _, register := range registrations {
		if err := register(ctx, mux, conn); err != nil {
			return nil, err
		}
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), callTimeout)
		defer cancel()
		r = r.WithContext(ctx)
		r.Header = onlyForwarded(r.Header)
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		if !isText(r.URL) {
			_, m := runtime.MarshalerForRequest(mux, r)
			runtime.HTTPError(ctx, mux, m, w, r, apierr.InvalidField("url", "is not valid UTF-8"))
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// isText says whether what a URL escapes is UTF-8, as the fields of a message
// must be. The library finds out when it sends the call, and calls that its own
// fault. A query that cannot be read at all it refuses by itself.
func isText(u *url.URL) bool {
	valid := utf8.ValidString(u.Path)
	query, _ := url.ParseQuery(u.RawQuery)
	for key, values := range query {
		valid = valid && utf8.ValidString(key) && !slices.ContainsFunc(values, func(v string) bool { return !utf8.ValidString(v) })
	}
	return valid
}

// onlyForwarded returns the headers that may have an effect.
func onlyForwarded(in http.Header) http.Header {
	out := make(http.Header, len(forwardedHeaders)+len(keptHeaders))
	for key := range forwardedHeaders {
		if v := in.Values(key); len(v) > 0 {
			out[key] = v
		}
	}
	for _, key := range keptHeaders {
		if v := in.Values(key); len(v) > 0 {
			out[key] = v
		}
	}
	return out
}
