package partner

import (
	"context"
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/marketplacerequests"
	"github.com/bindery-iam/bindery/services/notifications"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// world is the unit beside the real accessbindings, identity, resourcemanager,
// marketplacerequests and notifications.
type world struct {
	*servertest.World
	t     testing.TB
	db    *sqldb.DB
	dir   string
	ahead *atomic.Int64 // by how much the clock is ahead, nanoseconds

	accounts partnerv1.BillingAccountServiceClient
	public   billingv1.BillingAccountServiceClient
	desk     partnerv1.OperatorServiceClient
	people   identityv1.OperatorServiceClient
	clouds   rmv1.CloudServiceClient
	orgs     orgv1.OrganizationServiceClient

	partners    partnerv1.PartnerServiceClient
	subaccounts partnerv1.SubaccountServiceClient
	customers   billingv1.CustomerServiceClient
	bindings    accessv1.AccessBindingServiceClient
}

// worldUnits are the units of a world.
func worldUnits() []server.Unit {
	return []server.Unit{accessbindings.Unit(), identity.Unit(), resourcemanager.Unit(), notifications.Unit(), marketplacerequests.Unit(), Unit()}
}

// forEach runs a test in a world of its own on both engines.
func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	sqldbtest.ForEach(t, Name, servertest.Series(worldUnits()...), func(t *testing.T, db *sqldb.DB) {
		w := &world{t: t, db: db, dir: t.TempDir(), ahead: new(atomic.Int64)}
		w.start()
		f(t, w)
	})
}

// start runs the process.
func (w *world) start() {
	w.t.Helper()
	cat, err := catalog.Load()
	if err != nil {
		w.t.Fatal(err)
	}
	w.World = servertest.Start(w.t, servertest.Options{
		Units: worldUnits(),
		DB:    w.db, Catalog: cat, DataDir: w.dir,
		Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
	})
	socket, err := server.DialOperator(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = socket.Close() }) // the test is over
	w.accounts = partnerv1.NewBillingAccountServiceClient(w.Conn)
	w.public = billingv1.NewBillingAccountServiceClient(w.Conn)
	w.desk = partnerv1.NewOperatorServiceClient(socket)
	w.people = identityv1.NewOperatorServiceClient(socket)
	w.clouds, w.orgs = rmv1.NewCloudServiceClient(w.Conn), orgv1.NewOrganizationServiceClient(w.Conn)
	w.partners, w.subaccounts = partnerv1.NewPartnerServiceClient(w.Conn), partnerv1.NewSubaccountServiceClient(w.Conn)
	w.customers = billingv1.NewCustomerServiceClient(w.Conn)
	w.bindings = accessv1.NewAccessBindingServiceClient(w.Conn)
}

// restart ends the process and runs another one over the same data.
func (w *world) restart() {
	w.t.Helper()
	w.Stop()
	w.start()
}

// must fails the test on an error and returns the value.
func must[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatalf("call failed: %v", err)
		}
		return v
	}
}

// wantRefusal checks code and reason of an error. A field counts as the reason of
// INVALID_ARGUMENT.
func wantRefusal(t *testing.T, what string, err error, code codes.Code, reason string) {
	t.Helper()
	got := apierr.ReasonOf(err)
	if e, ok := apierr.As(apierr.FromRPC(err)); ok && len(e.Fields) > 0 {
		got = e.Fields[0].Name
	}
	if apierr.CodeOf(err) != code || got != reason {
		t.Errorf("%s: %v (%v, %s); want %v, %s", what, err, apierr.CodeOf(err), got, code, reason)
	}
}

// person is a user that can act.
type person struct{ id, login, email, token string }

// person makes a user.
func (w *world) person(login string) person {
	w.t.Helper()
	u := must(w.people.CreateUser(w.t.Context(), &identityv1.CreateUserRequest{Login: login, Email: login + "@people.example"}))(w.t)
	token := must(w.people.CreateToken(w.t.Context(), &identityv1.CreateTokenRequest{Login: login}))(w.t)
	return person{u.GetId(), login, login + "@people.example", token.GetIamToken()}
}

// again signs a person in again, whose token ended when time passed.
func (w *world) again(p person) person {
	w.t.Helper()
	p.token = must(w.people.CreateToken(w.t.Context(), &identityv1.CreateTokenRequest{Login: p.login}))(w.t).GetIamToken()
	return p
}

// eventually waits for something to become true.
func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) { // what is waited for happens beside the test
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func (p person) subject() *accessv1.Subject { return &accessv1.Subject{Type: "userAccount", Id: p.id} }

// as returns a context of calls of a person.
func (w *world) as(p person) context.Context { return w.Context(p.token) }

// done unpacks response and metadata of an operation that is done; nil is not looked at.
func (w *world) done(op *operationpb.Operation, response, metadata proto.Message) {
	w.t.Helper()
	if !op.GetDone() || op.GetResponse() == nil {
		w.t.Fatalf("operation %v, want it done with a response", op)
	}
	for into, from := range map[proto.Message]interface{ UnmarshalTo(proto.Message) error }{response: op.GetResponse(), metadata: op.GetMetadata()} {
		if into == nil {
			continue
		}
		if err := from.UnmarshalTo(into); err != nil {
			w.t.Fatal(err)
		}
	}
}

// account makes a billing account of somebody, in a state.
func (w *world) account(owner person, state partnerv1.BillingAccount_State) string {
	w.t.Helper()
	a := new(partnerv1.BillingAccount)
	w.done(must(w.accounts.CreateBillingAccount(w.as(owner), &partnerv1.CreateBillingAccountRequest{
		Name: "account of " + owner.login, CountryCode: "RU", Currency: "RUB",
	}))(w.t), a, nil)
	if state != partnerv1.BillingAccount_NEW {
		w.state(a.GetId(), state)
	}
	return a.GetId()
}

// state has the operator put an account into a state.
func (w *world) state(accountID string, state partnerv1.BillingAccount_State) {
	w.t.Helper()
	must(w.desk.SetBillingAccountState(w.t.Context(), &partnerv1.SetBillingAccountStateRequest{BillingAccountId: accountID, State: state}))(w.t)
}

// cloud makes the first cloud of somebody, or another in an organization.
func (w *world) cloud(owner person, organizationID string) *rmv1.Cloud {
	w.t.Helper()
	c := new(rmv1.Cloud)
	w.done(must(w.clouds.Create(w.as(owner), &rmv1.CreateCloudRequest{Name: "prod", OrganizationId: organizationID}))(w.t), c, nil)
	return c
}

// grant gives a role on a resource, by somebody who may.
func (w *world) grant(by person, typ, id, role string, to person) {
	w.t.Helper()
	req := &accessv1.UpdateAccessBindingsRequest{Resource: &accessv1.Resource{Type: typ, Id: id}}
	roles := []string{role}
	if typ == typeAccount && role != roleMember {
		roles = append(roles, roleMember) // AS-20
	}
	for _, r := range roles {
		req.AccessBindingDeltas = append(req.AccessBindingDeltas, &accessv1.AccessBindingDelta{
			Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accessv1.AccessBinding{RoleId: r, Subject: to.subject()},
		})
	}
	must(w.bindings.UpdateAccessBindings(w.as(by), req))(w.t)
}

// bind is a request to link a cloud to an account.
func bind(accountID, cloudID string) *billingv1.BindBillableObjectRequest {
	return &billingv1.BindBillableObjectRequest{
		BillingAccountId: accountID, BillableObject: &billingv1.BillableObject{Id: cloudID, Type: objectCloud},
	}
}

// events returns the audit events of the unit so far, as "type status subject".
func (w *world) events() []string {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT record FROM partner_audit ORDER BY number`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var text string
		var r audit.Record
		if err := rows.Scan(&text); err != nil {
			w.t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, strings.Join([]string{strings.TrimPrefix(r.EventType, "bindery.audit."), string(r.EventStatus), r.Authentication.SubjectID}, " "))
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}
