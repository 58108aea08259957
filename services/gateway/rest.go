package gateway

import (
	"context"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	endpointpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/endpoint"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	awscompatibilityv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	workloadv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload"
	workloadoidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	qmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// Limits of a REST call.
const (
	// maxBody is the largest request body, in bytes: what gRPC takes, as JSON.
	maxBody = 8 << 20
	// callTimeout bounds one call: no REST caller may hold one open for longer.
	callTimeout = 60 * time.Second
	// exportTimeout bounds an export, which ends when its caller goes away, too.
	exportTimeout = time.Hour
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
	accessv1.RegisterAccessPolicyServiceHandler,
	accessv1.RegisterPermissionServiceHandler,
	accessv1.RegisterGrantPolicyServiceHandler,
	accessv1.RegisterRoleCatalogServiceHandler,
	accessv1.RegisterRoleRequestServiceHandler,
	auditv1.RegisterAuditServiceHandler,
	awscompatibilityv1.RegisterAccessKeyServiceHandler,
	awscompatibilityv1.RegisterTemporaryAccessKeyServiceHandler,
	billingv1.RegisterBillingAccountServiceHandler,
	billingv1.RegisterBudgetServiceHandler,
	billingv1.RegisterCustomerServiceHandler,
	billingv1.RegisterServiceServiceHandler,
	billingv1.RegisterSkuServiceHandler,
	endpointpb.RegisterApiEndpointServiceHandler,
	iamv1.RegisterAccessAnalyzerServiceHandler,
	iamv1.RegisterAccessPolicyTemplateServiceHandler,
	iamv1.RegisterApiKeyServiceHandler,
	iamv1.RegisterIamTokenServiceHandler,
	iamv1.RegisterKeyServiceHandler,
	iamv1.RegisterOAuthClientSecretServiceHandler,
	iamv1.RegisterOAuthClientServiceHandler,
	iamv1.RegisterRefreshTokenServiceHandler,
	iamv1.RegisterRoleServiceHandler,
	iamv1.RegisterServiceAccountServiceHandler,
	iamv1.RegisterSubjectDetailsServiceHandler,
	iamv1.RegisterUserAccountServiceHandler,
	iamv1.RegisterYandexPassportUserAccountServiceHandler,
	identityv1.RegisterApiKeyTokenServiceHandler,
	identityv1.RegisterInvitationServiceHandler,
	identityv1.RegisterSessionServiceHandler,
	identityv1.RegisterSshAuthorityServiceHandler,
	identityv1.RegisterTokenExchangeServiceHandler,
	workloadv1.RegisterFederatedCredentialServiceHandler,
	workloadoidcv1.RegisterFederationServiceHandler,
	marketplacev1.RegisterProductAccessRequestServiceHandler,
	marketplacev1.RegisterProductInstanceServiceHandler,
	marketplacev1.RegisterProductServiceHandler,
	marketplacev1.RegisterPublisherServiceHandler,
	notificationv1.RegisterSubscriptionServiceHandler,
	operationpb.RegisterOperationServiceHandler,
	orgv1.RegisterGroupServiceHandler,
	orgv1.RegisterOrganizationServiceHandler,
	orgv1.RegisterOsLoginServiceHandler,
	orgv1.RegisterSshCertificateServiceHandler,
	orgv1.RegisterUserServiceHandler,
	orgv1.RegisterUserSshKeyServiceHandler,
	orgv1.RegisterGroupMappingServiceHandler,
	samlv1.RegisterFederationServiceHandler,
	samlv1.RegisterCertificateServiceHandler,
	partnerv1.RegisterBillingAccountServiceHandler,
	partnerv1.RegisterPartnerCardServiceHandler,
	partnerv1.RegisterPartnerServiceHandler,
	partnerv1.RegisterReferralServiceHandler,
	partnerv1.RegisterRewardServiceHandler,
	partnerv1.RegisterSubaccountServiceHandler,
	partnerv1.RegisterSubaccountAccessServiceHandler, // subaccounts/{id}:listAccessBindings is also a subaccounts/{id}
	partnerv1.RegisterUsageServiceHandler,
	partnerv1.RegisterCustomerQuotaServiceHandler,
	partnerv1.RegisterCustomerAccessServiceHandler,
	qmv1.RegisterQuotaLimitServiceHandler,
	qmv1.RegisterQuotaRequestServiceHandler,
	rmv1.RegisterCloudServiceHandler,
	rmv1.RegisterFolderServiceHandler,
	supportv1.RegisterTicketServiceHandler,
	brmv1.RegisterDeletionServiceHandler, // clouds/{id}:state is also a clouds/{id}
	brmv1.RegisterOrganizationServiceHandler,
	registerFiles,
	registerOAuth,
}

// newREST returns the handler that turns REST calls into gRPC calls over conn.
// A JSON field or query parameter that the request does not have is
// INVALID_ARGUMENT, as a wrong type is; an answer shows every field, the empty
// ones too.
func newREST(ctx context.Context, conn *grpc.ClientConn) (http.Handler, error) {
	mux := runtime.NewServeMux(
		runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{Marshaler: strictJSON{&runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: true},
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
		}}}),
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
		ctx, cancel := context.WithTimeout(r.Context(), timeoutOf(w, r))
		defer cancel()
		r = r.WithContext(ctx)
		r.Header = onlyForwarded(r.Header)
		r.Body = http.MaxBytesReader(w, r.Body, bodyOf(r))
		if !isText(r.URL) {
			_, m := runtime.MarshalerForRequest(mux, r)
			runtime.HTTPError(ctx, mux, m, w, r, apierr.InvalidField("url", "is not valid UTF-8"))
			return
		}
		mux.ServeHTTP(w, r)
	}), nil
}

// exports is how the paths of methods end that stream what there is.
const exports = ":export"

// bodyOf bounds the body of a request.
func bodyOf(r *http.Request) int64 {
	if isFile(r) {
		return maxFile
	}
	return maxBody
}

// timeoutOf bounds a call. The answer of an export may take longer to write, too, and a
// file longer to send.
func timeoutOf(w http.ResponseWriter, r *http.Request) time.Duration {
	bound := callTimeout
	switch {
	case strings.HasSuffix(r.URL.Path, exports):
		bound = exportTimeout
	case isFile(r):
		bound = fileTimeout
	default:
		return bound
	}
	// A writer without deadlines is a test's; one that is gone is found out by writing.
	to := http.NewResponseController(w)
	_ = to.SetWriteDeadline(time.Now().Add(bound))
	if isFile(r) {
		_ = to.SetReadDeadline(time.Now().Add(bound))
	}
	return bound
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
