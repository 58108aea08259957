package notifications

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// bind gives somebody a role on a cloud or a folder.
func (w *world) bind(by person, typ, id, role string, who *accesspb.Subject) {
	w.t.Helper()
	req := &accesspb.UpdateAccessBindingsRequest{ResourceId: id, AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
		Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accesspb.AccessBinding{RoleId: role, Subject: who},
	}}}
	update := w.clouds.UpdateAccessBindings
	if typ == typeFolder {
		update = w.folders.UpdateAccessBindings
	}
	must[*operationpb.Operation](update(w.as(by), req))(w.t)
}

func account(p person) *accesspb.Subject { return &accesspb.Subject{Type: "userAccount", Id: p.id} }

// mails are the deliveries to people.
func mails(people ...person) []string {
	all := make([]string, 0, len(people))
	for _, p := range people {
		all = append(all, "mail "+p.email+" DELIVERED")
	}
	return all
}

// The owners of a cloud are told of it and of its folders, without asking for it,
// those among a group as well; nobody else is.
func TestNT1_OwnersAreToldOfTheCloudAndItsFolders(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, eve := w.person("ann"), w.person("bob"), w.person("eve")
		at := w.tree(ann)
		w.join(at.org, bob, eve)
		w.bind(ann, typeCloud, at.cloud, "resource-manager.clouds.owner", account(bob))
		w.bind(ann, typeCloud, at.cloud, "admin", account(eve))
		for typ, id := range map[string]string{typeCloud: at.cloud, typeFolder: at.folder} {
			n := about(newID(), "service.announced", typ, id)
			w.tell(n)
			if diff := cmp.Diff(mails(ann, bob), w.settled(n.GetId())); diff != "" {
				t.Errorf("of a %s (-want +got):\n%s", typ, diff)
			}
		}
	})
}

// Whoever administers a folder is told nothing of it by that.
func TestNT2_FolderOwnersAreToldNothing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, frank := w.person("ann"), w.person("frank")
		at := w.tree(ann)
		w.join(at.org, frank)
		w.bind(ann, typeFolder, at.folder, "admin", account(frank))
		n := about(newID(), "service.announced", typeFolder, at.folder)
		w.tell(n)
		if diff := cmp.Diff(mails(ann), w.settled(n.GetId())); diff != "" {
			t.Errorf("of a folder (-want +got):\n%s", diff)
		}
	})
}

// Suspended and deleted people are told nothing.
func TestNobodyWhoMayNotActIsTold(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, cid := w.person("ann"), w.person("bob"), w.person("cid")
		at := w.tree(ann)
		w.join(at.org, bob, cid)
		for _, p := range []person{bob, cid} {
			w.bind(ann, typeCloud, at.cloud, "resource-manager.clouds.owner", account(p))
		}
		for who, state := range map[person]accessv1.SetSubjectRequest_State{
			bob: accessv1.SetSubjectRequest_SUSPENDED, cid: accessv1.SetSubjectRequest_DELETED,
		} {
			must(w.subjects.SetSubject(t.Context(), &accessv1.SetSubjectRequest{Subject: who.subject(), State: state}))(t)
		}
		n := about(newID(), "service.announced", typeCloud, at.cloud)
		w.tell(n)
		if diff := cmp.Diff(mails(ann), w.settled(n.GetId())); diff != "" {
			t.Errorf("deliveries (-want +got):\n%s", diff)
		}
	})
}

// A notice names cloud, folder and resource by id and name, whether its sender knew
// them or not.
func TestNT5_NoticesHoldIDsAndNames(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		n := about(newID(), "service.announced", typeFolder, at.folder)
		w.tell(n)
		w.settled(n.GetId())
		letters := w.mail.letters(ann.email)
		if len(letters) != 1 {
			t.Fatalf("%d letters, want one", len(letters))
		}
		for _, want := range []string{"(" + at.org + ")", "prod (" + at.cloud + ")", "billing (" + at.folder + ")", n.GetText(), n.GetEvent()} {
			if !strings.Contains(letters[0].raw, want) {
				t.Errorf("the letter does not hold %q:\n%s", want, letters[0].raw)
			}
		}
		stored := must(w.service.store.Notice(t.Context(), w.db, n.GetId()))(t)
		var path []string
		for _, e := range stored.GetPath() {
			path = append(path, e.GetType()+" "+e.GetId())
		}
		if diff := cmp.Diff([]string{typeOrganization + " " + at.org, typeCloud + " " + at.cloud, typeFolder + " " + at.folder}, path); diff != "" {
			t.Errorf("path (-want +got):\n%s", diff)
		}
	})
}

// Of a resource that is gone those are told whom its sender knew.
func TestNoticeOfWhatIsGone(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		op := must(w.clouds.Delete(w.as(ann), &rmv1.DeleteCloudRequest{CloudId: at.cloud, DeleteAfter: epoch()}))(t)
		if !op.GetDone() {
			t.Fatalf("operation %v", op)
		}
		n := about(newID(), "cloud.deleted", typeCloud, at.cloud)
		nobody := proto.CloneOf(n)
		nobody.Id = newID()
		n.GetAudience().Owners = []*accessv1.Subject{ann.subject()}
		n.Path = []*notificationv1.PathElement{{Type: typeOrganization, Id: at.org}, {Type: typeCloud, Id: at.cloud, Name: "prod"}}
		w.tell(n)
		w.tell(nobody)
		if diff := cmp.Diff(mails(ann), w.settled(n.GetId())); diff != "" {
			t.Errorf("deliveries (-want +got):\n%s", diff)
		}
		if got := w.settled(nobody.GetId()); len(got) != 0 {
			t.Errorf("without known owners: %v", got)
		}
	})
}

// A restart forgets nothing: what was taken is delivered by the next process, and
// taken only once.
func TestNoticesOutliveTheProcess(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		at := w.tree(ann)
		w.mail.set(func(m *mailServer) { m.refuse = errBusy })
		n := about(newID(), "service.announced", typeCloud, at.cloud)
		w.tell(n)
		w.restart()
		w.mail.set(func(m *mailServer) { m.refuse = nil })
		if got := must(w.notify.Notify(t.Context(), &notificationv1.NotifyRequest{Notice: n}))(t); !got.GetKnown() {
			t.Error("after the restart the notice is unknown")
		}
		w.eventually("it is delivered", func() bool {
			w.pass(0)
			return len(w.mail.letters(ann.email)) >= 1
		})
		if diff := cmp.Diff(mails(ann), w.settled(n.GetId())); diff != "" {
			t.Errorf("deliveries (-want +got):\n%s", diff)
		}
	})
}

// Old notices go, unless somebody is yet to be told.
func TestOldNoticesAreSwept(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		old, pending := addressed(newID(), "ann@example.com"), addressed(newID(), "bob@example.com")
		w.tell(old)
		w.settled(old.GetId())
		w.mail.set(func(m *mailServer) { m.refuse = errBusy })
		w.tell(pending)
		w.eventually("an attempt", func() bool {
			var n int64
			err := w.db.QueryRowContext(t.Context(), `SELECT COALESCE(MAX(attempts), 0) FROM notifications_deliveries WHERE notice_id = $1`, pending.GetId()).Scan(&n)
			return err == nil && n == 1
		})
		w.ahead.Add(int64(DefaultKeepFor + DefaultGiveUpAfter))
		fresh := addressed(newID(), "cid@example.com")
		w.tell(fresh)
		if err := w.service.sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
		for id, kept := range map[string]bool{old.GetId(): false, pending.GetId(): true, fresh.GetId(): true} {
			if _, err := w.service.store.Notice(t.Context(), w.db, id); (err == nil) != kept {
				t.Errorf("notice %s: %v, want it kept: %v", id, err, kept)
			}
		}
	})
}
