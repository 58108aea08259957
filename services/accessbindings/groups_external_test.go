package accessbindings

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// federation registers a federation of an organization.
func (w *world) federation(organization Ref, id string) Ref {
	w.t.Helper()
	r := Ref{rules.Federation, id}
	_, err := w.identity.RegisterResource(w.t.Context(), registerRequest(r, organization))
	w.must(err)
	return r
}

func external(name, container, id string) *orgv1.CreateExternalGroupRequest {
	return &orgv1.CreateExternalGroupRequest{OrganizationId: org1.ID, Name: name, SubjectContainerId: container, ExternalId: id}
}

func TestGR4_ExternalGroups(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ctx := w.User(olga.ID)
		w.federation(org1, "fed")
		w.federation(org2, "abroad")
		create := func(name, container, id string) error {
			_, err := w.groups.CreateExternal(ctx, external(name, container, id))
			return err
		}
		op, err := w.groups.CreateExternal(ctx, external("staff", "fed", "x/1"))
		staff := made(t, op, err, new(orgv1.Group))
		if staff.GetSubjectContainerId() != "fed" || staff.GetExternalId() != "x/1" {
			t.Errorf("made %v", staff)
		}
		meta := new(orgv1.CreateExternalGroupMetadata)
		w.must(op.GetMetadata().UnmarshalTo(meta))
		if meta.GetGroupId() != staff.GetId() || meta.GetGroupName() != "staff" || meta.GetExternalId() != "x/1" || meta.GetMakeEditor() {
			t.Errorf("metadata %v", meta)
		}
		refused(t, create("other", "fed", "x/1"), codes.AlreadyExists, "EXTERNAL_GROUP_TAKEN") // NM-3
		refused(t, create("staff", "fed", "x/2"), codes.AlreadyExists, "GROUP_NAME_TAKEN")
		refused(t, create("other", "nowhere", "x/2"), codes.NotFound, "SUBJECT_CONTAINER_NOT_FOUND")
		refused(t, create("other", "abroad", "x/1"), codes.InvalidArgument, "VALIDATION_FAILED")

		basic := w.group(org1, "basic")
		convert := func(id string) error {
			_, err := w.groups.ConvertToExternal(ctx, &orgv1.ConvertToExternalGroupRequest{GroupId: basic.ID, SubjectContainerId: "fed", ExternalId: id})
			return err
		}
		refused(t, convert("x/1"), codes.AlreadyExists, "EXTERNAL_GROUP_TAKEN")
		w.must(convert("x/2"))
		refused(t, convert("x/3"), codes.FailedPrecondition, "GROUP_IS_EXTERNAL")

		found, err := w.groups.ResolveExternal(ctx, &orgv1.ResolveExternalGroupRequest{SubjectContainerId: "fed", ExternalId: "x/2"})
		if w.must(err); found.GetId() != basic.ID {
			t.Errorf("found %v", found)
		}
		_, err = w.groups.ResolveExternal(ctx, &orgv1.ResolveExternalGroupRequest{SubjectContainerId: "fed", ExternalId: "X/2"})
		refused(t, err, codes.NotFound, "GROUP_NOT_FOUND")
		for filter, want := range map[string][]string{
			"": {staff.GetId(), basic.ID}, `name = "basic"`: {basic.ID}, `external_id = "x/1"`: {staff.GetId()}, `external_id = ""`: nil,
		} {
			list, err := w.groups.ListExternal(ctx, &orgv1.ListExternalGroupsRequest{SubjectContainerId: "fed", Filter: filter})
			w.must(err)
			var got []string
			for _, g := range list.GetGroups() {
				got = append(got, g.GetId())
			}
			if !slices.Equal(got, want) {
				t.Errorf("external groups with %q: %v, want %v", filter, got, want)
			}
		}

		op, err = w.groups.ConvertAllToBasic(ctx, &orgv1.ConvertAllToBasicGroupsRequest{SubjectContainerId: "fed"})
		w.must(err)
		if back := new(orgv1.ConvertAllToBasicGroupsMetadata); op.GetMetadata().UnmarshalTo(back) != nil || back.GetSubjectContainerId() != "fed" {
			t.Errorf("metadata %v", op.GetMetadata())
		}
		for _, id := range []string{staff.GetId(), basic.ID} {
			g, err := w.groups.Get(ctx, &orgv1.GetGroupRequest{GroupId: id})
			if w.must(err); g.GetExternalId() != "" || g.GetSubjectContainerId() != "" {
				t.Errorf("still external: %v", g)
			}
		}
		w.must(create("again", "fed", "x/1")) // the ids are free again
	})
}

// TestGR4_WhoChangesExternalGroups has the editor of groups and the manager of
// external ones try both kinds: each may change the one and not the other.
func TestGR4_WhoChangesExternalGroups(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.federation(org1, "fed")
		w.must(w.members(org1, []Subject{vera, carl, nick}, nil))
		w.mustUpdate(olga, org1, add("organization-manager.groups.admin", vera), add("organization-manager.groups.externalManager", carl))
		basic, foreign := w.group(org1, "basic"), w.group(org1, "foreign")
		_, err := w.groups.ConvertToExternal(w.User(olga.ID), &orgv1.ConvertToExternalGroupRequest{GroupId: foreign.ID, SubjectContainerId: "fed", ExternalId: "x"})
		w.must(err)
		for _, c := range []struct {
			who Subject
			on  Ref
			may bool
		}{{vera, basic, true}, {vera, foreign, false}, {carl, basic, false}, {carl, foreign, true}} {
			ctx := w.User(c.who.ID)
			for name, call := range map[string]func() error{
				"update": func() error {
					_, err := w.groups.Update(ctx, &orgv1.UpdateGroupRequest{GroupId: c.on.ID, Description: fmt.Sprint(c)})
					return err
				},
				"members": func() error {
					_, err := w.groups.UpdateMembers(ctx, &orgv1.UpdateGroupMembersRequest{GroupId: c.on.ID, MemberDeltas: []*orgv1.MemberDelta{
						{Action: orgv1.MemberDelta_ADD, SubjectId: nick.ID},
					}})
					return err
				},
				"delete": func() error {
					if c.may {
						return nil // later
					}
					_, err := w.groups.Delete(ctx, &orgv1.DeleteGroupRequest{GroupId: c.on.ID})
					return err
				},
			} {
				if err := call(); c.may && err != nil {
					t.Errorf("%s of %s by %s: %v", name, c.on.ID, c.who.ID, err)
				} else if !c.may {
					refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
				}
			}
		}
		_, err = w.groups.Delete(w.User(carl.ID), &orgv1.DeleteGroupRequest{GroupId: foreign.ID})
		w.must(err)
		_, err = w.groups.Delete(w.User(vera.ID), &orgv1.DeleteGroupRequest{GroupId: basic.ID})
		w.must(err)
	})
}

func TestGR4_MakeEditor(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.federation(org1, "fed")
		w.must(w.members(org1, []Subject{vera}, nil))
		w.mustUpdate(olga, org1, add("organization-manager.groups.externalCreator", vera), add("organization-manager.federations.extGroupsManager", vera))
		req := external("mine", "fed", "x/1")
		req.MakeEditor = true
		op, err := w.groups.CreateExternal(w.User(vera.ID), req)
		mine := made(t, op, err, new(orgv1.Group))
		op, err = w.groups.CreateExternal(w.User(vera.ID), external("not-mine", "fed", "x/2"))
		other := made(t, op, err, new(orgv1.Group))
		if got := w.list(olga, Ref{typeGroup, mine.GetId()}, 0); !slices.Equal(got, []string{editorRole + " userAccount:vera"}) {
			t.Errorf("bindings of the group made with make_editor: %v", got)
		}
		_, err = w.groups.Update(w.User(vera.ID), &orgv1.UpdateGroupRequest{GroupId: mine.GetId(), Description: "x"})
		w.must(err)
		_, err = w.groups.Update(w.User(vera.ID), &orgv1.UpdateGroupRequest{GroupId: other.GetId(), Description: "x"})
		refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	})
}
