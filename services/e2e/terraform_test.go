package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	apipb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/api"
	endpointpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/endpoint"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// TestTerraform makes the calls of the Terraform provider, resource by resource and in
// its order, and checks each answer as strictly as the newer half of it does. Every row
// of the table of what its resources call, as far as the service is here, is one subtest.
func TestTerraform(t *testing.T) {
	eachEngine(t, func(t *testing.T, s *server) {
		ann := s.createUser("ann")
		p := configure(t, s, "ann", ann.OAuthToken)
		p.environment(ann)
		for _, row := range []struct {
			name  string
			drive func(*provider)
		}{
			{"cloud", (*provider).clouds},
			{"folder", (*provider).folders},
			{"service account", (*provider).serviceAccounts},
			{"service account key", (*provider).authorizedKeys},
			{"API key", (*provider).apiKeys},
			{"static access key", (*provider).accessKeys},
			{"workload identity", (*provider).workloads},
			{"role and user", (*provider).rolesAndUsers},
			{"organization", (*provider).organization},
			{"group", (*provider).groups},
			{"OAuth client and secret", (*provider).oauthClients},
			{"OS Login settings", (*provider).osLoginSettings},
			{"user SSH key", (*provider).userSSHKeys},
			{"SAML federation and its users", (*provider).samlFederations},
			{"group mapping", (*provider).groupMapping},
			{"access policy bindings", (*provider).accessPolicies},
			{"ten at once", (*provider).inParallel},
			{"sent again", (*provider).sentAgain},
		} {
			t.Run(row.name, func(t *testing.T) {
				mine := *p
				mine.t = t
				row.drive(&mine)
			})
		}
	})
}

// provider is one run of the provider, and what it works in.
type provider struct {
	t       *testing.T
	server  *server
	address string // that the endpoints named
	conn    *grpc.ClientConn
	wire    *wire

	login  string
	user   string
	org    string
	cloud  string
	folder string
}

// transport is the service config of the provider: what is UNAVAILABLE is sent again, and
// nothing else is.
const transport = `{"methodConfig": [{"name": [{}], "waitForReady": true, "retryPolicy": {"maxAttempts": 5, "initialBackoff": "0.1s",
	"maxBackoff": "20s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}],
	"retryThrottling": {"maxTokens": 6, "tokenRatio": 0.1}}`

// configure does what the provider does before its first resource: it finds the
// endpoints, without a token and by a single page, and exchanges its credential.
func configure(t *testing.T, s *server, login, oauthToken string) *provider {
	t.Helper()
	p := &provider{t: t, server: s, address: s.grpc, login: login, wire: &wire{t: t, declared: map[string]*apipb.Operation{}}}
	discovery := endpointpb.NewApiEndpointServiceClient(p.dial(&wire{t: t}))
	for _, size := range []int64{0, 100} { // one half of it, and the other
		list, err := discovery.List(t.Context(), &endpointpb.ListApiEndpointsRequest{PageSize: size}) //nolint:staticcheck // deprecated, and sent
		if err != nil {
			t.Fatal(err)
		}
		at := map[string]string{}
		for _, e := range list.GetEndpoints() {
			at[e.GetId()] = e.GetAddress()
		}
		for _, id := range []string{"endpoint", "iam", "operation", "organization-manager", "resource-manager"} {
			if at[id] == "" || at[id] != at["iam"] {
				t.Fatalf("%s is found at %q; it and all others are wanted at one address: %v", id, at[id], at)
			}
		}
		if list.GetNextPageToken() != "" {
			t.Error("there is more than one page of endpoints; nobody asks for the second")
		}
		p.address = at["iam"]
	}
	p.conn = p.dial(p.wire)
	p.exchange(&iamv1.CreateIamTokenRequest{Identity: &iamv1.CreateIamTokenRequest_YandexPassportOauthToken{YandexPassportOauthToken: oauthToken}})
	return p
}

// dial connects as the newer half does: by TLS alone, and with pings that go on while
// nothing is asked.
func (p *provider) dial(w *wire) *grpc.ClientConn {
	p.t.Helper()
	pem, err := os.ReadFile(p.server.caFile())
	p.must(err)
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		p.t.Fatalf("no certificate in %s", p.server.caFile())
	}
	conn, err := grpc.NewClient(p.address, grpc.WithDefaultServiceConfig(transport), grpc.WithUnaryInterceptor(w.intercept),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true}))
	p.must(err)
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// iamTokenForm is how the provider tells an IAM token from an OAuth token.
var iamTokenForm = regexp.MustCompile(`^t1\.[^.]+\.[^.]+$`)

// exchange gets the token that all further calls carry.
func (p *provider) exchange(with *iamv1.CreateIamTokenRequest) {
	p.t.Helper()
	token, err := iamv1.NewIamTokenServiceClient(p.conn).Create(p.t.Context(), with)
	p.must(err)
	if !iamTokenForm.MatchString(token.GetIamToken()) {
		p.t.Errorf("the provider would take the token %.6q… for an OAuth token", token.GetIamToken())
	}
	if left := time.Until(token.GetExpiresAt().AsTime()); left < time.Minute {
		p.t.Errorf("the token ends in %v: the provider would ask for another before every call", left)
	}
	p.wire.setToken(token.GetIamToken())
}

// environment makes a cloud and a folder to work in, and reads them as the provider does
// before anything else.
func (p *provider) environment(ann user) {
	p.t.Helper()
	op, err := rmv1.NewCloudServiceClient(p.conn).Create(p.ctx(), &rmv1.CreateCloudRequest{Name: "environment"})
	cloud := done(p, op, err, new(rmv1.Cloud))
	op, err = rmv1.NewFolderServiceClient(p.conn).Create(p.ctx(), &rmv1.CreateFolderRequest{CloudId: cloud.GetId(), Name: "environment"})
	folder := done(p, op, err, new(rmv1.Folder))
	p.org, p.cloud, p.folder, p.user = cloud.GetOrganizationId(), cloud.GetId(), folder.GetId(), ann.ID
	got, err := rmv1.NewFolderServiceClient(p.conn).Get(p.ctx(), &rmv1.GetFolderRequest{FolderId: p.folder})
	p.same(folder, got, err)
	read, err := rmv1.NewCloudServiceClient(p.conn).Get(p.ctx(), &rmv1.GetCloudRequest{CloudId: p.cloud})
	p.same(cloud, read, err)
	me, err := iamv1.NewYandexPassportUserAccountServiceClient(p.conn).GetByLogin(p.ctx(), &iamv1.GetUserAccountByLoginRequest{Login: ann.Login})
	if err != nil || me.GetId() != ann.ID {
		p.t.Errorf("found by login: %v, %v", me, err)
	}
}

// ctx is a call's; the wire adds what the provider sends with each.
func (p *provider) ctx() context.Context { return p.t.Context() }

func (p *provider) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// same wants that something can be read as its operation had it.
func (p *provider) same(want, got proto.Message, err error) {
	p.t.Helper()
	p.must(err)
	if !proto.Equal(want, got) {
		p.t.Errorf("read %v\nafter %v", got, want)
	}
}

// code wants a refusal.
func (p *provider) code(err error, want codes.Code) {
	p.t.Helper()
	if status.Code(err) != want {
		p.t.Errorf("got %v, want %s", err, want)
	}
}

// done waits for an operation as the provider does and returns its response. The wire
// has checked the types.
func done[M proto.Message](p *provider, op *operationpb.Operation, err error, response M) M {
	p.t.Helper()
	p.must(err)
	for deadline := time.Now().Add(time.Minute); !op.GetDone(); {
		if time.Now().After(deadline) {
			p.t.Fatalf("operation %s is not done after a minute", op.GetId())
		}
		op, err = operationpb.NewOperationServiceClient(p.conn).Get(p.ctx(), &operationpb.GetOperationRequest{OperationId: op.GetId()})
		p.must(err)
		time.Sleep(10 * time.Millisecond)
	}
	if op.GetError() != nil {
		p.t.Fatalf("operation %s: %v", op.GetId(), op.GetError())
	}
	p.must(op.GetResponse().UnmarshalTo(response))
	return response
}

// named wants that a metadata message names the resource that a response is.
func named(p *provider, op *operationpb.Operation, field, id string) {
	p.t.Helper()
	m, err := op.GetMetadata().UnmarshalNew()
	p.must(err)
	fd := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(field))
	if fd == nil || m.ProtoReflect().Get(fd).String() != id {
		p.t.Errorf("metadata %v does not name %s %s", m, field, id)
	}
}

// wire is what lies between the provider and the server: it sends the headers that the
// provider sends, and judges every operation that comes back.
type wire struct {
	t *testing.T

	mu       sync.Mutex
	token    string
	declared map[string]*apipb.Operation // of the method that returned an operation, by its id
}

func (w *wire) setToken(token string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.token = token
}

func (w *wire) intercept(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	out := []string{"x-client-trace-id", uuid.NewString(), "x-client-request-id", uuid.NewString(), "x-request-id", uuid.NewString()}
	if sent, _ := metadata.FromOutgoingContext(ctx); len(sent.Get("idempotency-key")) == 0 { // reads have one, too
		out = append(out, "idempotency-key", uuid.NewString())
	}
	w.mu.Lock()
	if w.token != "" && !strings.HasSuffix(method, ".IamTokenService/Create") {
		out = append(out, "authorization", "Bearer "+w.token)
	}
	w.mu.Unlock()
	var header, trailer metadata.MD
	err := call(metadata.AppendToOutgoingContext(ctx, out...), method, req, reply, conn, append(opts, grpc.Header(&header), grpc.Trailer(&trailer))...)
	for _, name := range []string{"x-request-id", "x-server-trace-id"} {
		if len(header.Get(name))+len(trailer.Get(name)) == 0 {
			w.t.Errorf("%s came without %s, which the provider logs", method, name)
		}
	}
	if pause := header.Get("x-operation-poll-interval"); len(pause) > 0 && pause[0] == "0" {
		w.t.Errorf("%s tells the provider to poll without a pause", method)
	}
	if op, ok := reply.(*operationpb.Operation); ok && err == nil {
		w.judge(method, op)
	}
	return err
}

// whole is the full name of a message that a method declares; one without dots is of the
// method's package.
func whole(method protoreflect.Descriptor, name string) string {
	if strings.Contains(name, ".") {
		return name
	}
	return string(method.ParentFile().Package()) + "." + name
}

// judge wants the metadata, always, and the response of a done operation to be of the
// types that the method declares. Where it declares Empty, any response will do, but
// there has to be one. An operation is never returned as one that has failed already.
func (w *wire) judge(method string, op *operationpb.Operation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.HasSuffix(method, ".OperationService/Get") {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(method[1:], "/", ".")))
		if err != nil {
			w.t.Errorf("%s: %v", method, err)
			return
		}
		declared, ok := proto.GetExtension(d.Options(), apipb.E_Operation).(*apipb.Operation)
		if !ok || declared.GetMetadata() == "" || declared.GetResponse() == "" {
			w.t.Errorf("%s declares no types of its operation", method)
			return
		}
		w.declared[op.GetId()] = &apipb.Operation{Metadata: whole(d, declared.GetMetadata()), Response: whole(d, declared.GetResponse())}
		if op.GetError() != nil {
			w.t.Errorf("%s returned an operation that has failed already: %v", method, op)
		}
	}
	declared := w.declared[op.GetId()]
	if got := string(op.GetMetadata().MessageName()); got != declared.GetMetadata() {
		w.t.Errorf("%s: expected operation metadata to be %q, got %q", method, declared.GetMetadata(), got)
	}
	if !op.GetDone() || op.GetError() != nil {
		return
	}
	if got := string(op.GetResponse().MessageName()); got != declared.GetResponse() && (declared.GetResponse() != "google.protobuf.Empty" || got == "") {
		w.t.Errorf("%s: expected operation response to be %q, got %q", method, declared.GetResponse(), got)
	}
	for _, typ := range []string{op.GetMetadata().GetTypeUrl(), op.GetResponse().GetTypeUrl()} {
		if !strings.HasPrefix(typ, "type.googleapis.com/") {
			w.t.Errorf("%s: type URL %q", method, typ)
		}
	}
}
