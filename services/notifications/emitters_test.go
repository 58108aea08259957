package notifications

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/types/known/timestamppb"

	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// noticeOf waits until a notice of an event about something was settled, and returns
// its id.
func (w *world) noticeOf(event, about string) string {
	w.t.Helper()
	var found string
	w.eventually(event+" of "+about, func() bool {
		rows, err := w.db.QueryContext(w.t.Context(), `SELECT id FROM notifications_notices WHERE event = $1`, event)
		if err != nil {
			w.t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var id string
			if err := rows.Scan(&id); err != nil {
				w.t.Fatal(err)
			}
			if n := must(w.service.store.Notice(w.t.Context(), w.db, id))(w.t); n.GetAudience().GetResource().GetId() == about {
				found = id
			}
		}
		return rows.Err() == nil && found != ""
	})
	w.settled(found)
	return found
}

// Owners and subscribers are told when a deletion begins, when it is taken back, and
// when it is done, of which the webhooks of the cloud itself are told, too.
func TestDeletionsAreTold(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		at := w.tree(ann)
		w.join(at.org, bob)
		must(w.subscribe(w.as(ann), typeOrganization, at.org, addUser(bob.id)))(t)
		hooked := w.cloudHook(ann, at.cloud, hook(w.receiver.URL, "cloud.deleted", "folder"))
		deletions := brmv1.NewDeletionServiceClient(w.Conn)
		later := timestamppb.New(time.Now().Add(48 * time.Hour))
		byHook := "webhook " + hooked.GetSubscriber().GetId() + " DELIVERED"

		must(w.clouds.Delete(w.as(ann), &rmv1.DeleteCloudRequest{CloudId: at.cloud, DeleteAfter: later}))(t)
		scheduled := w.noticeOf("cloud.deletion_scheduled", at.cloud)
		if diff := cmp.Diff(mails(ann, bob), w.deliveries(scheduled)); diff != "" {
			t.Errorf("scheduled (-want +got):\n%s", diff)
		}
		must(deletions.CancelCloudDeletion(w.as(ann), &brmv1.CancelCloudDeletionRequest{CloudId: at.cloud}))(t)
		if diff := cmp.Diff(mails(ann, bob), w.deliveries(w.noticeOf("cloud.deletion_cancelled", at.cloud))); diff != "" {
			t.Errorf("cancelled (-want +got):\n%s", diff)
		}
		must(w.folders.Delete(w.as(ann), &rmv1.DeleteFolderRequest{FolderId: at.folder, DeleteAfter: epoch()}))(t)
		if diff := cmp.Diff(append(mails(ann, bob), byHook), w.deliveries(w.noticeOf("folder.deleted", at.folder))); diff != "" {
			t.Errorf("folder deleted (-want +got):\n%s", diff)
		}
		must(w.clouds.Delete(w.as(ann), &rmv1.DeleteCloudRequest{CloudId: at.cloud, DeleteAfter: epoch()}))(t)
		if diff := cmp.Diff(append(mails(ann, bob), byHook), w.deliveries(w.noticeOf("cloud.deleted", at.cloud))); diff != "" {
			t.Errorf("cloud deleted (-want +got):\n%s", diff)
		}
		for _, l := range w.mail.letters(ann.email) {
			if !strings.Contains(l.raw, at.org) || !strings.Contains(l.raw, "prod ("+at.cloud+")") {
				t.Errorf("the letter %q does not name organization and cloud:\n%s", l.subject, l.raw)
			}
		}
	})
}

// Owners are told of new owners and of those who are none any more, who learn it, too;
// and of access policies. Who makes a cloud is told nothing of owning it.
func TestOwnersAndPoliciesAreTold(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		at := w.tree(ann)
		w.join(at.org, bob)
		const owner = "resource-manager.clouds.owner"
		w.bind(ann, typeCloud, at.cloud, owner, account(bob))
		w.bind(ann, typeCloud, at.cloud, owner, account(bob)) // nothing new
		w.bind(ann, typeCloud, at.cloud, "viewer", account(bob))
		if diff := cmp.Diff(mails(ann, bob), w.deliveries(w.noticeOf("cloud.owner_added", at.cloud))); diff != "" {
			t.Errorf("owner added (-want +got):\n%s", diff)
		}
		must(w.clouds.UpdateAccessBindings(w.as(ann), &accesspb.UpdateAccessBindingsRequest{
			ResourceId: at.cloud, AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
				Action: accesspb.AccessBindingAction_REMOVE, AccessBinding: &accesspb.AccessBinding{RoleId: owner, Subject: account(bob)},
			}},
		}))(t)
		if diff := cmp.Diff(mails(ann, bob), w.deliveries(w.noticeOf("cloud.owner_removed", at.cloud))); diff != "" {
			t.Errorf("owner removed (-want +got):\n%s", diff)
		}
		must(w.clouds.BindAccessPolicy(w.as(ann), &accesspb.BindAccessPolicyRequest{
			ResourceId: at.cloud, AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: "resourceManager.denyFolderRemoval"},
		}))(t)
		if diff := cmp.Diff(mails(ann), w.deliveries(w.noticeOf("cloud.access_policy_bound", at.cloud))); diff != "" {
			t.Errorf("policy bound (-want +got):\n%s", diff)
		}
		var notices int
		if err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM notifications_notices`).Scan(&notices); err != nil || notices != 3 {
			t.Errorf("%d notices, %v; want these three", notices, err)
		}
	})
}
