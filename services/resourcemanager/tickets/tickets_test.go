package tickets_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/notice"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/pkg/thread"
	"github.com/bindery-iam/bindery/pkg/writes"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/notifications"
	"github.com/bindery-iam/bindery/services/resourcemanager"
	"github.com/bindery-iam/bindery/services/resourcemanager/tickets"
)

// world is the real units, with a cloud of ann's.
type world struct {
	*servertest.World
	t        *testing.T
	db       *sqldb.DB
	ahead    atomic.Int64
	tickets  supportv1.TicketServiceClient
	desk     supportv1.OperatorServiceClient
	operator identityv1.OperatorServiceClient
	ann      person
	cloud    *rmv1.Cloud
}

type person struct{ id, login, token string }

func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	sqldbtest.ForEach(t, "resourcemanager", resourcemanager.Unit().Migrations, func(t *testing.T, db *sqldb.DB) {
		cat, err := catalog.Load()
		if err != nil {
			t.Fatal(err)
		}
		w := &world{t: t, db: db}
		w.World = servertest.Start(t, servertest.Options{
			Units: []server.Unit{accessbindings.Unit(), identity.Unit(), resourcemanager.Unit(), notifications.Unit()}, DB: db, Catalog: cat,
			Now: func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) },
		})
		socket, err := server.DialOperator(w.DataDir)
		w.must(err)
		t.Cleanup(func() { _ = socket.Close() }) // the test is over
		w.tickets, w.desk = supportv1.NewTicketServiceClient(w.Conn), supportv1.NewOperatorServiceClient(socket)
		w.operator = identityv1.NewOperatorServiceClient(socket)
		w.ann = w.person("ann")
		w.cloud = w.newCloud(w.ann)
		f(t, w)
	})
}

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

func (w *world) person(login string) person {
	w.t.Helper()
	u, err := w.operator.CreateUser(w.t.Context(), &identityv1.CreateUserRequest{Login: login, Email: login + "@people.example"})
	w.must(err)
	token, err := w.operator.CreateToken(w.t.Context(), &identityv1.CreateTokenRequest{Login: login})
	w.must(err)
	return person{u.GetId(), login, token.GetIamToken()}
}

func (w *world) as(p person) context.Context { return w.Context(p.token) }

// done unpacks the response of an operation that is done.
func done[M proto.Message](w *world, op *operationpb.Operation, err error, into M) M {
	w.t.Helper()
	w.must(err)
	if !op.GetDone() {
		w.t.Fatalf("operation %v, want it done", op)
	}
	w.must(op.GetResponse().UnmarshalTo(into))
	return into
}

func (w *world) newCloud(owner person) *rmv1.Cloud {
	w.t.Helper()
	op, err := rmv1.NewCloudServiceClient(w.Conn).Create(w.as(owner), &rmv1.CreateCloudRequest{Name: "prod"})
	return done(w, op, err, new(rmv1.Cloud))
}

func (w *world) give(by person, on *accessv1.Resource, role string, to person) {
	w.t.Helper()
	w.must(w.change(by, on, role, to, accesspb.AccessBindingAction_ADD))
}

// change gives a role or takes it away.
func (w *world) change(by person, on *accessv1.Resource, role string, of person, action accesspb.AccessBindingAction) error {
	_, err := accessv1.NewAccessBindingServiceClient(w.Conn).UpdateAccessBindings(w.as(by), &accessv1.UpdateAccessBindingsRequest{
		Resource: on, AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
			Action:        action,
			AccessBinding: &accessv1.AccessBinding{RoleId: role, Subject: &accessv1.Subject{Type: "userAccount", Id: of.id}},
		}},
	})
	return err
}

func cloudOf(c *rmv1.Cloud) *accessv1.Resource {
	return &accessv1.Resource{Type: "resource-manager.cloud", Id: c.GetId()}
}

func (w *world) file(by person, on *accessv1.Resource) (string, error) {
	op, err := w.tickets.CreateTicket(w.as(by), &supportv1.CreateTicketRequest{Resource: on, Title: "It is slow", Text: "Since yesterday."})
	if err != nil {
		return "", err
	}
	return done(w, op, nil, new(supportv1.Ticket)).GetId(), nil
}

func (w *world) mustFile() string {
	w.t.Helper()
	id, err := w.file(w.ann, cloudOf(w.cloud))
	w.must(err)
	return id
}

func (w *world) comment(by person, id string) error {
	_, err := w.tickets.CreateTicketComment(w.as(by), &supportv1.CreateTicketCommentRequest{TicketId: id, Text: "Still."})
	return err
}

// attach sends a file by parts of a size.
func (w *world) attach(ctx context.Context, id, name string, size int64, data []byte, part int) (*supportv1.TicketAttachment, error) {
	stream, err := w.tickets.UploadTicketAttachment(ctx)
	if err != nil {
		return nil, err
	}
	msg := &supportv1.UploadTicketAttachmentRequest{TicketId: id, Name: name, Size: size}
	for first := true; first || len(data) > 0; first = false {
		n := min(part, len(data))
		msg.Data, data = data[:n], data[n:]
		if err := stream.Send(msg); err != nil {
			break // the answer tells why
		}
		msg = new(supportv1.UploadTicketAttachmentRequest)
	}
	return stream.CloseAndRecv()
}

func (w *world) download(by person, id, attachment string) ([]byte, error) {
	stream, err := w.tickets.DownloadTicketAttachment(w.as(by), &supportv1.DownloadTicketAttachmentRequest{TicketId: id, AttachmentId: attachment})
	var all []byte
	for err == nil {
		var part interface{ GetData() []byte }
		if part, err = stream.Recv(); err == nil {
			all = append(all, part.GetData()...)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return all, err
}

// rows counts what a query finds.
func (w *world) rows(query string) (n int) {
	w.t.Helper()
	w.must(w.db.QueryRowContext(w.t.Context(), query).Scan(&n))
	return n
}

func (w *world) eventually(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("%s: not within 20 s", what)
		}
	}
}

// Every action of everyone: what a role on the cloud opens, and nothing else does. A
// partner's roles on what pays for the cloud open nothing (SC-9).
func TestST1_SC9_EveryActionOfEveryone(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		beside := w.newCloud(w.person("bob"))
		people := map[string]person{"owner": w.ann, "member": w.person("member"), "viewer": w.person("viewer"), "of another cloud": w.person("other"), "stranger": w.person("stranger")}
		w.give(w.ann, cloudOf(w.cloud), "resource-manager.clouds.member", people["member"])
		w.give(w.ann, cloudOf(w.cloud), "viewer", people["viewer"])
		bob := person{token: func() string {
			token, err := w.operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "bob"})
			w.must(err)
			return token.GetIamToken()
		}()}
		w.give(bob, cloudOf(beside), "resource-manager.clouds.member", people["of another cloud"])
		partner := w.person("partner")
		people["partner"] = partner
		_, err := accessv1.NewResourceServiceClient(w.Unit("partner", "accessbindings")).RegisterResource(t.Context(), &accessv1.RegisterResourceRequest{
			Resource:       &accessv1.Resource{Type: "billing.account", Id: "account"},
			AccessBindings: []*accessv1.AccessBinding{{RoleId: "billing.accounts.owner", Subject: &accessv1.Subject{Type: "userAccount", Id: partner.id}}},
		})
		w.must(err)
		id := w.mustFile()
		file, err := w.attach(w.as(w.ann), id, "log.txt", 5, []byte("hello"), 5)
		w.must(err)
		actions := map[string]func(p person) error{
			"create": func(p person) error { _, err := w.file(p, cloudOf(w.cloud)); return err },
			"get": func(p person) error {
				_, err := w.tickets.GetTicket(w.as(p), &supportv1.GetTicketRequest{TicketId: id})
				return err
			},
			"list": func(p person) error {
				_, err := w.tickets.ListTickets(w.as(p), &supportv1.ListTicketsRequest{Resource: cloudOf(w.cloud)})
				return err
			},
			"comment": func(p person) error { return w.comment(p, id) },
			"read comments": func(p person) error {
				_, err := w.tickets.ListTicketComments(w.as(p), &supportv1.ListTicketCommentsRequest{TicketId: id})
				return err
			},
			"mark read": func(p person) error {
				_, err := w.tickets.MarkTicketCommentsRead(w.as(p), &supportv1.MarkTicketCommentsReadRequest{TicketId: id, Number: 1})
				return err
			},
			"attach": func(p person) error {
				_, err := w.attach(w.as(p), id, "more.txt", 4, []byte("more"), 4)
				return err
			},
			"download": func(p person) error { _, err := w.download(p, id, file.GetId()); return err },
			"close": func(p person) error {
				_, err := w.tickets.CloseTicket(w.as(p), &supportv1.CloseTicketRequest{TicketId: id})
				return err
			},
		}
		looks := []string{"get", "list", "read comments", "mark read", "download"}
		for who, p := range people {
			for name, action := range actions {
				if name == "close" {
					id = w.mustFile()
				}
				err := action(p)
				want := who == "owner" || who == "member" || who == "viewer" && slices.Contains(looks, name)
				if want && err != nil || !want && apierr.ReasonOf(err) != apierr.ReasonPermissionDenied {
					t.Errorf("%s by %s: %v, want allowed %v", name, who, err, want)
				}
				if name == "close" {
					id = w.mustFile()
					file, err = w.attach(w.as(w.ann), id, "log.txt", 5, []byte("hello"), 5)
					w.must(err)
				}
			}
		}
		_, err = w.tickets.CreateTicket(w.as(w.ann), &supportv1.CreateTicketRequest{
			Resource: &accessv1.Resource{Type: "organization-manager.organization", Id: w.cloud.GetOrganizationId()}, Title: "All of it", Text: "Is slow.",
		})
		w.refused("under an organization", err, "")
	})
}

func TestST2_Bounds(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for what, req := range map[string]*supportv1.CreateTicketRequest{
			"a folder":            {Resource: &accessv1.Resource{Type: "billing.account", Id: "x"}, Title: "a", Text: "b"},
			"two lines":           {Resource: cloudOf(w.cloud), Title: "a\nb", Text: "b"},
			"white space":         {Resource: cloudOf(w.cloud), Title: "  ", Text: "b"},
			"no words":            {Resource: cloudOf(w.cloud), Title: "a", Text: "\n"},
			"a control character": {Resource: cloudOf(w.cloud), Title: "a\x07", Text: "b"},
			"too many characters": {Resource: cloudOf(w.cloud), Title: "a", Text: strings.Repeat("ж", thread.MaxCharacters+1)},
		} {
			if _, err := w.tickets.CreateTicket(w.as(w.ann), req); err == nil {
				t.Errorf("%s is taken", what)
			}
		}
		first := w.mustFile()
		for range tickets.MaxOpen - 1 {
			w.mustFile()
		}
		_, err := w.file(w.ann, cloudOf(w.cloud))
		w.refused("one more", err, tickets.ReasonTooMany)
		_, err = w.tickets.CloseTicket(w.as(w.ann), &supportv1.CloseTicketRequest{TicketId: first})
		w.must(err)
		w.mustFile()
		var seen []string
		for req := (&supportv1.ListTicketsRequest{Resource: cloudOf(w.cloud), PageSize: 30, Filter: `state = "OPEN"`}); ; {
			resp, err := w.tickets.ListTickets(w.as(w.ann), req)
			w.must(err)
			for _, one := range resp.GetTickets() {
				seen = append(seen, one.GetId())
			}
			if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if slices.Sort(seen); len(slices.Compact(seen)) != tickets.MaxOpen || slices.Contains(seen, first) {
			t.Errorf("%d open tickets are listed", len(seen))
		}
	})
}

func TestST3_AClosedTicketTakesNothing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		id := w.mustFile()
		for range 2 { // again it changes nothing
			op, err := w.tickets.CloseTicket(w.as(w.ann), &supportv1.CloseTicketRequest{TicketId: id})
			got := done(w, op, err, new(supportv1.Ticket))
			if got.GetState() != supportv1.Ticket_CLOSED || got.GetClosedBy() != w.ann.id || got.GetClosedAt() == nil {
				t.Errorf("it is %v", got)
			}
		}
		w.refused("a comment", w.comment(w.ann, id), tickets.ReasonTicketClosed)
		_, err := w.attach(w.as(w.ann), id, "a", 1, []byte("a"), 1)
		w.refused("a file", err, tickets.ReasonTicketClosed)
		_, err = w.desk.CreateComment(t.Context(), &supportv1.CreateCommentRequest{TicketId: id, Text: "Late."})
		w.refused("an answer", err, tickets.ReasonTicketClosed)
		_, err = w.desk.CloseAnyTicket(t.Context(), &supportv1.CloseAnyTicketRequest{TicketId: id})
		w.refused("close it again", err, "")
		if n := w.rows(`SELECT COUNT(*) FROM resourcemanager_attachments`); n != 0 {
			t.Errorf("%d attachments are left of what was refused", n)
		}
	})
}

// service is the service once more, over the same store, for what it does by itself.
func (w *world) service() *tickets.Service {
	w.t.Helper()
	queue := jobs.New(jobs.Config{DB: w.db, Unit: "resourcemanager", Log: zap.NewNop()})
	return tickets.New(tickets.Deps{
		Unit: "resourcemanager", Writes: writes.Writer{DB: w.db, Jobs: queue}, Jobs: queue, Outbox: new(notice.Outbox), Log: zap.NewNop(),
		Tree: accessv1.NewResourceServiceClient(w.Unit("resourcemanager", "accessbindings")),
		Now:  func() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())).Truncate(time.Microsecond) },
	})
}

func TestST5_TheFilerIsTold(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		id := w.mustFile()
		w.must(w.comment(w.ann, id))
		all, err := w.desk.ListAllTickets(t.Context(), &supportv1.ListAllTicketsRequest{Filter: `state = "OPEN"`})
		w.must(err)
		if len(all.GetTickets()) != 1 || all.GetTickets()[0].GetUnreadCount() != 2 || all.GetTickets()[0].GetCommentCount() != 2 {
			t.Errorf("the platform sees %v", all.GetTickets())
		}
		comments, err := w.desk.ListComments(t.Context(), &supportv1.ListCommentsRequest{TicketId: id})
		w.must(err)
		if c := comments.GetComments(); len(c) != 2 || c[0].GetText() != "Since yesterday." || c[0].GetAuthor().GetId() != w.ann.id {
			t.Errorf("the platform reads %v", c)
		}
		_, err = w.desk.CreateComment(t.Context(), &supportv1.CreateCommentRequest{TicketId: id, Text: "secret words"})
		w.must(err)
		_, err = w.desk.CloseAnyTicket(t.Context(), &supportv1.CloseAnyTicketRequest{TicketId: id})
		w.must(err)
		got, err := w.tickets.GetTicket(w.as(w.ann), &supportv1.GetTicketRequest{TicketId: id})
		w.must(err)
		if got.GetUnreadCount() != 1 || got.GetCommentCount() != 3 || got.GetClosedBy() != "" || got.GetState() != supportv1.Ticket_CLOSED {
			t.Errorf("ann sees %v", got)
		}
		want := []string{"ticket.answered:" + id + ":3", "ticket.closed:" + id}
		var told []string
		w.eventually("ann is told", func() bool {
			told = nil
			rows, err := w.db.QueryContext(t.Context(), `SELECT body FROM notifications_notices WHERE event LIKE 'ticket.%' ORDER BY id`)
			w.must(err)
			defer rows.Close()
			for rows.Next() {
				var body []byte
				w.must(rows.Scan(&body))
				n := new(notificationv1.Notice)
				w.must(proto.Unmarshal(body, n))
				told = append(told, n.GetId())
				if strings.Contains(n.GetText(), "secret") || !slices.Equal(n.GetAddresses().GetEmails(), []string{"ann@people.example"}) || n.GetDetails()["target"] != "support.ticket:"+id {
					t.Errorf("the notice is %v", n)
				}
			}
			w.must(rows.Err())
			return len(told) >= len(want)
		})
		if !slices.Equal(told, want) {
			t.Errorf("told of %v, want %v", told, want)
		}
	})
}

func TestST6_TicketsGoWithTheirCloud(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		id := w.mustFile()
		_, err := w.attach(w.as(w.ann), id, "log", 3, []byte("abc"), 2)
		w.must(err)
		beside := w.newCloud(w.person("bob"))
		token, err := w.operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "bob"})
		w.must(err)
		stays, err := w.file(person{token: token.GetIamToken()}, cloudOf(beside))
		w.must(err)
		s := w.service()
		w.must(s.Sweep(t.Context()))
		op, err := rmv1.NewCloudServiceClient(w.Conn).Delete(w.as(w.ann), &rmv1.DeleteCloudRequest{CloudId: w.cloud.GetId(), DeleteAfter: timestamppb.Now()})
		w.must(err)
		if !op.GetDone() {
			t.Fatalf("%v", op)
		}
		_, err = w.tickets.GetTicket(w.as(w.ann), &supportv1.GetTicketRequest{TicketId: id})
		w.refused("read a ticket of what is gone", err, apierr.ReasonResourceNotFound)
		w.must(s.Sweep(t.Context()))
		for _, table := range []string{"tickets", "threads", "thread_messages"} {
			if n := w.rows(`SELECT COUNT(*) FROM resourcemanager_` + table); n != 1 {
				t.Errorf("%d rows of %s are left, want 1", n, table)
			}
		}
		for _, table := range []string{"attachments", "attachment_parts"} {
			if n := w.rows(`SELECT COUNT(*) FROM resourcemanager_` + table); n != 0 {
				t.Errorf("%d rows of %s are left", n, table)
			}
		}
		_, err = w.desk.GetAnyTicket(t.Context(), &supportv1.GetAnyTicketRequest{TicketId: id})
		w.refused("it is gone", err, tickets.ReasonTicketNotFound)
		_, err = w.desk.GetAnyTicket(t.Context(), &supportv1.GetAnyTicketRequest{TicketId: stays})
		w.refused("the other one stays", err, "")
	})
}
