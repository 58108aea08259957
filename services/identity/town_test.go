package identity

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/identity/operator"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// town is the unit beside the real accessbindings and resource manager, with people
// and organizations made through their doors.
type town struct {
	*world
	invitations identityv1.InvitationServiceClient
	members     orgv1.UserServiceClient
	details     iamv1.SubjectDetailsServiceClient
	bindings    accessv1.AccessBindingServiceClient
	clouds      rmv1.CloudServiceClient
	subjects    accessv1.SubjectServiceClient // as the unit identity
	service     *Service
	post        *postOffice
	socket      *grpc.ClientConn // of the operator
}

// postOffice stands in for the unit notifications and keeps what it is to send, by
// the address and the id of the notice.
type postOffice struct {
	notificationv1.UnsafeNotificationServiceServer
	closed atomic.Bool

	mu    sync.Mutex
	taken map[string]*notificationv1.Notice
}

func (p *postOffice) unit() server.Unit {
	return server.Unit{Name: "notifications", Build: func(context.Context, server.Base) (*server.Parts, error) {
		return &server.Parts{Register: func(r grpc.ServiceRegistrar) { notificationv1.RegisterNotificationServiceServer(r, p) }}, nil
	}}
}

// Notify takes a notice.
func (p *postOffice) Notify(_ context.Context, req *notificationv1.NotifyRequest) (*notificationv1.NotifyResponse, error) {
	if p.closed.Load() {
		return nil, errAway
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, to := range req.GetNotice().GetAddresses().GetEmails() {
		p.taken[to+" "+req.GetNotice().GetId()] = req.GetNotice()
	}
	return new(notificationv1.NotifyResponse), nil
}

// mails are what was taken so far.
func (p *postOffice) mails() map[string]*notificationv1.Notice {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.taken)
}

// citizen is a user who is signed in.
type citizen struct {
	id, login, email string
	ctx              context.Context //nolint:containedctx // of a test
}

// inTown runs a test on both engines.
func inTown(t *testing.T, test func(t *testing.T, w *town)) {
	t.Helper()
	sqldbtest.ForEach(t, Name, servertest.Series(Unit(), accessbindings.Unit(), resourcemanager.Unit()), func(t *testing.T, db *sqldb.DB) { test(t, newTown(t, db)) })
}

func newTown(t *testing.T, db *sqldb.DB) *town {
	t.Helper()
	cat, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	clock := new(atomic.Int64)
	w := &town{world: &world{t: t, db: db, clock: clock}, post: &postOffice{taken: make(map[string]*notificationv1.Notice)}}
	self := Unit()
	self.Build = func(ctx context.Context, base server.Base) (*server.Parts, error) {
		if w.service, err = New(ctx, base); err != nil {
			return nil, err
		}
		w.service.cfg = Config{}.withDefaults()
		return w.service.Parts(), nil
	}
	w.World = servertest.Start(t, servertest.Options{
		Units: []server.Unit{accessbindings.Unit(), resourcemanager.Unit(), self, w.post.unit()}, DB: db, Catalog: cat,
		Now: func() time.Time { return time.Now().Add(time.Duration(clock.Load())) },
	})
	conn, err := operator.Dial(w.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	w.operator, w.socket = identityv1.NewOperatorServiceClient(conn), conn
	w.tokens = iamv1.NewIamTokenServiceClient(w.Conn)
	w.logins = iamv1.NewYandexPassportUserAccountServiceClient(w.Conn)
	w.users = iamv1.NewUserAccountServiceClient(w.Conn)
	w.invitations = identityv1.NewInvitationServiceClient(w.Conn)
	w.members = orgv1.NewUserServiceClient(w.Conn)
	w.details = iamv1.NewSubjectDetailsServiceClient(w.Conn)
	w.bindings = accessv1.NewAccessBindingServiceClient(w.Conn)
	w.clouds = rmv1.NewCloudServiceClient(w.Conn)
	w.subjects = accessv1.NewSubjectServiceClient(w.Unit(Name, "accessbindings"))
	return w
}

// citizen makes a user and signs in.
func (w *town) citizen(login string) citizen {
	w.t.Helper()
	u := w.user(login)
	return citizen{id: u.GetId(), login: login, email: login + "@example.com", ctx: w.Context(w.token(u).GetIamToken())}
}

func (c citizen) subject() *accessv1.Subject {
	return &accessv1.Subject{Type: authn.UserAccount, Id: c.id}
}

// keyed is the context of a call of the citizen with an idempotency key.
func (c citizen) keyed(key string) context.Context {
	return metadata.AppendToOutgoingContext(c.ctx, idempotency.Header, key)
}

// organization makes an organization of an owner and returns its id.
func (w *town) organization(owner citizen, name string) string {
	w.t.Helper()
	op, err := brmv1.NewOrganizationServiceClient(w.Conn).CreateOrganization(owner.ctx, &brmv1.CreateOrganizationRequest{Name: name, Title: strings.ToUpper(name)})
	org := new(orgv1.Organization)
	w.done(op, err, org)
	return org.GetId()
}

// cloud makes a cloud and returns its id.
func (w *town) cloud(owner citizen, organizationID string) string {
	w.t.Helper()
	op, err := w.clouds.Create(owner.ctx, &rmv1.CreateCloudRequest{OrganizationId: organizationID, Name: "cloud"})
	cloud := new(rmv1.Cloud)
	w.done(op, err, cloud)
	return cloud.GetId()
}

// done reads the response of an operation that must be done.
func (w *town) done(op *operationpb.Operation, err error, response proto.Message) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
	if !op.GetDone() || op.GetError() != nil || op.GetMetadata() == nil {
		w.t.Fatalf("the operation %v is not done", op)
	}
	if err := op.GetResponse().UnmarshalTo(response); err != nil {
		w.t.Fatal(err)
	}
}

// grant gives a role on a resource.
func (w *town) grant(owner citizen, typ, resourceID, role string, to citizen) {
	w.t.Helper()
	_, err := w.bindings.UpdateAccessBindings(owner.ctx, &accessv1.UpdateAccessBindingsRequest{
		Resource: &accessv1.Resource{Type: typ, Id: resourceID},
		AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
			Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: to.subject()},
		}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// invite invites one address.
func (w *town) invite(by citizen, organizationID, address string) *identityv1.Invitation {
	w.t.Helper()
	op, err := w.invitations.CreateInvitations(by.ctx, &identityv1.CreateInvitationsRequest{OrganizationId: organizationID, Emails: []string{address}})
	resp := new(identityv1.CreateInvitationsResponse)
	w.done(op, err, resp)
	if len(resp.GetInvitations()) != 1 {
		w.t.Fatalf("one address, invitations %v", resp.GetInvitations())
	}
	return resp.GetInvitations()[0]
}

// isMember reports whether the permission checker takes a citizen for a member.
func (w *town) isMember(c citizen, organizationID string) bool {
	w.t.Helper()
	resp, err := w.subjects.ListMemberships(w.t.Context(), &accessv1.ListMembershipsRequest{Subject: c.subject(), ContainerType: typeOrganization})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, container := range resp.GetContainers() {
		if container.GetId() == organizationID {
			return true
		}
	}
	return false
}

// join makes a citizen a member by way of an invitation.
func (w *town) join(owner citizen, organizationID string, who citizen) {
	w.t.Helper()
	inv := w.invite(owner, organizationID, who.email)
	op, err := w.invitations.AcceptInvitation(who.ctx, &identityv1.AcceptInvitationRequest{InvitationId: inv.GetId()})
	w.done(op, err, new(identityv1.Invitation))
}

// federatedContext is the context of calls of a user of a federation.
func (w *town) federatedContext(userID string) context.Context {
	w.t.Helper()
	token, err := w.service.issuer.Issue(authn.FederatedUser, userID, authn.MaxTokenLife)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.Context(token.Text)
}

// eventually waits for what happens by itself.
func (w *town) eventually(what string, done func() bool) {
	w.t.Helper()
	for begun := time.Now(); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Since(begun) > time.Minute {
			w.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// again signs a citizen in again.
func (w *town) again(c citizen) context.Context {
	w.t.Helper()
	token, err := w.operator.CreateToken(w.t.Context(), &identityv1.CreateTokenRequest{Login: c.login})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.Context(token.GetIamToken())
}

// organizationEvents counts the audit records about members (AU-4), by name and
// status; each names its organization first.
func (w *town) organizationEvents() map[string]int {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT record FROM identity_audit WHERE event_type LIKE 'bindery.audit.organizationmanager.%'`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	all := map[string]int{}
	for rows.Next() {
		var text string
		var record audit.Record
		if err := errors.Join(rows.Scan(&text), json.Unmarshal([]byte(text), &record)); err != nil {
			w.t.Fatal(err)
		}
		if path := record.ResourceMetadata.Path; len(path) == 0 || path[0].Type != typeOrganization {
			w.t.Errorf("the record %s does not begin with its organization", text)
		}
		all[strings.TrimPrefix(record.EventType, "bindery.audit.organizationmanager.")+" "+string(record.EventStatus)]++
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}
