package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// accessWorld is the whole process, and people and trees made through its doors.
type accessWorld struct {
	*servertest.World
	t       testing.TB
	catalog *catalog.Catalog

	socket *grpc.ClientConn            // the operator's
	units  map[string]*grpc.ClientConn // as units of the suite
	forged *grpc.ClientConn            // as a unit whose key nobody trusts

	names   int    // given out so far
	founder person // of organizations, until the quota is used up
	founded int

	product  *node // on request, for fixtures that need one
	customer *node // a folder of those who ask for products
	asked    int

	revoked, suspended, foreigner person
	secret                        string // of an API key
}

// person is a user that can act.
type person struct{ id, login, oauth, token string }

// suiteUnits are the units whose credentials every internal method is called with.
var suiteUnits = []string{"accessbindings", "gateway", "identity", "marketplacerequests", "notifications", "partner", "resourcemanager"}

// callingUnits are those, and whoever measures usage, who is no unit of the suite.
var callingUnits = append(slices.Clone(suiteUnits), "metering")

func newAccessWorld(t *testing.T, db *sqldb.DB) *accessWorld {
	t.Helper()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := &accessWorld{t: t, catalog: c}
	w.World = servertest.Start(t, servertest.Options{Units: units(), DB: db, Catalog: c})
	w.populate()
	return w
}

// populate connects in every way to the process that runs, and makes those people
// who are to be refused. options are for the operator's connection.
func (w *accessWorld) populate(options ...grpc.DialOption) {
	w.t.Helper()
	var err error
	w.socket, err = server.DialOperator(w.DataDir, options...)
	w.must(err)
	w.t.Cleanup(func() { _ = w.socket.Close() }) // the test is over
	w.units = make(map[string]*grpc.ClientConn)
	for _, name := range callingUnits {
		w.units[name] = w.Unit(name, "accessbindings")
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	w.forged = w.Dial(grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(authn.NewUnitSigner("resourcemanager", "accessbindings", key, time.Now)))
	w.revoked, w.suspended, w.foreigner = w.person(), w.person(), w.person()
	_, err = iamv1.NewIamTokenServiceClient(w.Conn).Revoke(w.as(w.foreigner), &iamv1.RevokeIamTokenRequest{IamToken: w.revoked.token})
	w.must(err)
	_, err = accessv1.NewSubjectServiceClient(w.units["identity"]).SetSubject(w.t.Context(), &accessv1.SetSubjectRequest{
		Subject: w.suspended.subject(), State: accessv1.SetSubjectRequest_SUSPENDED,
	})
	w.must(err)
	_, err = rmv1.NewCloudServiceClient(w.Conn).Create(w.as(w.foreigner), &rmv1.CreateCloudRequest{Name: "first"})
	w.must(err)
	_, err = quotav1.NewOperatorServiceClient(w.socket).SetLimit(w.t.Context(), &quotav1.SetLimitRequest{
		QuotaId: catalog.QuotaBillingAccounts, Change: &quotav1.SetLimitRequest_Limit{Limit: 1_000_000},
	})
	w.must(err)
	w.sold()
}

func (w *accessWorld) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// served lists the methods of both doors by reflection, as a client would.
func (w *accessWorld) served() []string {
	w.t.Helper()
	methods := slices.Concat(w.reflect(w.Conn), w.reflect(w.socket))
	slices.Sort(methods)
	return slices.Compact(methods)
}

func (w *accessWorld) reflect(conn *grpc.ClientConn) []string {
	w.t.Helper()
	stream, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(w.t.Context())
	w.must(err)
	w.must(stream.Send(listServices()))
	resp, err := stream.Recv()
	w.must(err)
	w.must(stream.CloseSend())
	var methods []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(s.GetName()))
		w.must(err)
		sd, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			w.t.Fatalf("%s is not a service", s.GetName())
		}
		for i := range sd.Methods().Len() {
			methods = append(methods, s.GetName()+"/"+string(sd.Methods().Get(i).Name()))
		}
	}
	return methods
}

func listServices() *reflectionv1.ServerReflectionRequest {
	return &reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{ListServices: "*"}}
}

// invoke calls a method by its name and returns how the call ended; of a stream
// it waits for the first answer.
func invoke(ctx context.Context, conn grpc.ClientConnInterface, method string, req proto.Message) error {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(method, "/", ".")))
	if err != nil {
		return err
	}
	md, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return fmt.Errorf("%s is not a method", method)
	}
	output, err := protoregistry.GlobalTypes.FindMessageByName(md.Output().FullName())
	if err != nil {
		return err
	}
	resp := output.New().Interface()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if !md.IsStreamingClient() && !md.IsStreamingServer() {
		return conn.Invoke(ctx, "/"+method, req, resp)
	}
	stream, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+method)
	if err != nil {
		return err
	}
	// io.EOF is a call that ended before the request was sent, by a refusal of its header,
	// say: how is told to who reads.
	if err := errors.Join(stream.SendMsg(req), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return stream.RecvMsg(resp)
}

// unique returns a name that nothing has yet.
func (w *accessWorld) unique() string {
	w.names++
	return fmt.Sprintf("name-%d", w.names)
}

// person makes a user, by the operator.
func (w *accessWorld) person() person {
	w.t.Helper()
	op := identityv1.NewOperatorServiceClient(w.socket)
	login := w.unique()
	made, err := op.CreateUser(w.t.Context(), &identityv1.CreateUserRequest{Login: login, Email: login + "@example.com"})
	w.must(err)
	token, err := op.CreateToken(w.t.Context(), &identityv1.CreateTokenRequest{Login: login})
	w.must(err)
	return person{id: made.GetId(), login: login, oauth: made.GetOauthToken(), token: token.GetIamToken()}
}

func (p person) subject() *accessv1.Subject {
	return &accessv1.Subject{Type: authn.UserAccount, Id: p.id}
}

func (w *accessWorld) as(p person) context.Context { return w.Context(p.token) }

// kind is a type of resource with its place in the tree.
type kind string

// The kinds.
const (
	account        kind = "iam.serviceAccount"
	workloadIssuer kind = "iam.workloadIdentityFederation"
	folder         kind = "resource-manager.folder"
	cloud          kind = "resource-manager.cloud"
	group          kind = "organization-manager.group"
	billing        kind = "billing.account"
	publisher      kind = "marketplace.publisher"
	product        kind = "marketplace.product"
	instance       kind = "marketplace.productInstance"
	federation     kind = "organization-manager.federation"
	organization   kind = "organization-manager.organization"
)

// parents say below what each kind stands.
var parents = map[kind]kind{account: folder, workloadIssuer: folder, folder: cloud, cloud: organization, group: organization, federation: organization, billing: organization, product: publisher, instance: folder}

// word is the kind as the table says it.
func (k kind) word() string { return string(k)[strings.IndexByte(string(k), '.')+1:] }

// above are the kinds above one, the root last.
func (k kind) above() (all []kind) {
	for at := parents[k]; at != ""; at = parents[at] {
		all = append(all, at)
	}
	return all
}

// below is the kind of children on the way to the leaf of the tree, "" for a leaf.
func (k kind) below() kind {
	return map[kind]kind{organization: cloud, cloud: folder, folder: account, publisher: product}[k]
}

// node is a resource of the tree, made by a person who owns all of it. Without a
// kind it is no resource, for requests that name none.
type node struct {
	w         *accessWorld
	kind      kind
	id        string
	parent    *node
	child     *node // made before the fixture prepared it; nil without one
	owner     person
	operation string // that made it
	other     *node  // what its requests name as well

	invitation string // to an organization, where a fixture makes one
	asking     string // a quota request for it
	member     person // of an organization, where a fixture makes one
	key        string // authorized, of a service account, where a fixture makes one
	policy     string // a grant policy of an organization, where a fixture makes one
	entry      string // an access of a partner to a customer, where a fixture makes one
}

func (n *node) resource() *accessv1.Resource {
	return &accessv1.Resource{Type: string(n.kind), Id: n.id}
}

// up returns the node of a kind at or above n.
func (n *node) up(k kind) *node {
	for n.kind != k {
		n = n.parent
	}
	return n
}

// root makes an organization of a founder, who makes a few and is then replaced,
// since the number of organizations that a subject may make is limited.
func (w *accessWorld) root() *node {
	w.t.Helper()
	if w.founded%8 == 0 {
		w.founder = w.person()
	}
	w.founded++
	op, err := brmv1.NewOrganizationServiceClient(w.Conn).CreateOrganization(w.as(w.founder), &brmv1.CreateOrganizationRequest{Name: w.unique()})
	w.must(err)
	return &node{w: w, kind: organization, id: w.made(op, new(orgv1.Organization)), owner: w.founder, operation: op.GetId()}
}

// child makes a resource below n, an organization beside it for none.
func (w *accessWorld) child(n *node, k kind) *node {
	w.t.Helper()
	switch {
	case n == nil && k == publisher:
		if w.founder.id == "" {
			w.root() // of the first founder
		}
		return w.publisherOf(w.founder)
	case n == nil:
		return w.root()
	}
	c := &node{w: w, kind: k, parent: n, owner: n.owner}
	switch c.kind {
	case cloud:
		op, err := rmv1.NewCloudServiceClient(w.Conn).Create(w.as(n.owner), &rmv1.CreateCloudRequest{OrganizationId: n.id, Name: w.unique()})
		w.must(err)
		c.id, c.operation = w.made(op, new(rmv1.Cloud)), op.GetId()
	case folder:
		op, err := rmv1.NewFolderServiceClient(w.Conn).Create(w.as(n.owner), &rmv1.CreateFolderRequest{CloudId: n.id, Name: w.unique()})
		w.must(err)
		c.id, c.operation = w.made(op, new(rmv1.Folder)), op.GetId()
	case group:
		op, err := orgv1.NewGroupServiceClient(w.Conn).Create(w.as(n.owner), &orgv1.CreateGroupRequest{OrganizationId: n.id, Name: w.unique()})
		w.must(err)
		c.id, c.operation = w.made(op, new(orgv1.Group)), op.GetId()
	case account:
		op, err := iamv1.NewServiceAccountServiceClient(w.Conn).Create(w.as(n.owner), &iamv1.CreateServiceAccountRequest{FolderId: n.id, Name: w.unique()})
		w.must(err)
		c.id, c.operation = w.made(op, new(iamv1.ServiceAccount)), op.GetId()
	case workloadIssuer:
		op, err := oidcv1.NewFederationServiceClient(w.Conn).Create(w.as(n.owner), w.federation(n.id))
		w.must(err)
		c.id, c.operation = w.made(op, new(oidcv1.Federation)), op.GetId()
	case product:
		c.id, c.operation = w.productOf(n)
	case instance:
		c.id, c.operation = w.instanceOf(n)
	case billing:
		c.id, c.operation = w.billingAccount(n.owner, n.id)
	case federation:
		op, err := samlv1.NewFederationServiceClient(w.Conn).Create(w.as(n.owner), createFederation(n.id, w.unique()))
		w.must(err)
		c.id, c.operation = w.made(op, new(samlv1.Federation)), op.GetId()
	default:
		w.t.Fatalf("nothing stands below a %s", n.kind)
	}
	return c
}

// grow makes a path down to a resource of a kind; "" is no resource at all.
func (w *accessWorld) grow(k kind) *node {
	w.t.Helper()
	if k == "" {
		return nil
	}
	return w.child(w.grow(parents[k]), k)
}

// identified is a message of something that has an id.
type identified interface {
	proto.Message
	GetId() string
}

// made returns the id of what a finished operation made.
func (w *accessWorld) made(op *operationpb.Operation, into identified) string {
	w.t.Helper()
	if !op.GetDone() {
		w.t.Fatalf("operation %v is not done", op)
	}
	w.must(op.GetResponse().UnmarshalTo(into))
	return into.GetId()
}

// grant gives a role, by the owner of the resource.
func (w *accessWorld) grant(role string, on *node, to person) {
	w.t.Helper()
	if role == productUser { // the platform alone gives it
		w.letIn(on, to)
		return
	}
	_, err := accessv1.NewAccessBindingServiceClient(w.Conn).UpdateAccessBindings(w.as(on.owner), &accessv1.UpdateAccessBindingsRequest{
		Resource: on.resource(), AccessBindingDeltas: []*accessv1.AccessBindingDelta{addition(role, to)},
	})
	if err != nil {
		w.t.Fatalf("give %s on %s %s: %v", role, on.kind, on.id, err)
	}
}

func addition(role string, to person) *accessv1.AccessBindingDelta {
	return &accessv1.AccessBindingDelta{
		Action:        accesspb.AccessBindingAction_ADD,
		AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: to.subject()},
	}
}
