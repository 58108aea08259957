package accessbindings

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

func TestEX6_Preview(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		staff := w.group(org1, "staff")
		w.join(staff, vera, nick)
		w.mustUpdate(adam, folder1, add(viewer, vera))
		show := func(resp *accessv1.PreviewResponse) (lines []string) {
			for _, d := range resp.GetEffectiveDeltas() {
				lines = append(lines, d.GetAction().String()+" "+d.GetAccessBinding().GetRoleId()+" "+nameOf(d.GetAccessBinding().GetSubject()))
			}
			for _, d := range resp.GetDifferences() {
				lines = append(lines, fmt.Sprintf("%s gains %d loses %d", nameOf(d.GetSubject()), len(d.GetGained()), len(d.GetLost())))
			}
			for _, x := range resp.GetWarnings() {
				lines = append(lines, x.GetKind().String())
			}
			return lines
		}
		update := func(as Subject, on Ref, deltas ...*accessv1.AccessBindingDelta) (*accessv1.PreviewResponse, error) {
			return w.questions.Preview(w.Subject(as.Type, as.ID), &accessv1.PreviewRequest{Resource: on.proto(),
				Change: &accessv1.PreviewRequest_Update{Update: &accessv1.UpdateChange{AccessBindingDeltas: deltas}}})
		}
		size := func(role string) int { r, _ := testCatalog(t).Role(role); return len(r.Permissions) }
		before := w.head()

		resp, err := update(adam, folder1, add(viewer, group(staff.ID)), add(viewer, vera))
		w.must(err)
		sameNames(t, "a group, one of whose members has it", []string{
			"ADD viewer group:" + staff.ID, fmt.Sprintf("userAccount:nick gains %d loses 0", size(viewer)),
		}, show(resp))

		resp, err = update(adam, folder1, add(editor, Subject{rules.System, "allUsers"}))
		w.must(err)
		sameNames(t, "everybody", []string{
			"ADD editor system:allUsers", fmt.Sprintf("system:allUsers gains %d loses 0", size(editor)), "PUBLIC_GROUP", "WIDE_ROLE",
		}, show(resp))

		resp, err = update(adam, cloud1, remove(admin, adam))
		w.must(err)
		sameNames(t, "oneself", []string{
			"REMOVE admin userAccount:adam", fmt.Sprintf("userAccount:adam gains 0 loses %d", size(admin)), "OWN_LOCKOUT",
		}, show(resp))

		w.mustUpdate(carl, cloud1, add(cloudOwner, vera))
		before++
		resp, err = update(carl, cloud1, remove(cloudOwner, vera))
		w.must(err)
		if got := show(resp); got[len(got)-1] != "OWNER_REMOVED" || !strings.HasPrefix(got[1], "userAccount:vera gains 0 loses") {
			t.Errorf("an owner: %v", got)
		}
		_, err = w.questions.Preview(w.Subject(carl.Type, carl.ID), &accessv1.PreviewRequest{Resource: cloud1.proto(), Change: &accessv1.PreviewRequest_Set{Set: &accessv1.SetChange{}}})
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		_, err = update(adam, folder1, add("nobody.knows", vera))
		refused(t, err, codes.NotFound, ReasonRoleNotFound)
		if f := fieldsOf(err); len(f) != 1 || !strings.HasPrefix(f[0], "update.access_binding_deltas[0]") {
			t.Errorf("the refusal is about %v", f)
		}
		_, err = update(vera, folder2, add(viewer, nick))
		w.must(err) // an owner of the cloud by now
		_, err = update(nick, folder2, add(viewer, nick))
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
		if got := w.head(); got != before {
			t.Errorf("%d revisions were made by looking", got-before)
		}
		if w.allowed(nick, getFolder, folder1) {
			t.Error("a preview granted something")
		}
	})
}

// TestEX6_PreviewIsWhatTheChangeDoes compares previews with what the checks say after
// the same change was made.
func TestEX6_PreviewIsWhatTheChangeDoes(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.mustUpdate(adam, folder1, add(viewer, vera))
		deltas := []*accessv1.AccessBindingDelta{add(editor, vera), remove(viewer, vera), add("resource-manager.viewer", nick)}
		resp, err := w.questions.Preview(w.User(adam.ID), &accessv1.PreviewRequest{Resource: folder1.proto(),
			Change: &accessv1.PreviewRequest_Update{Update: &accessv1.UpdateChange{AccessBindingDeltas: deltas}}})
		w.must(err)
		held := func(who Subject) map[string]bool {
			all := make(map[string]bool)
			for _, p := range testCatalog(t).Permissions() {
				all[p.ID] = w.service.committer.graph.Decide(w.query(who, p.ID, folder1)).Allowed
			}
			return all
		}
		before := map[Subject]map[string]bool{vera: held(vera), nick: held(nick)}
		w.mustUpdate(adam, folder1, deltas...)
		for _, d := range resp.GetDifferences() {
			who := subjectOf(d.GetSubject())
			was, is := before[who], held(who)
			for p := range is {
				gained, lost := slices.Contains(d.GetGained(), p), slices.Contains(d.GetLost(), p)
				if gained != (is[p] && !was[p]) || lost != (was[p] && !is[p]) {
					t.Errorf("%s %s: was %t, is %t, preview says gained %t, lost %t", who.ID, p, was[p], is[p], gained, lost)
				}
			}
		}
		if len(resp.GetDifferences()) != 2 {
			t.Errorf("%d differences, want those of two", len(resp.GetDifferences()))
		}
	})
}
