package notifications

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// world is the unit beside the real accessbindings, identity and resourcemanager,
// with a mail server and a receiver of webhooks that are real, too.
type world struct {
	*servertest.World
	t        *testing.T
	cfg      Config
	db       *sqldb.DB
	dir      string
	ahead    *atomic.Int64 // by how much the clock is ahead, nanoseconds
	mail     *mailServer
	receiver *receiver
	service  *Service

	notify   notificationv1.NotificationServiceClient
	subs     notificationv1.SubscriptionServiceClient
	desk     notificationv1.OperatorServiceClient
	operator identityv1.OperatorServiceClient
	subjects accessv1.SubjectServiceClient
	clouds   rmv1.CloudServiceClient
	folders  rmv1.FolderServiceClient
	orgs     orgv1.OrganizationServiceClient
}

// forEach runs a test in a world of its own on both engines.
func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	sqldbtest.ForEach(t, Name, servertest.Series(Unit(), accessbindings.Unit(), identity.Unit(), resourcemanager.Unit()), func(t *testing.T, db *sqldb.DB) {
		f(t, newWorld(t, db))
	})
}

// newWorld starts a world over a database, with mail that is sent.
func newWorld(t *testing.T, db *sqldb.DB) *world {
	t.Helper()
	ca, cert := authority(t)
	w := &world{t: t, db: db, dir: t.TempDir(), ahead: new(atomic.Int64), mail: startMail(t, serverTLS(cert)), receiver: startReceiver(t, cert)}
	w.cfg = Config{
		SMTP: SMTP{Host: "127.0.0.1", Port: w.mail.port}, MailFrom: "bindery <no-reply@bindery.example>",
		WebhookAllow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, WebhookPorts: []uint16{443, w.receiver.port},
		tls: clientTLS(ca),
	}
	w.start()
	return w
}

// start runs the process.
func (w *world) start() {
	w.t.Helper()
	cat, err := catalog.Load()
	if err != nil {
		w.t.Fatal(err)
	}
	unit := w.cfg.Unit()
	unit.Build = func(ctx context.Context, base server.Base) (*server.Parts, error) {
		s, err := w.cfg.withDefaults().make(ctx, base)
		if err != nil {
			return nil, err
		}
		w.service = s
		return s.parts(), nil
	}
	w.World = servertest.Start(w.t, servertest.Options{
		Units: []server.Unit{accessbindings.Unit(), identity.Unit(), resourcemanager.Unit(), unit},
		DB:    w.db, Catalog: cat, DataDir: w.dir,
		Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
	})
	socket, err := server.DialOperator(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = socket.Close() }) // the test is over
	w.subs = notificationv1.NewSubscriptionServiceClient(w.Conn)
	w.desk = notificationv1.NewOperatorServiceClient(socket)
	w.operator = identityv1.NewOperatorServiceClient(socket)
	w.notify = notificationv1.NewNotificationServiceClient(w.Unit("resourcemanager", Name))
	w.subjects = accessv1.NewSubjectServiceClient(w.Unit("identity", "accessbindings"))
	w.clouds, w.folders = rmv1.NewCloudServiceClient(w.Conn), rmv1.NewFolderServiceClient(w.Conn)
	w.orgs = orgv1.NewOrganizationServiceClient(w.Conn)
}

// restart ends the process and runs another one over the same data.
func (w *world) restart() {
	w.t.Helper()
	w.Stop()
	w.start()
}

// must fails the test on an error and returns the value.
func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatalf("call failed: %v", err)
		}
		return v
	}
}

// person is a user that can act.
type person struct{ id, login, email, token string }

// person makes a user.
func (w *world) person(login string) person {
	w.t.Helper()
	u := must(w.operator.CreateUser(w.t.Context(), &identityv1.CreateUserRequest{Login: login, Email: login + "@people.example"}))(w.t)
	token := must(w.operator.CreateToken(w.t.Context(), &identityv1.CreateTokenRequest{Login: login}))(w.t)
	return person{u.GetId(), login, login + "@people.example", token.GetIamToken()}
}

func (p person) subject() *accessv1.Subject { return &accessv1.Subject{Type: "userAccount", Id: p.id} }

// as returns a context of calls of a person.
func (w *world) as(p person) context.Context { return w.Context(p.token) }

// tree is one organization with one cloud and one folder.
type tree struct{ org, cloud, folder string }

// tree makes a tree that belongs to somebody.
func (w *world) tree(owner person) tree {
	w.t.Helper()
	c := new(rmv1.Cloud)
	w.done(must(w.clouds.Create(w.as(owner), &rmv1.CreateCloudRequest{Name: "prod"}))(w.t), c)
	f := new(rmv1.Folder)
	w.done(must(w.folders.Create(w.as(owner), &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "billing"}))(w.t), f)
	return tree{org: c.GetOrganizationId(), cloud: c.GetId(), folder: f.GetId()}
}

// done unpacks the response of an operation that is done.
func (w *world) done(op *operationpb.Operation, response proto.Message) {
	w.t.Helper()
	if !op.GetDone() || op.GetResponse() == nil {
		w.t.Fatalf("operation %v, want it done", op)
	}
	if err := op.GetResponse().UnmarshalTo(response); err != nil {
		w.t.Fatal(err)
	}
}

// join makes people members of an organization.
func (w *world) join(org string, people ...person) {
	w.t.Helper()
	req := &accessv1.UpdateMembersRequest{Container: &accessv1.Resource{Type: typeOrganization, Id: org}}
	for _, p := range people {
		req.Add = append(req.Add, p.subject())
	}
	must(w.subjects.UpdateMembers(w.t.Context(), req))(w.t)
}

// about is a notice about a resource.
func about(noticeID, event, typ, id string) *notificationv1.Notice {
	return &notificationv1.Notice{
		Id: noticeID, Event: event, Title: "Title of " + noticeID, Text: "Text of " + noticeID,
		Recipients: &notificationv1.Notice_Audience{Audience: &notificationv1.Audience{Resource: &accessv1.Resource{Type: typ, Id: id}}},
	}
}

// tell sends a notice as a unit.
func (w *world) tell(n *notificationv1.Notice) {
	w.t.Helper()
	must(w.notify.Notify(w.t.Context(), &notificationv1.NotifyRequest{Notice: n}))(w.t)
}

// pass moves the clock and makes all jobs due, as if the time had passed.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	w.ahead.Add(int64(d))
	if _, err := w.db.Pool().ExecContext(w.t.Context(), `UPDATE goqite SET timeout = created`); err != nil {
		w.t.Fatal(err)
	}
	w.service.kick()
}

// deliveries reads those of a notice as "channel target state", ordered.
func (w *world) deliveries(noticeID string) []string {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `
		SELECT channel, target, state FROM notifications_deliveries WHERE notice_id = $1 ORDER BY channel, target`, noticeID)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	all := []string{}
	for rows.Next() {
		var channel, target, state string
		if err := rows.Scan(&channel, &target, &state); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, channel+" "+target+" "+state)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// settled waits until a notice is routed and nothing of it is pending, and returns
// its deliveries.
func (w *world) settled(noticeID string) []string {
	w.t.Helper()
	w.eventually("notice "+noticeID+" is settled", func() bool {
		var pending int
		err := w.db.QueryRowContext(w.t.Context(), `
			SELECT (SELECT COUNT(*) FROM notifications_deliveries WHERE notice_id = $1 AND state = 'PENDING')
				+ 1 - (SELECT COUNT(*) FROM notifications_notices WHERE id = $1 AND routed_at > 0)`, noticeID).Scan(&pending)
		if err != nil {
			w.t.Fatal(err)
		}
		return pending == 0
	})
	return w.deliveries(noticeID)
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

// unique makes the ids of the notices of a test.
var unique atomic.Int64

func newID() string { return fmt.Sprintf("test:%d", unique.Add(1)) }

// errBusy is what a mail server says that wants to be asked again.
var errBusy = &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 0}, Message: "mailbox busy"}

// tokenOf asks for a new token of a person, whose old one ended when time passed.
func tokenOf(p person) *identityv1.CreateTokenRequest {
	return &identityv1.CreateTokenRequest{Login: p.login}
}

// epoch is a time that has passed.
func epoch() *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: 1} }
