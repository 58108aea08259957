package server_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// writes is a unit whose handlers tell which key they were given, and wait.
type writes struct {
	accessv1.UnimplementedAccessBindingServiceServer
	entered chan *idempotency.Key
	release chan struct{}
}

func (w *writes) SetAccessBindings(ctx context.Context, _ *accessv1.SetAccessBindingsRequest) (*operationpb.Operation, error) {
	w.entered <- idempotency.FromContext(ctx)
	<-w.release
	return &operationpb.Operation{}, nil
}

func (w *writes) ListAccessBindings(ctx context.Context, _ *accessv1.ListAccessBindingsRequest) (*accessv1.ListAccessBindingsResponse, error) {
	w.entered <- idempotency.FromContext(ctx)
	return &accessv1.ListAccessBindingsResponse{}, nil
}

func (w *writes) unit() server.Unit {
	return server.Unit{
		Name:       "writes",
		Migrations: []sqldb.Migrations{idempotency.Migrations("writes")},
		Build: func(_ context.Context, base server.Base) (*server.Parts, error) {
			return &server.Parts{
				Register: func(s grpc.ServiceRegistrar) { accessv1.RegisterAccessBindingServiceServer(s, w) },
				Decider:  decider{}, Keys: idempotency.NewStore(base.DB, "writes", base.Now),
			}, nil
		},
	}
}

// keyedWorld is the unit running, with its client.
type keyedWorld struct {
	*writes
	*servertest.World
	client accessv1.AccessBindingServiceClient
}

var resource = &accessv1.Resource{Type: "t", Id: "i"}

func startWrites(t *testing.T) *keyedWorld {
	t.Helper()
	w := &keyedWorld{writes: &writes{entered: make(chan *idempotency.Key, 16), release: make(chan struct{})}}
	w.World = servertest.Start(t, servertest.Options{
		Units: []server.Unit{w.unit()}, Catalog: catalog{}, DB: sqldbtest.Open(t, sqldb.SQLite, "writes", nil),
	})
	w.client = accessv1.NewAccessBindingServiceClient(w.Conn)
	return w
}

// as is the context of a subject's call with values of the header.
func (w *keyedWorld) as(subject string, keys ...string) context.Context {
	ctx := w.User(subject)
	for _, k := range keys {
		ctx = with(ctx, idempotency.Header, k)
	}
	return ctx
}

func (w *keyedWorld) set(ctx context.Context) error {
	_, err := w.client.SetAccessBindings(ctx, &accessv1.SetAccessBindingsRequest{Resource: resource})
	return err
}

func (w *keyedWorld) list(ctx context.Context) error {
	_, err := w.client.ListAccessBindings(ctx, &accessv1.ListAccessBindingsRequest{Resource: resource})
	return err
}

func TestKeysReachTheHandlersOfWrites(t *testing.T) {
	w := startWrites(t)
	close(w.release)
	wantCode(t, w.set(w.as("bad", "")), codes.PermissionDenied, apierr.ReasonPermissionDenied) // before the key is looked at
	for _, tt := range []struct {
		name string
		call func(context.Context) error
		keys []string
		code codes.Code
		key  bool
	}{
		{"a write", w.set, []string{"k"}, codes.OK, true},
		{"a write without a key", w.set, nil, codes.OK, false},
		{"an empty key", w.set, []string{""}, codes.InvalidArgument, false},
		{"a key that is too long", w.set, []string{strings.Repeat("k", idempotency.MaxLength+1)}, codes.InvalidArgument, false},
		{"two keys", w.set, []string{"k", "k"}, codes.InvalidArgument, false},
		{"a read", w.list, []string{"k"}, codes.OK, false},
		{"a read with a bad key", w.list, []string{""}, codes.OK, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.call(w.as("good", tt.keys...))
			if apierr.CodeOf(err) != tt.code {
				t.Fatalf("%v, want %v", err, tt.code)
			}
			if err != nil {
				return
			}
			if key := <-w.entered; (key != nil) != tt.key {
				t.Errorf("the handler had key %v", key)
			}
		})
	}
}

func TestCallsWithOneKeyFollowOneAnother(t *testing.T) {
	w := startWrites(t)
	answered := make(chan error, 3)
	for range 3 {
		go func() { answered <- w.set(w.as("good", "k")) }()
	}
	<-w.entered
	go func() { answered <- w.set(w.as("good", "another")) }()
	<-w.entered // does not wait
	select {
	case <-w.entered:
		t.Fatal("two calls with one key at once")
	case <-time.After(50 * time.Millisecond):
	}
	close(w.release)
	for range 4 {
		if err := <-answered; err != nil {
			t.Error(err)
		}
	}
}
