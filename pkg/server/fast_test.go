package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// startFast starts the fake unit with a fast path that says what it does by what the
// request holds.
func startFast(t *testing.T, level zapcore.Level) *world {
	t.Helper()
	f := newFake()
	unit := f.unit()
	build := unit.Build
	unit.Build = func(ctx context.Context, base server.Base) (*server.Parts, error) {
		parts, err := build(ctx, base)
		if err != nil {
			return nil, err
		}
		answer, err := proto.Marshal(&accessservicev2.AuthorizeResponse{ResourcePath: []*accessservicev2.Resource{{Type: "fast", Id: "fast"}}})
		parts.Fast = map[string]server.Fast{accessservicev2.AccessService_Authorize_FullMethodName: func(_ context.Context, request []byte) ([]byte, *apierr.Ready, bool) {
			switch r := string(request); {
			case strings.Contains(r, "fast"):
				return answer, nil, true
			case strings.Contains(r, "refused"):
				return nil, &apierr.Ready{Code: codes.PermissionDenied, Reason: "OF_THE_FAST_PATH", Message: "no"}, true
			case strings.Contains(r, "panics"):
				panic("of the fast path")
			default:
				return nil, nil, false
			}
		}}
		return parts, err
	}
	return &world{fake: f, World: servertest.Start(t, servertest.Options{
		Units: []server.Unit{unit}, Catalog: catalog{}, DB: sqldbtest.Open(t, sqldb.SQLite, "fake", nil),
		Log: zaptest.NewLogger(t, zaptest.Level(level)),
	})}
}

// TestFast: what the fast path takes it answers, with the ids of the request where the
// chain puts them; all else goes the long way, a defect and a new credential included.
func TestFast(t *testing.T) {
	w := startFast(t, zap.InfoLevel)
	ask := func(ctx context.Context, permission string, opts ...grpc.CallOption) (*accessservicev2.AuthorizeResponse, error) {
		return accessservicev2.NewAccessServiceClient(w.Conn).Authorize(ctx, &accessservicev2.AuthorizeRequest{
			Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: "t1.x.y"}, Permission: permission,
			ResourcePath: []*accessservicev2.Resource{{Type: "t", Id: "i"}},
		}, opts...)
	}
	wantFast := func(ctx context.Context, want bool) {
		t.Helper()
		resp, err := ask(ctx, "fast")
		if got := resp.GetResourcePath() != nil && resp.GetResourcePath()[0].GetType() == "fast"; err != nil || got != want {
			t.Errorf("answered %v, %v; want the fast path %t", resp, err, want)
		}
	}
	wantFast(t.Context(), true)
	var trailer metadata.MD
	_, err := ask(with(t.Context(), idHeader, "mine"), "refused", grpc.Trailer(&trailer))
	wantCode(t, err, codes.PermissionDenied, "OF_THE_FAST_PATH")
	if got := trailer.Get(idHeader); len(got) != 1 || got[0] != "mine" || len(trailer.Get("x-server-trace-id")) != 1 {
		t.Errorf("trailer %v", trailer)
	}
	for permission, want := range map[string]codes.Code{"p": codes.OK, "panics": codes.OK, "denied": codes.PermissionDenied} {
		if _, err := ask(t.Context(), permission); apierr.CodeOf(apierr.FromRPC(err)) != want {
			t.Errorf("%s: %v, want %v of the long way", permission, err, want)
		}
	}
	token, err := w.Issuer.Issue("userAccount", "good", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	caller := with(t.Context(), "authorization", "Bearer "+token.Text)
	wantFast(caller, false) // it proves the token
	wantFast(caller, true)
	wantFast(with(caller, "authorization", "Bearer "+token.Text), false)
	wantFast(with(t.Context(), "authorization", "Bearer t1.x.y"), false)
	wantFast(with(t.Context(), "authorization", "Basic x"), false)
}

// TestFastIsNotLogged: with a log that has every call in it, all go the long way.
func TestFastIsNotLogged(t *testing.T) {
	w := startFast(t, zap.DebugLevel)
	resp, err := accessservicev2.NewAccessServiceClient(w.Conn).Authorize(t.Context(), &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: "t1.x.y"}, Permission: "fast",
		ResourcePath: []*accessservicev2.Resource{{Type: "t", Id: "i"}},
	})
	if err != nil || resp.GetResourcePath() != nil {
		t.Errorf("answered %v, %v; want the answer of the long way", resp, err)
	}
}

// TestFastNeedsItsRule: a method whose rule looks at the caller has no fast path.
func TestFastNeedsItsRule(t *testing.T) {
	unit := newFake().unit()
	build := unit.Build
	unit.Build = func(ctx context.Context, base server.Base) (*server.Parts, error) {
		parts, err := build(ctx, base)
		if err == nil {
			parts.Fast = map[string]server.Fast{iamv1.UserAccountService_Get_FullMethodName: func(context.Context, []byte) ([]byte, *apierr.Ready, bool) { return nil, nil, true }}
		}
		return parts, err
	}
	_, err := server.New(t.Context(), options(t, nil, unit))
	if err == nil || !strings.Contains(err.Error(), "fast path") {
		t.Errorf("New: %v, want a refusal of the fast path", err)
	}
}
