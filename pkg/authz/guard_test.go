package authz

import (
	"context"
	"crypto/ed25519"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	bindery "github.com/bindery-iam/bindery/pkg/catalog"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// folders is a service that says who calls.
type folders struct {
	rmv1.UnimplementedFolderServiceServer
}

func (folders) Get(ctx context.Context, _ *rmv1.GetFolderRequest) (*rmv1.Folder, error) {
	return &rmv1.Folder{Id: authn.FromContext(ctx).Subject()}, nil
}

// changes is a service of streams.
type changes struct {
	accessv1.UnimplementedChangeServiceServer
}

func (changes) Follow(s grpc.BidiStreamingServer[accessv1.FollowRequest, accessv1.FollowResponse]) error {
	if _, err := s.Recv(); err != nil {
		return err
	}
	return s.Send(&accessv1.FollowResponse{})
}

// guarded serves both behind a guard, and returns a connection.
func guarded(t *testing.T, d Decider, tokens *authn.Verifier, compile bool) *grpc.ClientConn {
	t.Helper()
	g := NewGuard(d, tokens)
	server := grpc.NewServer(g.Options()...)
	rmv1.RegisterFolderServiceServer(server, folders{})
	accessv1.RegisterChangeServiceServer(server, changes{})
	healthv1.RegisterHealthServer(server, health.NewServer())
	if compile {
		c, err := bindery.Load()
		if err != nil {
			t.Fatal(err)
		}
		if err := g.Compile(server, Deps{Catalog: c}); err != nil {
			t.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func TestGuard(t *testing.T) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	issuer := &authn.Issuer{
		Key: func() authn.SigningKey { return authn.SigningKey{ID: "k", Private: private} }, Epoch: func() int64 { return 1 }, Now: time.Now,
	}
	tokens := authn.NewVerifier(authn.KeySourceFunc(func(context.Context) ([]authn.Key, error) {
		return []authn.Key{{ID: "k", Public: public, Epoch: 1}}, nil
	}), time.Now)
	token, err := issuer.Issue(authn.UserAccount, "u1", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	d := &decider{allow: map[string]bool{
		"resource-manager.folders.get resource-manager.folder:mine":                        true,
		"organization-manager.accessChanges.follow organization-manager.organization:mine": true,
	}}
	conn := guarded(t, d, tokens, true)
	good := "Bearer " + token.Text
	for _, tt := range []struct {
		name    string
		headers []string
		id      string
		code    codes.Code
		reason  string
	}{
		{"held", []string{good}, "mine", codes.OK, ""},
		{"lacking", []string{good}, "others", codes.PermissionDenied, apierr.ReasonPermissionDenied},
		{"nobody", nil, "mine", codes.Unauthenticated, apierr.ReasonTokenMissing},
		{"two tokens", []string{good, good}, "mine", codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"no bearer", []string{token.Text}, "mine", codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"a bad token", []string{"Bearer t1.x.y"}, "mine", codes.Unauthenticated, apierr.ReasonTokenInvalid},
		{"no id", []string{good}, "", codes.InvalidArgument, apierr.ReasonInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ctx := t.Context()
			for _, h := range tt.headers {
				ctx = metadata.AppendToOutgoingContext(ctx, "authorization", h)
			}
			got, err := rmv1.NewFolderServiceClient(conn).Get(ctx, &rmv1.GetFolderRequest{FolderId: tt.id})
			if status.Code(err) != tt.code || apierr.ReasonOf(err) != tt.reason || err == nil && got.GetId() != "userAccount:u1" {
				t.Errorf("a call: %v, %v", got, err)
			}
			s, err := accessv1.NewChangeServiceClient(conn).Follow(ctx)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.Send(&accessv1.FollowRequest{Message: &accessv1.FollowRequest_Start_{Start: &accessv1.FollowRequest_Start{OrganizationId: tt.id}}})
			if _, err := s.Recv(); status.Code(err) != tt.code || apierr.ReasonOf(err) != tt.reason {
				t.Errorf("a stream: %v", err)
			}
		})
	}
	if _, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	unready := guarded(t, d, tokens, false)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", good)
	if _, err := rmv1.NewFolderServiceClient(unready).Get(ctx, &rmv1.GetFolderRequest{FolderId: "mine"}); status.Code(err) != codes.Internal {
		t.Errorf("before the rules are compiled: %v", err)
	}
}

// What is dialled by a list or a name is found again, and calls have an end.
func TestDial(t *testing.T) {
	if _, err := Dial(Dialing{}); err == nil {
		t.Error("without an address: no error")
	}
	asked := 0
	conn, err := Dial(Dialing{Addresses: "127.0.0.1:1,127.0.0.1:2", Plaintext: true, Token: func(context.Context) (string, error) { asked++; return "t", nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = NewClient(conn).Authenticate(t.Context(), user.Principal)
	if apierr.ReasonOf(err) != apierr.ReasonCheckerUnavailable || apierr.CodeOf(err) != codes.Unavailable {
		t.Errorf("nobody there: %v", err)
	}
}
