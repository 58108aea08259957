package server_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// options are those of a process that is made but not run.
func options(t *testing.T, change func(*server.Options), units ...server.Unit) server.Options {
	t.Helper()
	db := sqldbtest.Open(t, sqldb.SQLite, "fake", nil)
	o := server.Options{
		Units: units, Catalog: catalog{}, Log: zap.NewNop(), Metrics: prometheus.NewRegistry(), Migrate: true,
		DB: func(string) *sqldb.DB { return db }, DataDir: t.TempDir(), Listen: "127.0.0.1:0",
	}
	if change != nil {
		change(&o)
	}
	return o
}

// poorCatalog knows no permission.
type poorCatalog struct{ catalog }

func (poorCatalog) KnownPermission(string) bool { return false }

func unitOf(name string, parts server.Parts) server.Unit {
	return server.Unit{Name: name, Build: func(context.Context, server.Base) (*server.Parts, error) { return &parts, nil }}
}

func nothing(grpc.ServiceRegistrar) {}

func TestProcessRefusesToStart(t *testing.T) {
	tokens := func(s grpc.ServiceRegistrar) {
		iamv1.RegisterIamTokenServiceServer(s, iamv1.UnimplementedIamTokenServiceServer{})
	}
	for _, tt := range []struct {
		name   string
		units  []server.Unit
		change func(*server.Options)
		want   []string
	}{
		{"unknown permission", []server.Unit{unitOf("a", server.Parts{Register: tokens})}, func(o *server.Options) { o.Catalog = poorCatalog{} },
			[]string{"/yandex.cloud.iam.v1.IamTokenService/CreateForServiceAccount", "not in the catalogue"}},
		{"build fails", []server.Unit{{Name: "a", Build: func(context.Context, server.Base) (*server.Parts, error) { return nil, errors.New("no luck") }}}, nil, []string{"unit a: no luck"}},
		{"registers nothing", []server.Unit{unitOf("a", server.Parts{})}, nil, []string{"unit a: registers nothing"}},
		{"two web servers", []server.Unit{unitOf("a", server.Parts{Register: nothing, HTTP: http.NotFoundHandler()}), unitOf("b", server.Parts{Register: nothing, HTTP: http.NotFoundHandler()})}, nil, []string{"unit b: another unit serves HTTP"}},
		{"a service twice", []server.Unit{unitOf("a", server.Parts{Register: tokens}), unitOf("b", server.Parts{Register: tokens})}, nil, []string{"yandex.cloud.iam.v1.IamTokenService is registered twice"}},
		{"a resolver twice", []server.Unit{unitOf("a", server.Parts{Register: nothing, Resolvers: map[string]authz.Resolver{"key": nil}}), unitOf("b", server.Parts{Register: nothing, Resolvers: map[string]authz.Resolver{"key": nil}})}, nil, []string{"units a and b both give the resolver key"}},
		{"a key of nobody's", []server.Unit{unitOf("a", server.Parts{Register: tokens, Keyed: []string{"/x/Y"}})}, nil, []string{"unit a: names methods with idempotency keys and keeps none"}},
		{"a key of no method", []server.Unit{unitOf("a", server.Parts{Register: tokens, Keys: idempotency.NewStore(nil, "a", nil), Keyed: []string{"/x/Y"}})}, nil, []string{"unit a: /x/Y, to have idempotency keys, is not a method of it"}},
		{"bad certificate", []server.Unit{unitOf("a", server.Parts{Register: nothing})}, func(o *server.Options) { o.TLS = server.CertFiles{Cert: "/no/cert", Key: "/no/key"} }, []string{"load certificate"}},
		{"half a certificate", []server.Unit{unitOf("a", server.Parts{Register: nothing})}, func(o *server.Options) { o.TLS.Cert = "/no/cert" }, []string{"certificate and key go together"}},
		{"all at once", []server.Unit{{Name: "a.b"}, {Name: "operator"}, {Name: "a"}, {Name: "*"}, unitOf("b", server.Parts{}), unitOf("b", server.Parts{})},
			func(o *server.Options) { o.Catalog, o.Listen = nil, "nowhere" },
			[]string{"no catalogue", `"a.b" cannot name`, `"operator" cannot name`, `"*" cannot name`, "unit a cannot be built", "unit b twice", "address: "}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := server.New(t.Context(), options(t, tt.change, tt.units...))
			if err == nil {
				_ = p.Close()
				t.Fatal("started")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
		})
	}
}

func TestUnitsAreClosedWhenTheStartFails(t *testing.T) {
	closed := 0
	unit := func(name string, register func(grpc.ServiceRegistrar)) server.Unit {
		return unitOf(name, server.Parts{Register: register, Close: func() error { closed++; return nil }})
	}
	_, err := server.New(t.Context(), options(t, nil, unit("a", nothing), unit("b", nil)))
	if err == nil || closed != 2 {
		t.Errorf("%v, closed %d of 2", err, closed)
	}
}

// call calls the authenticated method over a connection of its own, so that the
// end of the test's other connection does not touch it.
func (w *world) call(t *testing.T, id string) <-chan error {
	conn := w.Dial(grpc.WithTransportCredentials(insecure.NewCredentials()))
	done, ctx := make(chan error, 1), w.User("good")
	go func() {
		_, err := iamv1.NewUserAccountServiceClient(conn).Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: id})
		done <- err
	}()
	return done
}

func TestRunDrainsCallsUnderWay(t *testing.T) {
	w := start(t, nil)
	slow := w.call(t, "slow")
	<-w.entered
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.Stop() }()
	eventually(t, "closed for new calls", func() bool { return status.Code(<-w.call(t, "u")) == codes.Unavailable })
	select {
	case <-stopped:
		t.Error("stopped while a call was under way")
	default:
	}
	close(w.release)
	if err := <-slow; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	<-stopped
}

// A call that needs another unit while the process drains still reaches it.
func TestRunDrainsCallsToPeers(t *testing.T) {
	w := start(t, nil)
	slow := w.call(t, "slow then peer")
	<-w.entered
	stopped := make(chan struct{})
	go func() { defer close(stopped); w.Stop() }()
	eventually(t, "closed for new calls", func() bool { return status.Code(<-w.call(t, "u")) == codes.Unavailable })
	close(w.release)
	if err := <-slow; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	<-stopped
}

func TestRunDoesNotWaitForEver(t *testing.T) {
	w := start(t, func(o *server.Options) { o.DrainFor = 200 * time.Millisecond })
	hung := w.call(t, "hung")
	<-w.entered
	begun := time.Now()
	w.Stop()
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if err := <-hung; err == nil {
		t.Error("a hung call succeeded")
	}
}

func TestFailingUnitEndsTheProcess(t *testing.T) {
	p, err := server.New(t.Context(), options(t, nil, unitOf("a", server.Parts{Register: nothing,
		Run: func(context.Context) error { return errors.New("lost the lease") }})))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "unit a: lost the lease") {
		t.Errorf("Run: %v", err)
	}
}

func TestOperationServiceOfTheProcess(t *testing.T) {
	w := start(t, nil)
	_, err := operationpb.NewOperationServiceClient(w.Conn).Get(w.User("good"), &operationpb.GetOperationRequest{OperationId: "x"})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("without operations: %v", err)
	}
	db := sqldbtest.Open(t, sqldb.SQLite, "fake", []sqldb.Migrations{operation.Migrations("fake")})
	store := operation.NewStore(db, "fake", "abc", time.Now)
	f := newFake()
	both := server.Unit{Name: "fake", Build: func(ctx context.Context, b server.Base) (*server.Parts, error) {
		parts, err := f.unit().Build(ctx, b)
		parts.Operations = store
		return parts, err
	}}
	ww := servertest.Start(t, servertest.Options{Units: []server.Unit{both}, Catalog: catalog{}, DB: db})
	_, err = operationpb.NewOperationServiceClient(ww.Conn).Get(ww.User("good"), &operationpb.GetOperationRequest{OperationId: "abc00000000000000000"})
	wantCode(t, err, codes.NotFound, operation.ReasonNotFound)
	_, err = server.New(t.Context(), options(t, nil,
		unitOf("a", server.Parts{Register: nothing, Operations: store}), unitOf("b", server.Parts{Register: nothing, Operations: store})))
	if err == nil || !strings.Contains(err.Error(), "unit b: operations with the prefix abc") {
		t.Errorf("two stores of one prefix: %v", err)
	}
}

func TestOperatorSocket(t *testing.T) {
	w := start(t, nil)
	rotate := func(dir string) error {
		conn, err := server.DialOperator(dir)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = identityv1.NewOperatorServiceClient(conn).RotateSigningKey(t.Context(), &identityv1.RotateSigningKeyRequest{})
		return err
	}
	if err := rotate(w.DataDir); err != nil {
		t.Fatal(err)
	}
	if got := w.seen.Load().principal; got != (authn.Principal{Unit: authn.Operator}) {
		t.Errorf("the operator is %v", got)
	}
	st, err := os.Stat(filepath.Join(w.DataDir, "operator"))
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("directory of the socket: %v %v", st.Mode(), err)
	}
	// The port of clients does not have the service at all.
	_, err = identityv1.NewOperatorServiceClient(w.Conn).RotateSigningKey(w.User("good"), &identityv1.RotateSigningKeyRequest{})
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("on the port: %v", err)
	}
	// A second process does not take the socket away.
	_, err = server.New(t.Context(), options(t, func(o *server.Options) { o.DataDir = w.DataDir }, newFake().unit()))
	if err == nil || !strings.Contains(err.Error(), "another process serves") {
		t.Errorf("second process: %v", err)
	}
	if err := rotate(w.DataDir); err != nil {
		t.Errorf("after it: %v", err)
	}
	w.Stop()
	if err := rotate(w.DataDir); !errors.Is(err, server.ErrNoOperator) {
		t.Errorf("after the end: %v", err)
	}
}

func TestOperatorSocketOfALongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long/", 30))
	w := start(t, func(o *server.Options) { o.DataDir = dir })
	for range 2 { // the second process finds the place of the first
		conn, err := server.DialOperator(dir)
		if err != nil {
			t.Fatal(err)
		}
		_, err = identityv1.NewOperatorServiceClient(conn).RotateSigningKey(t.Context(), &identityv1.RotateSigningKeyRequest{})
		wantCode(t, err, codes.OK, "")
		_ = conn.Close()
		w.Stop()
		w = start(t, func(o *server.Options) { o.DataDir = dir })
	}
	raw, err := os.ReadFile(filepath.Join(dir, "operator", "operator.path"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(strings.TrimSpace(string(raw)))) })
}

// A process that was killed leaves its socket behind.
func TestOperatorSocketOfADeadProcess(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "operator"), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "operator", "operator.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := server.DialOperator(dir); !errors.Is(err, server.ErrNoOperator) {
		t.Errorf("a stale socket: %v", err)
	}
	start(t, func(o *server.Options) { o.DataDir = dir })
	conn, err := server.DialOperator(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, err = identityv1.NewOperatorServiceClient(conn).RotateSigningKey(t.Context(), &identityv1.RotateSigningKeyRequest{})
	wantCode(t, err, codes.OK, "")
}
