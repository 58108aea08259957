package accessbindings

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// What an identity provider says of somebody moves them between groups of their
// organization, in one change, and gives what the groups have (GR-3); groups of nowhere
// and elsewhere are left out.
func TestUpdateMemberships(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ops, staff, theirs := w.group(org1, "ops"), w.group(org1, "staff"), w.group(org2, "ops")
		w.mustUpdate(adam, folder1, add(viewer, memberOf(ops)))
		move := func(who Subject, in, out []string) ([]string, error) {
			resp, err := w.subjects.UpdateMemberships(t.Context(), &accessv1.UpdateMembershipsRequest{
				Subject: who.proto(), OrganizationId: org1.ID, AddGroupIds: in, RemoveGroupIds: out,
			})
			return resp.GetLeftOutGroupIds(), err
		}
		_, err := move(vera, []string{ops.ID}, nil)
		refused(t, err, codes.FailedPrecondition, "MEMBER_FOREIGN")
		_, err = move(user("ghost"), []string{ops.ID}, nil)
		refused(t, err, codes.NotFound, ReasonSubjectNotFound)
		w.must(w.members(org1, []Subject{vera}, nil))

		for range 2 { // again, nothing changes
			left, err := move(vera, []string{ops.ID, theirs.ID, "nowhere"}, nil)
			w.must(err)
			if !slices.Equal(left, []string{theirs.ID, "nowhere"}) {
				t.Errorf("left out %v", left)
			}
			if !w.allowed(vera, getFolder, folder1) {
				t.Error("a member may not what the group may")
			}
		}
		left, err := move(vera, []string{staff.ID}, []string{ops.ID, theirs.ID, "nowhere"})
		w.must(err)
		if len(left) > 0 || w.allowed(vera, getFolder, folder1) {
			t.Errorf("left out %v; who left may still: %t", left, w.allowed(vera, getFolder, folder1))
		}
		resp, err := w.subjects.ListMemberships(t.Context(), &accessv1.ListMembershipsRequest{Subject: vera.proto(), ContainerType: typeGroup})
		w.must(err)
		if got := resp.GetContainers(); len(got) != 1 || refOf(got[0]) != staff {
			t.Errorf("in %v", got)
		}
		w.manager.set(catalog.QuotaSubjectGroups, vera.ID, 1)
		w.clock.advance(time.Hour)
		if left, err := move(vera, []string{ops.ID}, nil); err != nil || !slices.Equal(left, []string{ops.ID}) {
			t.Errorf("in as many groups as may be, left out %v (%v)", left, err)
		}
		if left, err := move(vera, []string{ops.ID}, []string{staff.ID}); err != nil || len(left) > 0 {
			t.Errorf("out of one and into another, left out %v (%v)", left, err)
		}
		for name, bad := range map[string]*accessv1.UpdateMembershipsRequest{
			"in and out":     {Subject: vera.proto(), OrganizationId: org1.ID, AddGroupIds: []string{ops.ID}, RemoveGroupIds: []string{ops.ID}},
			"a group":        {Subject: memberOf(ops).proto(), OrganizationId: org1.ID},
			"a robot":        {Subject: robot("bot").proto(), OrganizationId: org1.ID},
			"twice":          {Subject: vera.proto(), OrganizationId: org1.ID, AddGroupIds: []string{ops.ID, ops.ID}},
			"no text":        {Subject: vera.proto(), OrganizationId: org1.ID, AddGroupIds: []string{"a\x00"}},
			"nobody":         {OrganizationId: org1.ID},
			"nowhere at all": {Subject: vera.proto()},
		} {
			if _, err := w.subjects.UpdateMemberships(t.Context(), bad); apierr.CodeOf(err) != codes.InvalidArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}
