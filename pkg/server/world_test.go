package server_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// catalog knows every permission.
type catalog struct{}

func (catalog) KnownPermission(string) bool { return true }
func (catalog) PermissionFor(typ, verb string) (string, bool) {
	return typ + "." + verb, typ != "no.such"
}

// decider allows the subject "good" everything but resources named "secret".
type decider struct{}

func (decider) Authenticate(_ context.Context, p authn.Principal) error {
	if p.ID == "suspended" {
		return apierr.Unauthenticated(apierr.ReasonSubjectInactive, "the subject is suspended")
	}
	return nil
}

func (d decider) Authorize(ctx context.Context, p authn.Principal, permission string, r authz.Resource) error {
	if err := d.Authenticate(ctx, p); err != nil {
		return err
	}
	if p.ID != "good" || r.ID == "secret" {
		return authz.Denied(permission, r)
	}
	return nil
}

func (decider) AuthorizeEach(context.Context, authn.Principal, string, []authz.Resource) ([]bool, error) {
	return nil, errors.New("not asked here")
}

// fake is a unit with one method of each kind. What a handler does is told by an
// id in the request.
type fake struct {
	iamv1.UnimplementedUserAccountServiceServer
	iamv1.UnimplementedIamTokenServiceServer
	brmv1.UnimplementedPlaceServiceServer
	accessv1.UnimplementedAccessBindingServiceServer
	accessservicev2.UnimplementedAccessServiceServer
	identityv1.UnimplementedOperatorServiceServer

	base     server.Base
	attempts atomic.Int32
	entered  chan string // an id whose handler waits for release
	release  chan struct{}
	seen     atomic.Pointer[seen]
	ready    atomic.Bool
}

// seen is what a handler found in its context.
type seen struct {
	principal authn.Principal
	request   log.Request
	md        metadata.MD // as it came
}

func (f *fake) note(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	f.seen.Store(&seen{authn.FromContext(ctx), log.RequestFrom(ctx), md})
}

// Get is the authenticated method.
func (f *fake) Get(ctx context.Context, req *iamv1.GetUserAccountRequest) (*iamv1.UserAccount, error) {
	f.note(ctx)
	switch req.GetUserAccountId() {
	case "panic":
		panic("of a handler: " + password)
	case "broken":
		return nil, errors.New("pq: " + password)
	case "missing":
		return nil, apierr.NotFound("USER_NOT_FOUND", "user %s not found", "missing")
	case "unavailable":
		f.attempts.Add(1)
		return nil, apierr.Unavailable(apierr.ReasonUnavailable, "try again")
	case "slow", "hung", "slow then peer":
		f.entered <- req.GetUserAccountId()
		select {
		case <-f.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if req.GetUserAccountId() != "slow then peer" {
			break
		}
		fallthrough
	case "peer": // what a call to another unit carries
		_, err := brmv1.NewPlaceServiceClient(f.base.Peer("fake")).GetPlace(ctx, &brmv1.GetPlaceRequest{FolderId: "any"})
		return &iamv1.UserAccount{}, apierr.FromRPC(err)
	case "peer as unit":
		_, err := brmv1.NewPlaceServiceClient(f.base.Peer("fake")).GetPlace(server.AsUnit(ctx), &brmv1.GetPlaceRequest{FolderId: "any"})
		return &iamv1.UserAccount{}, apierr.FromRPC(err)
	case "peer nowhere":
		_, err := brmv1.NewPlaceServiceClient(f.base.Peer("nowhere")).GetPlace(ctx, &brmv1.GetPlaceRequest{FolderId: "any"})
		return nil, apierr.FromRPC(err)
	}
	return &iamv1.UserAccount{Id: req.GetUserAccountId()}, nil
}

// Create is the public method.
func (f *fake) Create(ctx context.Context, _ *iamv1.CreateIamTokenRequest) (*iamv1.CreateIamTokenResponse, error) {
	f.note(ctx)
	return &iamv1.CreateIamTokenResponse{IamToken: "t1.secret.secret"}, nil
}

// GetPlace is the internal method.
func (f *fake) GetPlace(ctx context.Context, _ *brmv1.GetPlaceRequest) (*brmv1.GetPlaceResponse, error) {
	f.note(ctx)
	return &brmv1.GetPlaceResponse{}, nil
}

// ListAccessBindings is the method with a check.
func (f *fake) ListAccessBindings(ctx context.Context, _ *accessv1.ListAccessBindingsRequest) (*accessv1.ListAccessBindingsResponse, error) {
	f.note(ctx)
	return &accessv1.ListAccessBindingsResponse{}, nil
}

// Authorize is the quiet method.
func (f *fake) Authorize(ctx context.Context, req *accessservicev2.AuthorizeRequest) (*accessservicev2.AuthorizeResponse, error) {
	f.note(ctx)
	if req.GetPermission() == "denied" {
		return nil, authz.Denied("denied", authz.Resource{Type: "t", ID: "i"})
	}
	return &accessservicev2.AuthorizeResponse{}, nil
}

// RotateSigningKey is the operator's method.
func (f *fake) RotateSigningKey(ctx context.Context, _ *identityv1.RotateSigningKeyRequest) (*identityv1.RotateSigningKeyResponse, error) {
	f.note(ctx)
	return &identityv1.RotateSigningKeyResponse{KeyId: "k1"}, nil
}

const password = "password of the database"

func (f *fake) unit() server.Unit {
	return server.Unit{Name: "fake", Build: func(_ context.Context, base server.Base) (*server.Parts, error) {
		f.base = base
		return &server.Parts{
			Register: func(s grpc.ServiceRegistrar) {
				iamv1.RegisterUserAccountServiceServer(s, f)
				iamv1.RegisterIamTokenServiceServer(s, f)
				brmv1.RegisterPlaceServiceServer(s, f)
				accessv1.RegisterAccessBindingServiceServer(s, f)
				accessservicev2.RegisterAccessServiceServer(s, f)
			},
			RegisterOperator: func(s grpc.ServiceRegistrar) { identityv1.RegisterOperatorServiceServer(s, f) },
			Decider:          decider{},
			Quiet:            []string{accessservicev2.AccessService_ServiceDesc.ServiceName},
			Ready: func(context.Context) error {
				if !f.ready.Load() {
					return errors.New("still loading")
				}
				return nil
			},
		}, nil
	}}
}

func newFake() *fake {
	f := &fake{entered: make(chan string, 8), release: make(chan struct{})}
	f.ready.Store(true)
	return f
}

// world is a running fake with its log.
type world struct {
	*servertest.World
	*fake
	logs *observer.ObservedLogs
}

func start(t *testing.T, change func(*server.Options)) *world {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	f := newFake()
	return &world{fake: f, logs: logs, World: servertest.Start(t, servertest.Options{
		Units: []server.Unit{f.unit()}, Catalog: catalog{}, Log: zap.New(core), Change: change,
		DB: sqldbtest.Open(t, sqldb.SQLite, "fake", nil),
	})}
}

// get calls the authenticated method.
func (w *world) get(ctx context.Context, id string, opts ...grpc.CallOption) error {
	_, err := iamv1.NewUserAccountServiceClient(w.Conn).Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: id}, opts...)
	return err
}

// with adds metadata.
func with(ctx context.Context, pairs ...string) context.Context {
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

func wantCode(t *testing.T, err error, code codes.Code, reason string) {
	t.Helper()
	if status.Code(err) != code || apierr.ReasonOf(err) != reason {
		t.Errorf("got %v, reason %q; want %v, %q", err, apierr.ReasonOf(err), code, reason)
	}
}

// lines returns the lines of the log about calls of a method, waiting for one: it
// is written when the answer is on its way.
func (w *world) lines(t *testing.T, message, method string) []observer.LoggedEntry {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for {
		var out []observer.LoggedEntry
		for _, e := range w.logs.FilterMessage(message).All() {
			if m, _ := e.ContextMap()["method"].(string); strings.HasSuffix(m, method) {
				out = append(out, e)
			}
		}
		if len(out) > 0 || time.Now().After(deadline) {
			return out
		}
		time.Sleep(time.Millisecond)
	}
}
