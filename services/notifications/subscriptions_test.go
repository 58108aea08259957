package notifications

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

func hook(url string, events ...string) *notificationv1.Webhook {
	return &notificationv1.Webhook{Url: url, Events: events}
}

func addUser(userID string) *notificationv1.SubscriberDelta {
	return &notificationv1.SubscriberDelta{
		Action: notificationv1.SubscriberDelta_ADD, Target: &notificationv1.SubscriberDelta_UserId{UserId: userID},
	}
}

func removeUser(userID string) *notificationv1.SubscriberDelta {
	d := addUser(userID)
	d.Action = notificationv1.SubscriberDelta_REMOVE
	return d
}

func removeSubscriber(subscriberID string) *notificationv1.SubscriberDelta {
	return &notificationv1.SubscriberDelta{
		Action: notificationv1.SubscriberDelta_REMOVE, Target: &notificationv1.SubscriberDelta_SubscriberId{SubscriberId: subscriberID},
	}
}

// subscribe changes the subscribers of a resource as somebody.
func (w *world) subscribe(ctx context.Context, typ, id string, deltas ...*notificationv1.SubscriberDelta) (*operationpb.Operation, error) {
	switch typ {
	case typeOrganization:
		return w.subs.UpdateOrganizationSubscribers(ctx, &notificationv1.UpdateOrganizationSubscribersRequest{OrganizationId: id, Deltas: deltas})
	case typeCloud:
		return w.subs.UpdateCloudSubscribers(ctx, &notificationv1.UpdateCloudSubscribersRequest{CloudId: id, Deltas: deltas})
	default:
		return w.subs.UpdateFolderSubscribers(ctx, &notificationv1.UpdateFolderSubscribersRequest{FolderId: id, Deltas: deltas})
	}
}

// cloudHook makes a webhook of a cloud.
func (w *world) cloudHook(by person, cloud string, hook *notificationv1.Webhook) *notificationv1.CreateCloudWebhookResponse {
	w.t.Helper()
	return must(w.subs.CreateCloudWebhook(w.as(by), &notificationv1.CreateCloudWebhookRequest{CloudId: cloud, Webhook: hook}))(w.t)
}

// cloudSubscribers lists those of a cloud, by ids of people and URLs.
func (w *world) cloudSubscribers(by person, cloud string) []string {
	w.t.Helper()
	resp := must(w.subs.ListCloudSubscribers(w.as(by), &notificationv1.ListCloudSubscribersRequest{CloudId: cloud}))(w.t)
	names := []string{}
	for _, s := range resp.GetSubscribers() {
		names = append(names, s.GetUserId()+s.GetWebhook().GetUrl())
	}
	return names
}

// Subscribers of an organization, a cloud and a folder are told of what lies below
// theirs, and of nothing above or beside it.
func TestNT3_SubscribersOfOrganizationCloudAndFolder(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, olga, carl, fred := w.person("ann"), w.person("olga"), w.person("carl"), w.person("fred")
		at := w.tree(ann)
		w.join(at.org, olga, carl, fred)
		must(w.subscribe(w.as(ann), typeOrganization, at.org, addUser(olga.id)))(t)
		must(w.subscribe(w.as(ann), typeCloud, at.cloud, addUser(carl.id)))(t)
		must(w.subscribe(w.as(ann), typeFolder, at.folder, addUser(fred.id)))(t)
		for _, tt := range []struct {
			typ, id string
			want    []person
		}{
			{typeOrganization, at.org, []person{ann, olga}},
			{typeCloud, at.cloud, []person{ann, carl, olga}},
			{typeFolder, at.folder, []person{ann, carl, fred, olga}},
		} {
			n := about(newID(), "service.announced", tt.typ, tt.id)
			w.tell(n)
			if diff := cmp.Diff(mails(tt.want...), w.settled(n.GetId())); diff != "" {
				t.Errorf("of a %s (-want +got):\n%s", tt.typ, diff)
			}
		}
	})
}

// Whoever leaves the organization, or may not act, is told nothing, subscribed or not.
func TestSubscribersWhoLeftAreToldNothing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, left, held := w.person("ann"), w.person("left"), w.person("held")
		at := w.tree(ann)
		w.join(at.org, left, held)
		must(w.subscribe(w.as(ann), typeCloud, at.cloud, addUser(left.id), addUser(held.id)))(t)
		must(w.subjects.UpdateMembers(t.Context(), &accessv1.UpdateMembersRequest{
			Container: &accessv1.Resource{Type: typeOrganization, Id: at.org}, Remove: []*accessv1.Subject{left.subject()},
		}))(t)
		must(w.subjects.SetSubject(t.Context(), &accessv1.SetSubjectRequest{Subject: held.subject(), State: accessv1.SetSubjectRequest_SUSPENDED}))(t)
		n := about(newID(), "service.announced", typeCloud, at.cloud)
		w.tell(n)
		if diff := cmp.Diff(mails(ann), w.settled(n.GetId())); diff != "" {
			t.Errorf("deliveries (-want +got):\n%s", diff)
		}
	})
}

// An update takes effect whole or not at all, says what it changed, and is in the
// trail as UpdateSubscribers (AU-4).
func TestUpdateSubscribers(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, eve := w.person("ann"), w.person("bob"), w.person("eve")
		at := w.tree(ann)
		w.join(at.org, bob)
		op := must(w.subscribe(w.as(ann), typeCloud, at.cloud, addUser(bob.id), addUser(ann.id), addUser(bob.id), removeUser(eve.id), removeSubscriber("sbs-none")))(t)
		result, meta := new(notificationv1.UpdateSubscribersResult), new(notificationv1.UpdateSubscribersMetadata)
		w.done(op, result)
		if err := op.GetMetadata().UnmarshalTo(meta); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(&notificationv1.UpdateSubscribersMetadata{ResourceType: typeCloud, ResourceId: at.cloud}, meta, protocmp.Transform()); diff != "" {
			t.Errorf("metadata (-want +got):\n%s", diff)
		}
		if len(result.GetAdded()) != 2 || len(result.GetRemovedIds()) != 0 || !strings.HasPrefix(op.GetId(), "ont") {
			t.Errorf("operation %s: %v, want two people added", op.GetId(), result)
		}
		for what, deltas := range map[string][]*notificationv1.SubscriberDelta{
			"a stranger":        {removeUser(bob.id), addUser(eve.id)},
			"nobody":            {addUser("usr00000000000000000")},
			"both ways":         {addUser(bob.id), removeUser(bob.id)},
			"adding by id":      {{Action: notificationv1.SubscriberDelta_ADD, Target: &notificationv1.SubscriberDelta_SubscriberId{SubscriberId: "x"}}},
			"nothing":           {},
			"no target":         {{Action: notificationv1.SubscriberDelta_ADD}},
			"unspecified":       {{Target: &notificationv1.SubscriberDelta_UserId{UserId: bob.id}}},
			"over 100 deltas":   slices.Repeat([]*notificationv1.SubscriberDelta{addUser(bob.id)}, 101),
			"an id too long":    {addUser(strings.Repeat("u", 51))},
			"an id with a trap": {addUser("u\x00")},
		} {
			if _, err := w.subscribe(w.as(ann), typeCloud, at.cloud, deltas...); err == nil {
				t.Errorf("%s: succeeded", what)
			}
		}
		if diff := cmp.Diff([]string{bob.id, ann.id}, w.cloudSubscribers(ann, at.cloud)); diff != "" {
			t.Errorf("subscribers (-want +got):\n%s", diff)
		}
		_, err := w.subscribe(w.as(ann), typeCloud, at.cloud, addUser(eve.id))
		if apierr.CodeOf(err) != codes.FailedPrecondition || apierr.ReasonOf(err) != ReasonNotInOrganization {
			t.Errorf("a stranger: %v", err)
		}
		must(w.subscribe(w.as(ann), typeCloud, at.cloud, removeUser(bob.id), removeSubscriber(result.GetAdded()[1].GetId())))(t)
		if got := w.cloudSubscribers(ann, at.cloud); len(got) != 0 {
			t.Errorf("subscribers %v, want none", got)
		}
		var records int
		err = w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM notifications_audit WHERE event_type = 'bindery.audit.organizationmanager.UpdateSubscribers'`).Scan(&records)
		if err != nil || records != 2 {
			t.Errorf("%d audit records, %v; want two", records, err)
		}
	})
}

// A key makes a write once, and shows its secret again to the same caller alone.
func TestSubscriptionsHonourIdempotencyKeys(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		at := w.tree(ann)
		w.join(at.org, bob)
		keyed := metadata.AppendToOutgoingContext(w.as(ann), "idempotency-key", "one")
		first := must(w.subscribe(keyed, typeCloud, at.cloud, addUser(bob.id)))(t)
		again := must(w.subscribe(keyed, typeCloud, at.cloud, addUser(bob.id)))(t)
		if first.GetId() != again.GetId() {
			t.Errorf("operations %s and %s, want one", first.GetId(), again.GetId())
		}
		req := &notificationv1.CreateCloudWebhookRequest{CloudId: at.cloud, Webhook: hook("https://receiver.example/")}
		made := must(w.subs.CreateCloudWebhook(keyed, req))(t)
		same := must(w.subs.CreateCloudWebhook(keyed, req))(t)
		if diff := cmp.Diff(made, same, protocmp.Transform()); diff != "" {
			t.Errorf("the same call again (-want +got):\n%s", diff)
		}
		if got := w.cloudSubscribers(ann, at.cloud); len(got) != 2 {
			t.Errorf("subscribers %v, want two", got)
		}
		var plain int
		err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM notifications_subscribers WHERE LENGTH(secret) = $1`, secretSize).Scan(&plain)
		if err != nil || plain != 0 {
			t.Errorf("%d secrets in the clear, %v", plain, err)
		}
	})
}

// Pages are whole, also when a subscriber goes meanwhile; and no more than 100 fit.
func TestSubscribersInPages(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		var group sync.WaitGroup
		var mu sync.Mutex
		made, refused := 0, 0
		for i := range maxSubscribers + 10 {
			group.Go(func() {
				_, err := w.subs.CreateFolderWebhook(w.as(ann), &notificationv1.CreateFolderWebhookRequest{
					FolderId: at.folder, Webhook: hook(fmt.Sprintf("https://receiver.example/%d", i)),
				})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					made++
				} else if apierr.ReasonOf(err) == ReasonTooManySubscribers {
					refused++
				} else {
					t.Errorf("webhook %d: %v", i, err)
				}
			})
		}
		group.Wait()
		if made != maxSubscribers || refused != 10 {
			t.Errorf("%d made and %d refused, want %d and 10", made, refused, maxSubscribers)
		}
		seen := map[string]bool{}
		for token, pages := "", 0; ; pages++ {
			resp := must(w.subs.ListFolderSubscribers(w.as(ann), &notificationv1.ListFolderSubscribersRequest{FolderId: at.folder, PageSize: 7, PageToken: token}))(t)
			for _, s := range resp.GetSubscribers() {
				if seen[s.GetId()] {
					t.Errorf("%s came twice", s.GetId())
				}
				seen[s.GetId()] = true
			}
			if token = resp.GetNextPageToken(); token == "" {
				break
			}
			if len(resp.GetSubscribers()) != 7 || pages > 20 {
				t.Fatalf("page %d has %d items", pages, len(resp.GetSubscribers()))
			}
		}
		if len(seen) != maxSubscribers {
			t.Errorf("%d listed, want %d", len(seen), maxSubscribers)
		}
		resp := must(w.subs.ListFolderSubscribers(w.as(ann), &notificationv1.ListFolderSubscribersRequest{FolderId: at.folder, PageSize: 7}))(t)
		_, err := w.subs.ListCloudSubscribers(w.as(ann), &notificationv1.ListCloudSubscribersRequest{CloudId: at.cloud, PageToken: resp.GetNextPageToken()})
		if apierr.CodeOf(err) != codes.InvalidArgument {
			t.Errorf("a token of another list: %v", err)
		}
	})
}

func TestWebhooksThatAreRefused(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		for _, tt := range []struct {
			hook  *notificationv1.Webhook
			field string
		}{
			{nil, "webhook"},
			{hook(""), "webhook.url"},
			{hook("http://receiver.example/"), "webhook.url"},
			{hook("https://"), "webhook.url"},
			{hook("https:///path"), "webhook.url"},
			{hook("https://user@receiver.example/"), "webhook.url"},
			{hook("https://user:password@receiver.example/"), "webhook.url"},
			{hook("https://receiver.example/#x"), "webhook.url"},
			{hook("https://receiver.example:22/"), "webhook.url"},
			{hook("https://receiver.example:99999/"), "webhook.url"},
			{hook("https://receiver.example/a b"), "webhook.url"},
			{hook("https://receiver.example/\r\nX: y"), "webhook.url"},
			{hook("https://[::1/"), "webhook.url"},
			{hook("https://" + strings.Repeat("x", 1000)), "webhook.url"},
			{hook("https://10.0.0.1/"), "webhook.url"},
			{hook("https://receiver.example/", "cloud.exploded"), "webhook.events[0]"},
			{hook("https://receiver.example/", "cloud", "Cloud.Deleted"), "webhook.events[1]"},
			{hook("https://receiver.example/", "cloud", "cloud"), "webhook.events"},
		} {
			_, err := w.subs.CreateCloudWebhook(w.as(ann), &notificationv1.CreateCloudWebhookRequest{CloudId: at.cloud, Webhook: tt.hook})
			e, ok := apierr.As(apierr.FromRPC(err))
			if !ok || e.Code != codes.InvalidArgument || len(e.Fields) == 0 || e.Fields[0].Name != tt.field {
				t.Errorf("%v: %v, want %s refused", tt.hook, err, tt.field)
			}
		}
		if got := w.cloudSubscribers(ann, at.cloud); len(got) != 0 {
			t.Errorf("subscribers %v, want none", got)
		}
	})
}

// A webhook is called with the events that it asked for, signed, with ids and names
// (NT-5); what fails is tried again with the same id and body.
func TestNT3_WebhooksAreCalled(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		all := w.cloudHook(ann, at.cloud, hook(w.receiver.URL+"/all"))
		some := w.cloudHook(ann, at.cloud, hook(w.receiver.URL+"/some", "folder.deleted", "maintenance"))
		w.receiver.set(func(r *receiver) { r.status = http.StatusServiceUnavailable })
		n := about(newID(), "service.announced", typeFolder, at.folder)
		n.Details = map[string]string{"operation_id": "orm1"}
		w.tell(n)
		w.eventually("a call", func() bool { return len(w.receiver.got()) > 0 })
		w.receiver.set(func(r *receiver) { r.status = http.StatusOK })
		w.eventually("it is taken", func() bool {
			w.pass(10 * time.Second)
			return slices.Contains(w.deliveries(n.GetId()), "webhook "+all.GetSubscriber().GetId()+" DELIVERED")
		})
		calls := w.receiver.got()
		first, last := calls[0], calls[len(calls)-1]
		if first.id != last.id || string(first.body) != string(last.body) {
			t.Errorf("calls %s and %s: %s and %s, want the same", first.id, last.id, first.body, last.body)
		}
		for _, c := range calls {
			if !c.signed(all.GetSecret()) || c.signed(some.GetSecret()) {
				t.Errorf("call %s is signed %s", c.id, c.signature)
			}
		}
		want := payloadData{
			NoticeID: n.GetId(), OrganizationID: at.org, Title: n.GetTitle(), Text: n.GetText(), Details: n.GetDetails(),
			Path: []payloadResource{{typeOrganization, at.org, last.payload.Data.Path[0].Name}, {typeCloud, at.cloud, "prod"}, {typeFolder, at.folder, "billing"}},
		}
		if diff := cmp.Diff(want, last.payload.Data); diff != "" || last.payload.Type != n.GetEvent() || last.payload.Data.Path[0].Name == "" {
			t.Errorf("type %s, data (-want +got):\n%s", last.payload.Type, diff)
		}
		other := about(newID(), "maintenance.planned", typeCloud, at.cloud)
		w.tell(other)
		if got := w.settled(other.GetId()); len(got) != 3 {
			t.Errorf("deliveries %v, want both webhooks and the owner", got)
		}
	})
}

// A crash after a program took a call and before that is recorded calls it again, with
// the same id.
func TestWebhookAfterACrashHasTheSameID(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		w.cloudHook(ann, at.cloud, hook(w.receiver.URL, "service"))
		var once sync.Once
		w.receiver.set(func(r *receiver) {
			r.before = func() {
				once.Do(func() { w.exec(`ALTER TABLE notifications_deliveries RENAME TO away`) })
			}
		})
		n := about(newID(), "service.announced", typeCloud, at.cloud)
		w.tell(n)
		w.eventually("the first call", func() bool { return len(w.receiver.got()) == 1 })
		w.Stop()
		w.exec(`ALTER TABLE away RENAME TO notifications_deliveries`)
		w.start()
		w.pass(0)
		w.settled(n.GetId())
		calls := w.receiver.got()
		if len(calls) < 2 {
			t.Errorf("%d calls, want the one that was not recorded again", len(calls))
		}
		for _, c := range calls {
			if c.id != calls[0].id {
				t.Errorf("call %s, want %s again", c.id, calls[0].id)
			}
		}
	})
}

// A webhook that takes nothing for days is disabled, of which its people are told once;
// one that answers 410 at once. Neither is called any more.
func TestWebhooksAreDisabled(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for _, status := range []int{http.StatusInternalServerError, http.StatusGone} {
			owner := w.person(fmt.Sprintf("owner%d", status))
			at := w.tree(owner)
			made := w.cloudHook(owner, at.cloud, hook(w.receiver.URL))
			w.receiver.set(func(r *receiver) { r.status = status })
			for range 2 {
				w.tell(about(newID(), "service.announced", typeCloud, at.cloud))
			}
			disabled := func() bool {
				resp := must(w.subs.ListCloudSubscribers(w.as(owner), &notificationv1.ListCloudSubscribersRequest{CloudId: at.cloud}))(t)
				return resp.GetSubscribers()[0].GetWebhook().GetState() == notificationv1.Webhook_DISABLED
			}
			seen := 0
			w.eventually("it is disabled", func() bool {
				if calls := len(w.receiver.got()); status != http.StatusGone && calls > seen {
					seen = calls // an attempt, and then time passes
					w.pass(5 * time.Hour)
					owner.token = must(w.operator.CreateToken(t.Context(), tokenOf(owner)))(t).GetIamToken()
				}
				return disabled()
			})
			told := "webhook.disabled:" + made.GetSubscriber().GetId()
			if diff := cmp.Diff(mails(owner), w.settled(told)); diff != "" {
				t.Errorf("%d: the notice of it (-want +got):\n%s", status, diff)
			}
			before := len(w.receiver.got())
			n := about(newID(), "service.announced", typeCloud, at.cloud)
			w.tell(n)
			if diff := cmp.Diff(mails(owner), w.settled(n.GetId())); diff != "" || len(w.receiver.got()) != before {
				t.Errorf("%d: afterwards %d calls (-want +got):\n%s", status, len(w.receiver.got())-before, diff)
			}
		}
	})
}

// A webhook that was removed is not called for what was on its way.
func TestRemovedWebhooksAreDropped(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		made := w.cloudHook(ann, at.cloud, hook(w.receiver.URL))
		w.receiver.set(func(r *receiver) { r.status = http.StatusBadGateway })
		n := about(newID(), "service.announced", typeCloud, at.cloud)
		w.tell(n)
		w.eventually("a call", func() bool { return len(w.receiver.got()) > 0 })
		must(w.subscribe(w.as(ann), typeCloud, at.cloud, removeSubscriber(made.GetSubscriber().GetId())))(t)
		w.eventually("it is dropped", func() bool {
			w.pass(time.Minute)
			return slices.Contains(w.deliveries(n.GetId()), "webhook "+made.GetSubscriber().GetId()+" DROPPED")
		})
	})
}

// What is deleted takes its subscribers along.
func TestDeletedResourcesDropTheirSubscribers(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		must(w.subscribe(w.as(ann), typeFolder, at.folder, addUser(ann.id)))(t)
		must(w.subscribe(w.as(ann), typeCloud, at.cloud, addUser(ann.id)))(t)
		must(w.subscribe(w.as(ann), typeOrganization, at.org, addUser(ann.id)))(t)
		must(w.clouds.Delete(w.as(ann), &rmv1.DeleteCloudRequest{CloudId: at.cloud, DeleteAfter: epoch()}))(t)
		count := func() (n int) {
			if err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM notifications_subscribers`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n
		}
		if err := w.service.follow(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := count(); n != 3 {
			t.Errorf("%d subscribers, want all for as long as the last notices are on their way", n)
		}
		w.ahead.Add(int64(2 * goneFor))
		for range 2 { // the second time there is nothing to do
			if err := w.service.follow(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := count(); n != 1 {
				t.Errorf("%d subscribers, want that of the organization", n)
			}
		}
	})
}

// exec changes the tables behind the back of the process.
func (w *world) exec(statement string) {
	w.t.Helper()
	if _, err := w.db.Pool().ExecContext(w.t.Context(), statement); err != nil {
		w.t.Error(err)
	}
}
