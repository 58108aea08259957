package accessbindings

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// Short names of what the tests speak about.
const (
	viewer     = "viewer"
	editor     = "editor"
	admin      = "admin"
	cloudOwner = "resource-manager.clouds.owner"
	orgOwner   = "organization-manager.organizations.owner"

	getCloud  = "resource-manager.clouds.get"
	getFolder = "resource-manager.folders.get"
)

var (
	org1    = Ref{typeOrganization, "org1"}
	org2    = Ref{typeOrganization, "org2"}
	cloud1  = Ref{"resource-manager.cloud", "cloud1"}
	folder1 = Ref{"resource-manager.folder", "folder1"}
	folder2 = Ref{"resource-manager.folder", "folder2"}

	olga = user("olga") // owner of org1
	carl = user("carl") // owner of cloud1, by its creation
	adam = user("adam") // admin of cloud1
	vera = user("vera") // nothing yet
	nick = user("nick") // nothing, ever
)

func user(id string) Subject  { return Subject{rules.UserAccount, id} }
func robot(id string) Subject { return Subject{rules.ServiceAccount, id} }
func group(id string) Subject { return Subject{rules.Group, id} }

// migrationsOf are all that the unit needs in a database.
func migrationsOf() []sqldb.Migrations {
	return Unit().Migrations
}

// world is the unit served by the real process, and clients of all kinds.
type world struct {
	*servertest.World
	t         testing.TB
	db        *sqldb.DB
	clock     *clock
	units     map[string]accessv1.ResourceServiceClient
	service   *Service
	bindings  accessv1.AccessBindingServiceClient
	roles     iamv1.RoleServiceClient
	check     accessservicev2.AccessServiceClient
	asker     accessservicev2.AccessServiceClient // as resourcemanager
	resources accessv1.ResourceServiceClient      // as resourcemanager
	identity  accessv1.ResourceServiceClient      // as identity
	subjects  accessv1.SubjectServiceClient       // as identity
	oplog     accessv1.OperationLogServiceClient
	questions accessv1.PermissionServiceClient

	groups  orgv1.GroupServiceClient
	manager *manager
}

// serve starts the unit over a database.
func serve(t testing.TB, db *sqldb.DB) *world { return serveWith(t, db, New) }

// serveWith starts the unit as made by build.
func serveWith(t testing.TB, db *sqldb.DB, build func(context.Context, server.Base) (*Service, error)) *world {
	t.Helper()
	w := &world{t: t, db: db, clock: new(clock), manager: new(manager), units: map[string]accessv1.ResourceServiceClient{}}
	unit := Unit()
	unit.Build = func(ctx context.Context, base server.Base) (*server.Parts, error) {
		service, err := build(ctx, base)
		if err != nil {
			return nil, err
		}
		w.service = service
		service.committer.commit = commitUnlessLosing
		return service.Parts(), nil
	}
	w.World = servertest.Start(t, servertest.Options{Units: []server.Unit{unit, w.manager.unit(testCatalog(t))}, DB: db, Catalog: testCatalog(t), Now: w.clock.now, Log: zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel)), Change: func(o *server.Options) {
		o.TrustedUnits["kms"] = o.TrustedUnits["test"] // a service elsewhere
	}})
	w.connect()
	return w
}

// connect makes the clients of the unit.
func (w *world) connect() {
	manager, identity := w.Unit("resourcemanager", Name), w.Unit("identity", Name)
	w.bindings = accessv1.NewAccessBindingServiceClient(w.Conn)
	w.groups = orgv1.NewGroupServiceClient(w.Conn)
	w.questions = accessv1.NewPermissionServiceClient(w.Conn)
	w.roles = iamv1.NewRoleServiceClient(w.Conn)
	w.check, w.asker = accessservicev2.NewAccessServiceClient(w.Conn), accessservicev2.NewAccessServiceClient(manager)
	w.resources = accessv1.NewResourceServiceClient(manager)
	w.oplog = accessv1.NewOperationLogServiceClient(manager)
	w.identity = accessv1.NewResourceServiceClient(identity)
	w.subjects = accessv1.NewSubjectServiceClient(identity)
}

// forEach runs f over both engines, each with a small world: org1 of olga with
// cloud1 of carl, administered by adam, with folder1 and folder2; org2 is olga's
// as well.
func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	sqldbtest.ForEach(t, Name, migrationsOf(), func(t *testing.T, db *sqldb.DB) {
		w := serve(t, db)
		w.populate()
		f(t, w)
	})
}

// clock is a time that tests move, or stop.
type clock struct{ ahead, stopped atomic.Int64 }

func (c *clock) now() time.Time {
	if at := c.stopped.Load(); at != 0 {
		return time.UnixMicro(at)
	}
	return time.Now().Add(time.Duration(c.ahead.Load()))
}

func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// set stops the clock at a time; the zero time lets it run again.
func (c *clock) set(at time.Time) { c.stopped.Store(sqldb.Micros(at)) }

func testCatalog(t testing.TB) *catalog.Catalog {
	t.Helper()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// unit returns ResourceService as the unit that keeps a type.
func (w *world) unit(resourceType string) accessv1.ResourceServiceClient {
	service, _, _ := strings.Cut(resourceType, ".")
	name, ok := owners[resourceType]
	if !ok {
		if name, ok = owners[service]; !ok {
			name = service
		}
	}
	if w.units[name] == nil {
		w.units[name] = accessv1.NewResourceServiceClient(w.Unit(name, Name))
	}
	return w.units[name]
}

func (w *world) populate() {
	w.t.Helper()
	for _, who := range []Subject{olga, carl, adam, vera, nick} {
		w.know(who)
	}
	w.register(org1, Ref{}, []Pair{{orgOwner, olga}}, olga)
	w.register(org2, Ref{}, []Pair{{orgOwner, olga}}, olga)
	w.register(cloud1, org1, []Pair{{cloudOwner, carl}})
	w.register(folder1, cloud1, nil)
	w.register(folder2, cloud1, nil)
	w.mustUpdate(olga, cloud1, add(admin, adam))
}

func (w *world) know(who Subject) { w.state(who, stateActive) }

func (w *world) state(who Subject, state State) {
	w.t.Helper()
	_, err := w.subjects.SetSubject(w.t.Context(), &accessv1.SetSubjectRequest{Subject: who.proto(), State: state})
	w.must(err)
}

func (w *world) register(r, parent Ref, given []Pair, members ...Subject) {
	w.t.Helper()
	w.must(w.tryRegister(r, parent, given, members...))
}

func (w *world) tryRegister(r, parent Ref, given []Pair, members ...Subject) error {
	req := &accessv1.RegisterResourceRequest{Resource: r.proto(), Parent: parent.proto()}
	for _, p := range given {
		req.AccessBindings = append(req.AccessBindings, &accessv1.AccessBinding{RoleId: p.Role, Subject: p.Subject.proto()})
	}
	for _, m := range members {
		req.Members = append(req.Members, m.proto())
	}
	client := w.resources
	if r.Type == typeServiceAccount || strings.HasPrefix(r.Type, "marketplace.") {
		client = w.unit(r.Type)
	}
	_, err := client.RegisterResource(w.t.Context(), req)
	return err
}

func (w *world) members(container Ref, add, remove []Subject) error {
	req := &accessv1.UpdateMembersRequest{Container: container.proto()}
	for _, s := range add {
		req.Add = append(req.Add, s.proto())
	}
	for _, s := range remove {
		req.Remove = append(req.Remove, s.proto())
	}
	_, err := w.subjects.UpdateMembers(w.t.Context(), req)
	return err
}

// delta, add and remove make deltas.
func delta(action accesspb.AccessBindingAction, role string, who Subject) *accessv1.AccessBindingDelta {
	return &accessv1.AccessBindingDelta{Action: action, AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: who.proto()}}
}

func add(role string, who Subject) *accessv1.AccessBindingDelta {
	return delta(accesspb.AccessBindingAction_ADD, role, who)
}

func remove(role string, who Subject) *accessv1.AccessBindingDelta {
	return delta(accesspb.AccessBindingAction_REMOVE, role, who)
}

// until gives a delta an end.
func until(d *accessv1.AccessBindingDelta, end time.Time) *accessv1.AccessBindingDelta {
	d.AccessBinding.ExpiresAt = timestamppb.New(end)
	return d
}

func (w *world) update(as Subject, r Ref, deltas ...*accessv1.AccessBindingDelta) (*operationpb.Operation, error) {
	return w.bindings.UpdateAccessBindings(w.Subject(as.Type, as.ID),
		&accessv1.UpdateAccessBindingsRequest{Resource: r.proto(), AccessBindingDeltas: deltas})
}

func (w *world) mustUpdate(as Subject, r Ref, deltas ...*accessv1.AccessBindingDelta) *operationpb.Operation {
	w.t.Helper()
	op, err := w.update(as, r, deltas...)
	w.must(err)
	return op
}

func (w *world) set(as Subject, r Ref, pairs ...Pair) (*operationpb.Operation, error) {
	req := &accessv1.SetAccessBindingsRequest{Resource: r.proto()}
	for _, p := range pairs {
		req.AccessBindings = append(req.AccessBindings, &accessv1.AccessBinding{RoleId: p.Role, Subject: p.Subject.proto()})
	}
	return w.bindings.SetAccessBindings(w.Subject(as.Type, as.ID), req)
}

// list reads all bindings of a resource in pages of a size, each as "role type:id".
func (w *world) list(as Subject, r Ref, size int64) []string {
	w.t.Helper()
	var all []string
	req := &accessv1.ListAccessBindingsRequest{Resource: r.proto(), PageSize: size}
	for {
		resp, err := w.bindings.ListAccessBindings(w.Subject(as.Type, as.ID), req)
		w.must(err)
		for _, b := range resp.GetAccessBindings() {
			all = append(all, b.GetRoleId()+" "+b.GetSubject().GetType()+":"+b.GetSubject().GetId())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
		if len(resp.GetAccessBindings()) == 0 {
			w.t.Fatal("an empty page with a token")
		}
	}
}

// allowed asks the checker about a subject, by the unit's credential.
func (w *world) allowed(who Subject, permission string, r Ref) bool {
	w.t.Helper()
	_, err := w.authorize(who, permission, r)
	switch status.Code(err) {
	case codes.OK:
		return true
	case codes.PermissionDenied:
		return false
	default:
		w.t.Fatalf("authorize %s %s on %s %s: %v", who.ID, permission, r.Type, r.ID, err)
		return false
	}
}

func (w *world) authorize(who Subject, permission string, path ...Ref) (*accessservicev2.AuthorizeResponse, error) {
	req := &accessservicev2.AuthorizeRequest{Permission: permission, Identity: &accessservicev2.AuthorizeRequest_Subject{Subject: wireSubject(who)}}
	for _, r := range path {
		req.ResourcePath = append(req.ResourcePath, &accessservicev2.Resource{Type: r.Type, Id: r.ID})
	}
	return w.asker.Authorize(w.t.Context(), req)
}

func wireSubject(who Subject) *accessservicev2.Subject {
	switch who.Type {
	case rules.ServiceAccount:
		return &accessservicev2.Subject{Type: &accessservicev2.Subject_ServiceAccount_{ServiceAccount: &accessservicev2.Subject_ServiceAccount{Id: who.ID}}}
	case rules.FederatedUser:
		return &accessservicev2.Subject{Type: &accessservicev2.Subject_UserAccount_{UserAccount: &accessservicev2.Subject_UserAccount{Id: who.ID, FederationId: "fed"}}}
	default:
		return &accessservicev2.Subject{Type: &accessservicev2.Subject_UserAccount_{UserAccount: &accessservicev2.Subject_UserAccount{Id: who.ID}}}
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// refused checks the reason and code of a refusal.
func refused(t testing.TB, err error, code codes.Code, reason string) {
	t.Helper()
	if got := status.Code(err); got != code || apierr.ReasonOf(err) != reason {
		t.Errorf("refused with %v %q (%v), want %v %q", got, apierr.ReasonOf(err), err, code, reason)
	}
}

// effective reads the result of an operation, each delta as "+role type:id".
func effective(t testing.TB, op *operationpb.Operation) []string {
	t.Helper()
	result := new(accesspb.AccessBindingsOperationResult)
	if err := op.GetResponse().UnmarshalTo(result); err != nil {
		t.Fatalf("response of operation: %v", err)
	}
	var out []string
	for _, d := range result.GetEffectiveDeltas() {
		sign := "-"
		if d.GetAction() == accesspb.AccessBindingAction_ADD {
			sign = "+"
		}
		b := d.GetAccessBinding()
		out = append(out, sign+b.GetRoleId()+" "+b.GetSubject().GetType()+":"+b.GetSubject().GetId())
	}
	slices.Sort(out)
	return out
}

func registerRequest(r, parent Ref) *accessv1.RegisterResourceRequest {
	return &accessv1.RegisterResourceRequest{Resource: r.proto(), Parent: parent.proto()}
}

// infoOf is the metadata of the ErrorInfo of a refusal.
func infoOf(err error) map[string]string {
	if e, ok := apierr.As(apierr.FromRPC(err)); ok {
		return e.Meta
	}
	return nil
}

// fieldsOf are the fields that a refusal is about.
func fieldsOf(err error) (names []string) {
	if e, ok := apierr.As(apierr.FromRPC(err)); ok {
		for _, f := range e.Fields {
			names = append(names, f.Name)
		}
	}
	return names
}
