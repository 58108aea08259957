package marketplacerequests

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/notifications"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

const rolePublisher = "marketplace.productAccessRequests.publisher"

// world is the unit beside the real units that it needs, with a publisher.
type world struct {
	*servertest.World
	t       testing.TB
	db      *sqldb.DB
	ahead   *atomic.Int64
	service *Service
	names   atomic.Int64

	publishers marketplacev1.PublisherServiceClient
	products   marketplacev1.ProductServiceClient
	requests   marketplacev1.ProductAccessRequestServiceClient
	instances  marketplacev1.ProductInstanceServiceClient
	desk       marketplacev1.OperatorServiceClient
	operator   identityv1.OperatorServiceClient
	bindings   accessv1.AccessBindingServiceClient
	clouds     rmv1.CloudServiceClient
	folders    rmv1.FolderServiceClient

	olga      person // owns the billing account and the publisher
	pia       person // decides requests
	publisher string
}

// neighbours are the units beside this one.
func neighbours() []server.Unit {
	return []server.Unit{accessbindings.Unit(), identity.Unit(), resourcemanager.Unit(), notifications.Unit()}
}

// forEach runs a test in a world of its own on both engines.
func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	sqldbtest.ForEach(t, Name, servertest.Series(append(neighbours(), Unit())...), func(t *testing.T, db *sqldb.DB) {
		f(t, newWorld(t, db))
	})
}

func newWorld(t testing.TB, db *sqldb.DB) *world {
	t.Helper()
	cat, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, db: db, ahead: new(atomic.Int64)}
	unit := Unit()
	unit.Build = func(ctx context.Context, base server.Base) (*server.Parts, error) {
		s, err := New(ctx, base)
		if err != nil {
			return nil, err
		}
		w.service = s
		return s.Parts(), nil
	}
	w.World = servertest.Start(t, servertest.Options{
		Units: append(neighbours(), unit),
		DB:    db, Catalog: cat, Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
	})
	socket, err := server.DialOperator(w.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() }) // the test is over
	w.publishers, w.products = marketplacev1.NewPublisherServiceClient(w.Conn), marketplacev1.NewProductServiceClient(w.Conn)
	w.requests, w.instances = marketplacev1.NewProductAccessRequestServiceClient(w.Conn), marketplacev1.NewProductInstanceServiceClient(w.Conn)
	w.desk, w.operator = marketplacev1.NewOperatorServiceClient(socket), identityv1.NewOperatorServiceClient(socket)
	w.bindings = accessv1.NewAccessBindingServiceClient(w.Conn)
	w.clouds, w.folders = rmv1.NewCloudServiceClient(w.Conn), rmv1.NewFolderServiceClient(w.Conn)
	w.olga, w.pia = w.person("olga"), w.person("pia")
	w.publisher = w.newPublisher(w.olga)
	w.give(w.olga, typePublisher, w.publisher, rolePublisher, w.pia)
	return w
}

// unique is a name that nothing has yet.
func (w *world) unique(prefix string) string { return fmt.Sprintf("%s-%d", prefix, w.names.Add(1)) }

type person struct{ id, login, token string }

func (w *world) person(login string) person {
	w.t.Helper()
	u, err := w.operator.CreateUser(w.t.Context(), &identityv1.CreateUserRequest{Login: login, Email: login + "@people.example"})
	w.must(err)
	token, err := w.operator.CreateToken(w.t.Context(), &identityv1.CreateTokenRequest{Login: login})
	w.must(err)
	return person{u.GetId(), login, token.GetIamToken()}
}

func (p person) subject() *accessv1.Subject {
	return &accessv1.Subject{Type: "userAccount", Id: p.id}
}

func (w *world) as(p person) context.Context { return w.Context(p.token) }

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// refused holds an error to a reason; "" means none.
func (w *world) refused(what string, err error, reason string) {
	w.t.Helper()
	if reason == "" && err != nil || reason != "" && apierr.ReasonOf(err) != reason {
		w.t.Errorf("%s: %v, want %q", what, err, reason)
	}
}

// done unpacks the response of an operation that is done, soon.
func done[M proto.Message](w *world, op *operationpb.Operation, err error) func(into M) M {
	return func(into M) M {
		w.t.Helper()
		w.must(err)
		if !op.GetDone() || op.GetResponse() == nil {
			w.t.Fatalf("operation %v, want it done", op)
		}
		w.must(op.GetResponse().UnmarshalTo(into))
		return into
	}
}

// account makes a billing account of somebody in the tree, where the checker finds it.
func (w *world) account(owner person) string {
	w.t.Helper()
	accountID := w.unique("account")
	_, err := accessv1.NewResourceServiceClient(w.Unit("partner", "accessbindings")).RegisterResource(w.t.Context(), &accessv1.RegisterResourceRequest{
		Resource:       &accessv1.Resource{Type: typeBillingAccount, Id: accountID},
		AccessBindings: []*accessv1.AccessBinding{{RoleId: "billing.accounts.owner", Subject: owner.subject()}},
	})
	w.must(err)
	return accountID
}

func (w *world) newPublisher(owner person) string {
	w.t.Helper()
	op, err := w.publishers.CreatePublisher(w.as(owner), &marketplacev1.CreatePublisherRequest{BillingAccountId: w.account(owner), Name: "Acme"})
	return done[*marketplacev1.Publisher](w, op, err)(new(marketplacev1.Publisher)).GetId()
}

// draft makes a product of the world's publisher.
func (w *world) draft(access marketplacev1.Product_Access) string {
	w.t.Helper()
	op, err := w.products.CreateProduct(w.as(w.olga), &marketplacev1.CreateProductRequest{
		PublisherId: w.publisher, Slug: w.unique("product"), Type: marketplacev1.Product_SAAS, Access: access,
		Names: map[string]string{"en": "Thing", "ru": "Вещь"},
	})
	return done[*marketplacev1.Product](w, op, err)(new(marketplacev1.Product)).GetId()
}

// product makes one that is offered.
func (w *world) product(access marketplacev1.Product_Access) string {
	w.t.Helper()
	productID := w.draft(access)
	_, err := w.products.SubmitProduct(w.as(w.olga), &marketplacev1.SubmitProductRequest{ProductId: productID})
	w.must(err)
	_, err = w.desk.ReviewProduct(w.t.Context(), &marketplacev1.ReviewProductRequest{ProductId: productID, Approve: true})
	w.must(err)
	return productID
}

// folder makes a folder of somebody.
func (w *world) folder(owner person) string {
	w.t.Helper()
	op, err := w.clouds.Create(w.as(owner), &rmv1.CreateCloudRequest{Name: "prod"})
	c := done[*rmv1.Cloud](w, op, err)(new(rmv1.Cloud))
	op, err = w.folders.Create(w.as(owner), &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "main"})
	return done[*rmv1.Folder](w, op, err)(new(rmv1.Folder)).GetId()
}

// customer is somebody with a folder.
type customer struct {
	person
	folder string
}

func (w *world) customer(login string) customer {
	w.t.Helper()
	p := w.person(login)
	return customer{p, w.folder(p)}
}

func (w *world) give(by person, typ, id, role string, to person) {
	w.t.Helper()
	w.must(w.changeRole(by, typ, id, role, to, accesspb.AccessBindingAction_ADD))
}

func (w *world) changeRole(by person, typ, id, role string, who person, action accesspb.AccessBindingAction) error {
	_, err := w.bindings.UpdateAccessBindings(w.as(by), &accessv1.UpdateAccessBindingsRequest{
		Resource: &accessv1.Resource{Type: typ, Id: id}, AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
			Action: action, AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: who.subject()},
		}},
	})
	return err
}

// ask files a request.
func (w *world) ask(c customer, productID string) (string, error) {
	op, err := w.requests.CreateProductAccessRequest(w.as(c.person), &marketplacev1.CreateProductAccessRequestRequest{
		ProductId: productID, FolderId: c.folder, Reason: "We need it.",
	})
	if err != nil {
		return "", err
	}
	return done[*marketplacev1.ProductAccessRequest](w, op, nil)(new(marketplacev1.ProductAccessRequest)).GetId(), nil
}

func (w *world) mustAsk(c customer, productID string) string {
	w.t.Helper()
	requestID, err := w.ask(c, productID)
	w.must(err)
	return requestID
}

func (w *world) approve(by person, requestID string) error {
	op, err := w.requests.ApproveProductAccessRequest(w.as(by), &marketplacev1.ApproveProductAccessRequestRequest{RequestId: requestID})
	if err == nil && !op.GetDone() {
		w.t.Errorf("the approval of %s is not done: %v", requestID, op)
	}
	return err
}

func (w *world) reject(by person, requestID string) error {
	_, err := w.requests.RejectProductAccessRequest(w.as(by), &marketplacev1.RejectProductAccessRequestRequest{RequestId: requestID, Comment: "No."})
	return err
}

func (w *world) cancel(by person, requestID string) error {
	_, err := w.requests.CancelProductAccessRequest(w.as(by), &marketplacev1.CancelProductAccessRequestRequest{RequestId: requestID})
	return err
}

func (w *world) plead(by person, requestID string) error {
	_, err := w.requests.RequestRevocation(w.as(by), &marketplacev1.RequestRevocationRequest{RequestId: requestID, Reason: "They left."})
	return err
}

func (w *world) say(by person, requestID, text string) error {
	_, err := w.requests.CreateProductAccessRequestMessage(w.as(by), &marketplacev1.CreateProductAccessRequestMessageRequest{RequestId: requestID, Text: text})
	return err
}

func (w *world) revoke(requestID string) error {
	_, err := w.desk.RevokeAccessRequest(w.t.Context(), &marketplacev1.RevokeAccessRequestRequest{RequestId: requestID, Reason: "As asked."})
	return err
}

// may holds CheckAccess, and the check behind it, to an answer.
func (w *world) may(p person, productID string, want bool) {
	w.t.Helper()
	_, err := w.products.CheckAccess(w.as(p), &marketplacev1.CheckAccessRequest{ProductId: productID})
	if (err == nil) != want || err != nil && apierr.ReasonOf(err) != apierr.ReasonPermissionDenied {
		w.t.Errorf("%s may install: %v, want %v", p.login, err, want)
	}
}

func (w *world) install(c customer, productID, name string) (string, error) {
	op, err := w.instances.CreateProductInstance(w.as(c.person), &marketplacev1.CreateProductInstanceRequest{FolderId: c.folder, ProductId: productID, Name: name})
	if err != nil {
		return "", err
	}
	return done[*marketplacev1.ProductInstance](w, op, nil)(new(marketplacev1.ProductInstance)).GetId(), nil
}

func (w *world) state(requestID string) string {
	w.t.Helper()
	r, err := w.desk.GetAccessRequest(w.t.Context(), &marketplacev1.GetAccessRequestRequest{RequestId: requestID})
	w.must(err)
	return r.GetState().String()
}

// users are the ids of a product's users, joined.
func (w *world) users(productID string) string {
	w.t.Helper()
	resp, err := w.products.ListProductUsers(w.as(w.pia), &marketplacev1.ListProductUsersRequest{ProductId: productID})
	w.must(err)
	var all []string
	for _, u := range resp.GetUsers() {
		all = append(all, u.GetSubjectId())
	}
	return strings.Join(all, " ")
}

// eventually waits for what happens beside the test.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within 20 s", what)
		}
	}
}
