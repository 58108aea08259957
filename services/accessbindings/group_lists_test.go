package accessbindings

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// noGroups deletes the groups that an organization begins with.
func (w *world) noGroups(organization Ref) {
	w.t.Helper()
	list, err := w.groups.List(w.User(olga.ID), &orgv1.ListGroupsRequest{OrganizationId: organization.ID})
	w.must(err)
	for _, g := range list.GetGroups() {
		_, err := w.groups.Delete(w.User(olga.ID), &orgv1.DeleteGroupRequest{GroupId: g.GetId()})
		w.must(err)
	}
}

func TestListGroups(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.noGroups(org1)
		var want []string
		for n := range 7 {
			want = append(want, w.group(org1, fmt.Sprintf("g%d", n)).ID)
		}
		w.group(org2, "g0")
		list := func(as Subject, size int64, filter string) (all []string, err error) {
			req := &orgv1.ListGroupsRequest{OrganizationId: org1.ID, PageSize: size, Filter: filter}
			for {
				resp, err := w.groups.List(w.User(as.ID), req)
				if err != nil {
					return nil, err
				}
				for _, g := range resp.GetGroups() {
					all = append(all, g.GetId())
				}
				if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
					return all, nil
				}
				if len(resp.GetGroups()) == 0 {
					t.Fatal("an empty page with a token")
				}
			}
		}
		check := func(as Subject, size int64, filter string, want ...string) {
			t.Helper()
			got, err := list(as, size, filter)
			if err != nil || !slices.Equal(got, want) {
				t.Errorf("%s sees %v, %v; want %v", as.ID, got, err, want)
			}
		}
		for _, size := range []int64{0, 1, 3, 7} {
			check(olga, size, "", want...)
		}
		check(olga, 0, `name = "g4"`, want[4])
		check(olga, 0, `name = ""`)
		_, err := list(vera, 0, "")
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
		for _, n := range []int{2, 5} {
			w.mustUpdate(olga, Ref{typeGroup, want[n]}, add("organization-manager.groups.viewer", vera))
		}
		check(vera, 1, "", want[2], want[5])
		check(vera, 0, `name = "g5"`, want[5])
		check(vera, 0, `name = "g0"`)
	})
}

func TestListEffective(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		inner, outer, far, theirs := w.group(org1, "inner"), w.group(org1, "outer"), w.group(org1, "far"), w.group(org2, "theirs")
		w.must(w.members(org1, []Subject{vera}, nil))
		w.must(w.members(org2, []Subject{vera}, nil))
		w.must(w.change(inner, []Subject{vera}, nil))
		w.must(w.change(outer, []Subject{memberOf(inner)}, nil))
		w.must(w.change(theirs, []Subject{vera}, nil))
		list := func(as Subject, organization, filter string) []string {
			t.Helper()
			var all []string
			req := &orgv1.ListEffectiveRequest{SubjectId: vera.ID, OrganizationId: organization, Filter: filter, PageSize: 1}
			for {
				resp, err := w.groups.ListEffective(w.User(as.ID), req)
				w.must(err)
				for _, g := range resp.GetGroupMembershipInfo() {
					all = append(all, g.GetGroupName())
				}
				if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
					slices.Sort(all)
					return all
				}
			}
		}
		for _, c := range []struct {
			as                   Subject
			organization, filter string
			want                 []string
		}{
			{olga, org1.ID, "", []string{"inner", "outer"}},
			{olga, org2.ID, "", []string{"theirs"}},
			{olga, "", "", []string{"inner", "outer", "theirs"}},
			{olga, "", `name = "outer"`, []string{"outer"}},
			{nick, "", "", nil},
		} {
			if got := list(c.as, c.organization, c.filter); !slices.Equal(got, c.want) {
				t.Errorf("%s asks for %q %q: %v, want %v", c.as.ID, c.organization, c.filter, got, c.want)
			}
		}
		_, err := w.groups.ListEffective(w.User(nick.ID), &orgv1.ListEffectiveRequest{SubjectId: vera.ID, OrganizationId: org1.ID})
		refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
		_, err = w.groups.ListEffective(w.User(olga.ID), &orgv1.ListEffectiveRequest{SubjectId: "ghost"})
		refused(t, err, codes.NotFound, ReasonSubjectNotFound)
		_ = far
	})
}
