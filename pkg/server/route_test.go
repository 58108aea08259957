package server_test

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// fakeRoutes lead to the unit fake.
func fakeRoutes() *server.Routes {
	return &server.Routes{Services: map[string]string{
		"bindery.access.v1.AccessBindingService":           "fake",
		"bindery.resourcemanager.v1.PlaceService":          "fake", // for units alone
		"yandex.cloud.iam.v1.IamTokenService":              "fake",
		"yandex.cloud.iam.v1.UserAccountService":           "fake",
		"yandex.cloud.priv.accessservice.v2.AccessService": "fake",
	}}
}

// edge is a unit that owns nothing and passes on what fake owns.
func edge(routes *server.Routes) server.Unit {
	u := unitOf("edge", server.Parts{Register: nothing, Decider: decider{}, Routes: routes})
	u.Needs = []string{"fake"}
	return u
}

// atEdge starts both processes and returns a client of the one at the edge.
func atEdge(t *testing.T) (*two, *world, *server.Process) {
	t.Helper()
	w := newTwo(t)
	owner := w.owner()
	p := w.other(edge(fakeRoutes()), nil)
	eventually(t, "ready", func() bool { return p.Ready(t.Context()) == nil })
	return w, owner, p
}

// What the owner answers goes out as it came: message, headers, status with its
// details, trailer, and no headers with a refusal (clients.md 24).
func TestRoutedAnswers(t *testing.T) {
	w, owner, p := atEdge(t)
	ctx, conn := w.user(p)
	direct := owner.Dial(grpc.WithTransportCredentials(insecure.NewCredentials()))
	for id, code := range map[string]codes.Code{
		"u1": codes.OK, "missing": codes.NotFound, "broken": codes.Internal, "panic": codes.Internal, "unavailable": codes.Unavailable,
		strings.Repeat("x", 51): codes.InvalidArgument,
	} {
		t.Run(code.String()+" "+id[:2], func(t *testing.T) {
			type answer struct {
				Message         string
				Status          string
				Header, Trailer []string
			}
			ask := func(conn *grpc.ClientConn) (a answer) {
				var header, trailer metadata.MD
				resp, err := iamv1.NewUserAccountServiceClient(conn).Get(with(ctx, "x-request-id", "r1"), &iamv1.GetUserAccountRequest{UserAccountId: id},
					grpc.Header(&header), grpc.Trailer(&trailer))
				if status.Code(err) != code {
					t.Errorf("%v, want %v", err, code)
				}
				a.Message, a.Status = resp.GetId(), status.Convert(err).Proto().String()
				a.Header, a.Trailer = slices.Sorted(maps.Keys(header)), slices.Sorted(maps.Keys(trailer))
				return a
			}
			if diff := cmp.Diff(ask(direct), ask(conn)); diff != "" {
				t.Errorf("another answer than the owner's (-owner +edge):\n%s", diff)
			}
		})
	}
	if n := owner.attempts.Load(); n != 2 {
		t.Errorf("the owner was asked %d times for two calls: whether to retry is the client's to say", n)
	}
}

// Only a list of headers is passed on, and the credential of a unit is not on it.
func TestRoutedHeaders(t *testing.T) {
	w, owner, p := atEdge(t)
	ctx, conn := w.user(p)
	sent := with(ctx, "idempotency-key", "k", "x-request-id", "r1", "x-client-request-id", "r2", "x-client-trace-id", "t", "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "x-retry-attempt", "1",
		"bindery-unit", "u1.caller.fake.1.AA", "x-forwarded-for", "h", "x-subject", "root", "grpc-metadata-authorization", "Bearer x", "bindery-unit-bin", "x")
	if _, err := iamv1.NewUserAccountServiceClient(conn).Get(sent, &iamv1.GetUserAccountRequest{UserAccountId: "u"}); err != nil {
		t.Fatal(err)
	}
	got := owner.seen.Load()
	if got.principal.Unit != "" || got.principal.ID != "good" {
		t.Errorf("the owner saw %+v, want the caller and no unit", got.principal)
	}
	want := map[string][]string{
		"idempotency-key": {"k"}, "x-request-id": {"r1"}, "x-client-request-id": {"r2"}, "x-client-trace-id": {"t"}, "traceparent": {"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}, "x-retry-attempt": {"1"},
	}
	seen := map[string][]string{}
	for key, values := range got.md {
		if key != "authorization" && key != ":authority" && key != "content-type" && key != "user-agent" && key != "grpc-accept-encoding" {
			seen[key] = values
		}
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("the owner was sent (-want +got):\n%s", diff)
	}

	// Two tokens stay two: the owner refuses them.
	_, err := iamv1.NewUserAccountServiceClient(conn).Get(with(ctx, "authorization", "Bearer other"), &iamv1.GetUserAccountRequest{UserAccountId: "u"})
	wantCode(t, err, codes.Unauthenticated, apierr.ReasonTokenInvalid)
}

func TestRoutedCallsNameTheirRequest(t *testing.T) {
	w, owner, p := atEdge(t)
	ctx, conn := w.user(p)
	var header metadata.MD
	if _, err := iamv1.NewUserAccountServiceClient(conn).Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: "u"}, grpc.Header(&header)); err != nil {
		t.Fatal(err)
	}
	if id := owner.seen.Load().request.ID; id == "" || !slices.Equal(header.Get("x-request-id"), []string{id}) {
		t.Errorf("the owner knows the call as %q and the client as %v", id, header.Get("x-request-id"))
	}
	if id := owner.seen.Load().request.TraceID; id == "" || !slices.Equal(header.Get("x-server-trace-id"), []string{id}) {
		t.Errorf("the owner knows the trace as %q and the client as %v", id, header.Get("x-server-trace-id"))
	}
}

// Methods for units alone, and those that nobody has, do not exist at the edge.
func TestNotRouted(t *testing.T) {
	w, owner, p := atEdge(t)
	ctx, conn := w.user(p)
	for _, name := range []string{
		brmv1.PlaceService_GetPlace_FullMethodName,
		identityv1.OperatorService_RotateSigningKey_FullMethodName,
		"/yandex.cloud.iam.v1.UserAccountService/Nothing",
		"/no.such.Service/Get",
	} {
		err := conn.Invoke(ctx, name, &iamv1.GetUserAccountRequest{}, &iamv1.UserAccount{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v, want UNIMPLEMENTED", name, err)
		}
	}
	if s := owner.seen.Load(); s != nil {
		t.Errorf("the owner has seen %+v", s.principal)
	}
}

func TestRoutedOwnerAway(t *testing.T) {
	w, owner, p := atEdge(t)
	ctx, conn := w.user(p)
	get := func(id string, opts ...grpc.CallOption) error {
		_, err := iamv1.NewUserAccountServiceClient(conn).Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: id}, opts...)
		return err
	}
	health := func() healthv1.HealthCheckResponse_ServingStatus {
		resp, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{Service: "yandex.cloud.iam.v1.UserAccountService"})
		if err != nil {
			t.Error(err)
		}
		return resp.GetStatus()
	}
	eventually(t, "healthy", func() bool { return health() == healthv1.HealthCheckResponse_SERVING })
	owner.Stop()
	begun := time.Now()
	var header, trailer metadata.MD
	err := get("u", grpc.Header(&header), grpc.Trailer(&trailer))
	wantCode(t, err, codes.Unavailable, apierr.ReasonUnavailable)
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("refused after %v", took)
	}
	if len(header) > 0 || len(trailer.Get("x-request-id")) != 1 || strings.Contains(status.Convert(err).Message(), w.address) {
		t.Errorf("header %v, trailer %v, %v: want ids in the trailer alone, and nothing of the inside", header, trailer, err)
	}
	eventually(t, "unhealthy", func() bool { return health() == healthv1.HealthCheckResponse_NOT_SERVING })
	w.owner()
	eventually(t, "found again", func() bool { return get("u") == nil })
	eventually(t, "healthy again", func() bool { return health() == healthv1.HealthCheckResponse_SERVING })
}

// A caller that gives up ends its call at the owner too.
func TestRoutedCallIsCancelled(t *testing.T) {
	w, owner, p := atEdge(t)
	ctx, conn := w.user(p)
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{}, iamv1.UserAccountService_Get_FullMethodName)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(stream.SendMsg(&iamv1.GetUserAccountRequest{UserAccountId: "hung"}), stream.CloseSend()); err != nil {
		t.Fatal(err)
	}
	<-owner.entered
	_ = conn.Close()
	owner.Stop() // would wait for the call
	if err := stream.RecvMsg(new(iamv1.UserAccount)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the call ended with %v", err)
	}
}

func TestEdgeListsWhatItPassesOn(t *testing.T) {
	w, _, p := atEdge(t)
	ctx, conn := w.user(p)
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if !slices.Contains(names, "yandex.cloud.iam.v1.UserAccountService") || !slices.Contains(names, "grpc.health.v1.Health") {
		t.Errorf("lists %v", names)
	}
}

// Beside a unit, routes that do not lead to all that it serves stop the boot.
func TestRoutesAreWhole(t *testing.T) {
	db := sqldbtest.Open(t, sqldb.SQLite, "fake", []sqldb.Migrations{operation.Migrations("fake")})
	withOperations := unitOf("fake", server.Parts{Register: nothing, Decider: decider{}, Operations: operation.NewStore(db, "fake", "abc", time.Now)})
	less := fakeRoutes()
	delete(less.Services, "yandex.cloud.iam.v1.UserAccountService")
	delete(less.Services, "bindery.resourcemanager.v1.PlaceService") // which nobody's call may reach
	elsewhere := fakeRoutes()
	elsewhere.Services["yandex.cloud.iam.v1.UserAccountService"] = "other"
	unknown := fakeRoutes()
	unknown.Services["no.such.Service"] = "other"
	for _, tt := range []struct {
		name   string
		fake   server.Unit
		routes *server.Routes
		want   string // "" means that it starts
	}{
		{"whole", newFake().unit(), fakeRoutes(), ""},
		{"one missing", newFake().unit(), less, "unit edge: no route to service yandex.cloud.iam.v1.UserAccountService of unit fake"},
		{"one elsewhere", newFake().unit(), elsewhere, "unit edge: no route to service yandex.cloud.iam.v1.UserAccountService of unit fake"},
		{"of no service", newFake().unit(), unknown, "service no.such.Service"},
		{"operations", withOperations, fakeRoutes(), "unit edge: no route to operations abc of unit fake"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := server.New(t.Context(), options(t, nil, tt.fake, edge(tt.routes)))
			if err == nil {
				_ = p.Close()
			}
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
		})
	}
}

// As at any port, a body that does not come takes nobody's room.
func TestHalfSentBodiesAtTheEdge(t *testing.T) {
	w := newTwo(t)
	w.owner()
	p := w.other(edge(fakeRoutes()), func(o *server.Options) { o.MaxCalls = 4 })
	eventually(t, "ready", func() bool { return p.Ready(t.Context()) == nil })
	raw := (&world{World: &servertest.World{Process: p}}).raw(t)
	for i := range uint32(100) {
		raw.halfSent(t, 2*i+1)
	}
	ctx, conn := w.user(p)
	get := func() error {
		_, err := iamv1.NewUserAccountServiceClient(conn).Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: "u"})
		return err
	}
	raw.seen(t, get)
	for range 20 {
		if err := get(); err != nil {
			t.Fatalf("a call between them: %v", err)
		}
	}
}

// What is passed on takes room as any call does, and is shed at the edge.
func TestOverloadAtTheEdge(t *testing.T) {
	w := newTwo(t)
	owner := w.owner()
	p := w.other(edge(fakeRoutes()), func(o *server.Options) { o.MaxCalls = 1 })
	eventually(t, "ready", func() bool { return p.Ready(t.Context()) == nil })
	ctx, conn := w.user(p)
	get := func(id string) error {
		_, err := iamv1.NewUserAccountServiceClient(conn).Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: id})
		return err
	}
	slow := make(chan error, 1)
	go func() { slow <- get("slow") }()
	<-owner.entered
	wantCode(t, get("u"), codes.Unavailable, apierr.ReasonOverloaded)
	close(owner.release)
	if err := <-slow; err != nil {
		t.Errorf("the call that was let in: %v", err)
	}
	if err := get("u"); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// A unit's call belongs to one that was let in elsewhere, and is let in; who only
// says that it is a unit is not.
func TestOverloadSparesUnits(t *testing.T) {
	w := start(t, func(o *server.Options) { o.MaxCalls = 1 })
	slow := w.call(t, "slow")
	<-w.entered
	list := func(conn *grpc.ClientConn) error {
		_, err := brmv1.NewPlaceServiceClient(conn).GetPlace(t.Context(), &brmv1.GetPlaceRequest{FolderId: "any"})
		return err
	}
	if err := list(w.Unit("test", "fake")); err != nil {
		t.Errorf("a unit: %v", err)
	}
	wantCode(t, list(w.Unit("test", "identity")), codes.Unavailable, apierr.ReasonOverloaded)
	close(w.release)
	if err := <-slow; err != nil {
		t.Errorf("the call that was let in: %v", err)
	}
}
