package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zapcore"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

const idHeader, traceHeader = "x-request-id", "x-server-trace-id"

func TestIdsOfASuccessAreInHeaders(t *testing.T) {
	w := start(t, nil)
	long := strings.Repeat("a", 65)
	for _, tt := range []struct {
		name string
		send []string
		want string // "" means a new one
	}{
		{"none", nil, ""},
		{"second generation", []string{"x-request-id", "r-1"}, "r-1"},
		{"first generation", []string{"x-client-request-id", "r-2"}, "r-2"},
		{"both", []string{"x-client-request-id", "r-2", "x-request-id", "r-1"}, "r-1"},
		{"longest", []string{"x-request-id", long[1:]}, long[1:]},
		{"too long", []string{"x-request-id", long}, ""},
		{"with a space", []string{"x-request-id", "a b"}, ""},
		{"twice", []string{"x-request-id", "a", "x-request-id", "b"}, ""},
		{"bad and good", []string{"x-request-id", "a b", "x-client-request-id", "r-3"}, "r-3"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var header, trailer metadata.MD
			if err := w.get(with(w.User("good"), tt.send...), "u", grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
				t.Fatal(err)
			}
			id, trace := header.Get(idHeader), header.Get(traceHeader)
			if len(id) != 1 || len(trace) != 1 || len(trace[0]) != 32 {
				t.Fatalf("headers %v", header)
			}
			if tt.want != "" && id[0] != tt.want || tt.want == "" && len(id[0]) != 36 {
				t.Errorf("request id %q, want %q", id[0], tt.want)
			}
			if len(trailer.Get(idHeader)) != 0 {
				t.Errorf("trailer %v", trailer)
			}
			if got := w.seen.Load().request.ID; got != id[0] {
				t.Errorf("the handler saw %q", got)
			}
		})
	}
	var header metadata.MD
	parent := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	if err := w.get(with(w.User("good"), "traceparent", parent), "u", grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if got := header.Get(traceHeader); len(got) != 1 || got[0] != parent[3:35] {
		t.Errorf("trace id %v of %s", got, parent)
	}
}

func TestIdsOfAFailureAreInTheTrailer(t *testing.T) {
	w := start(t, nil)
	for id, code := range map[string]codes.Code{
		"missing": codes.NotFound, "unavailable": codes.Unavailable, "broken": codes.Internal, "panic": codes.Internal, "": codes.InvalidArgument,
	} {
		t.Run(code.String()+" "+id, func(t *testing.T) {
			var header, trailer metadata.MD
			err := w.get(with(w.User("good"), "x-request-id", "r-1"), id, grpc.Header(&header), grpc.Trailer(&trailer))
			if status.Code(err) != code {
				t.Fatalf("%v, want %v", err, code)
			}
			if len(header) != 0 {
				t.Errorf("headers %v commit the response", header)
			}
			if got := trailer.Get(idHeader); len(got) != 1 || got[0] != "r-1" || len(trailer.Get(traceHeader)) != 1 {
				t.Errorf("trailer %v", trailer)
			}
			if strings.Contains(fmt.Sprint(status.Convert(err).Proto()), password) {
				t.Errorf("internal text leaves: %v", err)
			}
			var info *errdetails.RequestInfo
			for _, d := range status.Convert(err).Details() {
				if r, ok := d.(*errdetails.RequestInfo); ok {
					info = r
				}
			}
			if info.GetRequestId() != "r-1" {
				t.Errorf("RequestInfo %v", info)
			}
		})
	}
}

// A response with headers would be committed, and not tried again (clients.md 24).
func TestUnavailableIsRetriedByClients(t *testing.T) {
	w := start(t, nil)
	conn := w.Dial(grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}],
		"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.01s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`))
	_, err := iamv1.NewUserAccountServiceClient(conn).Get(w.User("good"), &iamv1.GetUserAccountRequest{UserAccountId: "unavailable"})
	wantCode(t, err, codes.Unavailable, apierr.ReasonUnavailable)
	if got := w.attempts.Load(); got != 3 {
		t.Errorf("%d attempts, want 3", got)
	}
}

func TestPanicIsInternalAndLogged(t *testing.T) {
	w := start(t, nil)
	wantCode(t, w.get(w.User("good"), "panic"), codes.Internal, apierr.ReasonInternal)
	lines := w.lines(t, "panic", "UserAccountService/Get")
	if len(lines) != 1 || lines[0].Level != zapcore.ErrorLevel {
		t.Fatalf("%d lines", len(lines))
	}
	if stack, _ := lines[0].ContextMap()["stack"].(string); !strings.Contains(stack, "world_test.go") {
		t.Errorf("the stack does not show the handler: %.200s", stack)
	}
	if err := w.get(w.User("good"), "u"); err != nil {
		t.Errorf("the call after it: %v", err)
	}
}

func TestCredentials(t *testing.T) {
	w := start(t, nil)
	ctx := t.Context()
	token, err := w.Issuer.Issue(authn.UserAccount, "good", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		send   []string
		code   codes.Code
		reason string
	}{
		{"bearer", []string{"authorization", "Bearer " + token.Text}, codes.OK, ""},
		{"lower case", []string{"authorization", "bearer " + token.Text}, codes.OK, ""},
		{"none", nil, codes.Unauthenticated, apierr.ReasonTokenMissing},
		{"twice the same", []string{"authorization", "Bearer " + token.Text, "authorization", "Bearer " + token.Text}, codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"two", []string{"authorization", "Bearer x", "authorization", "Bearer " + token.Text}, codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"joined", []string{"authorization", "Bearer x, Bearer " + token.Text}, codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"no scheme", []string{"authorization", token.Text}, codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"basic", []string{"authorization", "Basic " + token.Text}, codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"scheme alone", []string{"authorization", "Bearer "}, codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"two spaces", []string{"authorization", "Bearer  " + token.Text}, codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"changed", []string{"authorization", "Bearer " + token.Text[:len(token.Text)-6] + "AAAAAA"}, codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"other names", []string{"x-user-id", "good", "x-forwarded-user", "good", "grpcgateway-authorization", "Bearer " + token.Text,
			"x-authorization", "Bearer " + token.Text, "cookie", "iam=" + token.Text, "x-bindery-unit", "identity"}, codes.Unauthenticated, apierr.ReasonTokenMissing},
		{"made-up unit", []string{"authorization", "Bearer " + token.Text, authn.UnitHeader, "u1.identity.fake.9999999999.AAAA"}, codes.Unauthenticated, apierr.ReasonUnitInvalid},
		{"made-up operator", []string{authn.UnitHeader, authn.Operator}, codes.Unauthenticated, apierr.ReasonUnitInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			wantCode(t, w.get(with(ctx, tt.send...), "u"), tt.code, tt.reason)
		})
	}
	wantCode(t, w.get(w.User("suspended"), "u"), codes.Unauthenticated, apierr.ReasonSubjectInactive)

	// A public method does not look at the token, so a client with an old one can
	// still sign in.
	_, err = iamv1.NewIamTokenServiceClient(w.Conn).Create(with(ctx, "authorization", "Bearer t1.old.old"),
		&iamv1.CreateIamTokenRequest{Identity: &iamv1.CreateIamTokenRequest_Jwt{Jwt: "x"}})
	wantCode(t, err, codes.OK, "")
	if got := w.seen.Load().principal; got != (authn.Principal{}) {
		t.Errorf("somebody: %v", got)
	}
}

func TestInternalMethods(t *testing.T) {
	w := start(t, nil)
	list := func(conn grpc.ClientConnInterface) error {
		_, err := brmv1.NewPlaceServiceClient(conn).GetPlace(t.Context(), &brmv1.GetPlaceRequest{FolderId: "any"})
		return err
	}
	wantCode(t, list(w.Unit("gateway", "fake")), codes.OK, "")
	if got := w.seen.Load().principal.Unit; got != "gateway" {
		t.Errorf("unit %q", got)
	}
	wantCode(t, list(w.Unit("gateway", "identity")), codes.Unauthenticated, apierr.ReasonUnitInvalid)
	wantCode(t, list(w.Unit("stranger", "fake")), codes.Unauthenticated, apierr.ReasonUnitInvalid)
	wantCode(t, list(w.Conn), codes.Unauthenticated, apierr.ReasonTokenMissing)
	_, err := brmv1.NewPlaceServiceClient(w.Conn).GetPlace(w.User("good"), &brmv1.GetPlaceRequest{FolderId: "any"})
	wantCode(t, err, codes.PermissionDenied, apierr.ReasonUnitNotAdmitted)
}

func TestPeerCallsCarryUnitTokenAndRequestID(t *testing.T) {
	w := start(t, nil)
	if err := w.get(with(w.User("good"), "x-request-id", "r-7", "x-other", "no"), "peer"); err != nil {
		t.Fatal(err)
	}
	got := w.seen.Load()
	if p := got.principal; p.Unit != "fake" || p.ID != "good" || p.Token == "" || got.request.ID != "r-7" {
		t.Errorf("the peer saw %v, request %q", p, got.request.ID)
	}
	if err := w.get(w.User("good"), "peer as unit"); err != nil {
		t.Fatal(err)
	}
	if p := w.seen.Load().principal; p.Unit != "fake" || p.ID != "" || p.Token != "" {
		t.Errorf("as a unit the peer saw %v", p)
	}
	wantCode(t, w.get(w.User("good"), "peer nowhere"), codes.Internal, apierr.ReasonInternal)
}

// Authorization comes before validation, but for the fields that its rule names.
func TestOrderOfTheChain(t *testing.T) {
	w := start(t, nil)
	list := func(who, typ, id string, size int64) error {
		_, err := accessv1.NewAccessBindingServiceClient(w.Conn).ListAccessBindings(w.User(who),
			&accessv1.ListAccessBindingsRequest{Resource: &accessv1.Resource{Type: typ, Id: id}, PageSize: size})
		return err
	}
	w.seen.Store(nil)
	wantCode(t, list("bad", "t", "r", -1), codes.PermissionDenied, apierr.ReasonPermissionDenied)
	wantCode(t, list("good", "t", "r", -1), codes.InvalidArgument, apierr.ReasonInvalid)
	wantCode(t, list("bad", "t", "", 0), codes.InvalidArgument, apierr.ReasonInvalid)
	wantCode(t, list("good", "no.such", "r", 0), codes.InvalidArgument, apierr.ReasonInvalid)
	if w.seen.Load() != nil {
		t.Error("a handler ran")
	}
	wantCode(t, list("good", "t", "r", 10), codes.OK, "")
}

func TestBoundsOfRequests(t *testing.T) {
	w := start(t, nil)
	big := &accessv1.SetAccessBindingsRequest{Resource: &accessv1.Resource{Type: "t", Id: strings.Repeat("x", 5<<20)}}
	_, err := accessv1.NewAccessBindingServiceClient(w.Conn).SetAccessBindings(w.User("good"), big)
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("5 MB: %v", err)
	}
	if err := w.get(with(w.User("good"), "x-big", strings.Repeat("x", 32<<10)), "u"); err == nil {
		t.Error("32 KB of metadata are taken")
	}
	if err := w.get(w.User("good"), "u"); err != nil {
		t.Errorf("the call after it: %v", err)
	}
}

func TestLogOfCalls(t *testing.T) {
	w := start(t, nil)
	if err := w.get(with(w.User("good"), "x-request-id", "r-1"), "u"); err != nil {
		t.Fatal(err)
	}
	lines := w.lines(t, "rpc", "UserAccountService/Get")
	if len(lines) != 1 {
		t.Fatalf("%d lines for one call", len(lines))
	}
	got := lines[0].ContextMap()
	for key, want := range map[string]any{"code": "OK", "request_id": "r-1", "subject": "userAccount:good", "method": "/yandex.cloud.iam.v1.UserAccountService/Get"} {
		if got[key] != want {
			t.Errorf("%s = %v, want %v", key, got[key], want)
		}
	}
	if err := w.get(w.User("good"), "broken"); err == nil {
		t.Fatal("no error")
	}
	lines = w.lines(t, "rpc", "UserAccountService/Get")
	if last := lines[len(lines)-1]; last.Level != zapcore.ErrorLevel || !strings.Contains(fmt.Sprint(last.ContextMap()["error"]), password) {
		t.Errorf("the chain of a failure is not in the log: %v", last.ContextMap())
	}
	for _, e := range w.logs.All() {
		if text := fmt.Sprint(e.Message, e.ContextMap()); strings.Contains(text, "t1.") {
			t.Errorf("a token in the log: %s", text)
		}
	}
}

func TestQuietMethods(t *testing.T) {
	w := start(t, nil)
	check := func(permission string, opts ...grpc.CallOption) error {
		_, err := accessservicev2.NewAccessServiceClient(w.Conn).Authorize(t.Context(), &accessservicev2.AuthorizeRequest{
			Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: "t1.x.y"}, Permission: permission,
			ResourcePath: []*accessservicev2.Resource{{Type: "t", Id: "i"}},
		}, opts...)
		return err
	}
	var header, trailer metadata.MD
	if err := check("p", grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if len(header.Get(idHeader)) != 0 {
		t.Errorf("headers %v", header)
	}
	wantCode(t, check("denied", grpc.Trailer(&trailer)), codes.PermissionDenied, apierr.ReasonPermissionDenied)
	if len(trailer.Get(idHeader)) != 1 {
		t.Errorf("trailer of a denial %v", trailer)
	}
	for _, e := range w.lines(t, "rpc", "AccessService/Authorize") {
		if e.Level > zapcore.DebugLevel {
			t.Errorf("a line for a check: %v", e.ContextMap())
		}
	}
}
