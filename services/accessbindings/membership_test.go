package accessbindings

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// leave takes a subject out of an organization.
func (w *world) leave(organization Ref, who Subject) (bool, error) {
	resp, err := w.subjects.RemoveMembership(w.t.Context(),
		&accessv1.RemoveMembershipRequest{OrganizationId: organization.ID, Subject: who.proto()})
	return resp.GetRemoved(), err
}

// membersIn reads all members of a container in pages of a size.
func (w *world) membersIn(container Ref, size int64) []Subject {
	w.t.Helper()
	var all []Subject
	req := &accessv1.ListMembersRequest{Container: container.proto(), PageSize: size}
	for {
		resp, err := w.subjects.ListMembers(w.t.Context(), req)
		w.must(err)
		for _, m := range resp.GetMembers() {
			all = append(all, subjectOf(m))
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
		if len(resp.GetMembers()) == 0 {
			w.t.Fatal("an empty page with a token")
		}
	}
}

func TestGR6_WhoLeavesLosesEverythingThere(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		fed := Ref{rules.Federation, "fed"}
		_, err := w.identity.RegisterResource(t.Context(), registerRequest(fed, org1))
		w.must(err)
		guest := Subject{rules.FederatedUser, "guest"}
		w.know(guest)
		for _, who := range []Subject{vera, guest} {
			w.must(w.members(org1, []Subject{who}, nil))
			w.must(w.members(org2, []Subject{who}, nil))
			w.mustUpdate(olga, org1, add(viewer, who))
			w.mustUpdate(adam, folder1, add(editor, who))
			w.mustUpdate(olga, org2, add(viewer, who))
		}
		w.must(w.members(fed, []Subject{guest}, nil))
		for _, who := range []Subject{vera, guest} {
			removed, err := w.leave(org1, who)
			if w.must(err); !removed {
				t.Errorf("%s was a member", who.ID)
			}
			if w.allowed(who, getFolder, folder1) || slices.Contains(w.list(adam, folder1, 0), editor+" "+who.Type+":"+who.ID) {
				t.Errorf("%s left and may still", who.ID)
			}
			if !w.allowed(who, "organization-manager.organizations.get", org2) {
				t.Errorf("%s lost what it has in another organization", who.ID)
			}
			again, err := w.leave(org1, who)
			if w.must(err); again {
				t.Errorf("%s left twice", who.ID)
			}
		}
		if got := w.membersIn(fed, 0); len(got) != 0 {
			t.Errorf("still in a federation of the organization: %v", got)
		}
		if got := w.membersIn(org2, 0); !slices.Equal(got, []Subject{olga, vera, guest}) {
			t.Errorf("members of the other organization: %v", got)
		}
		_, err = w.leave(Ref{typeOrganization, "nowhere"}, vera)
		refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
		_, err = w.leave(org1, Subject{rules.System, "allUsers"})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

func TestOW3_NoOrganizationIsLeftByItsLastOwner(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		_, err := w.leave(org1, olga)
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		w.must(w.members(org1, []Subject{carl, vera}, nil))
		_, err = w.leave(org1, carl) // the only owner of cloud1
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
		if !w.allowed(carl, getFolder, folder1) || !slices.Contains(w.membersIn(org1, 0), carl) {
			t.Error("a refused removal took something")
		}
		w.mustUpdate(olga, org1, add(orgOwner, vera))
		w.mustUpdate(carl, cloud1, add(cloudOwner, vera))
		for _, who := range []Subject{carl, olga} {
			_, err := w.leave(org1, who)
			w.must(err)
		}
		_, err = w.leave(org1, vera)
		refused(t, err, codes.FailedPrecondition, "LAST_OWNER")
	})
}

func TestListMembers(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		want := []Subject{olga}
		for i := range 25 { // names in an order that is not theirs
			who := user(fmt.Sprintf("m%d", i*7%25))
			w.know(who)
			w.must(w.members(org1, []Subject{who, olga}, nil))
			want = append(want, who)
		}
		for _, size := range []int64{0, 1, 4, 26, 1000} {
			if got := w.membersIn(org1, size); !slices.Equal(got, want) {
				t.Errorf("in pages of %d: %v, want %v", size, got, want)
			}
		}
		resp, err := w.subjects.ListMembers(t.Context(), &accessv1.ListMembersRequest{Container: org1.proto(), PageSize: 3})
		w.must(err)
		w.must(w.members(org1, nil, want[2:6])) // while somebody reads
		_, err = w.subjects.ListMembers(t.Context(), &accessv1.ListMembersRequest{Container: org2.proto(), PageToken: resp.GetNextPageToken()})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
		rest, err := w.subjects.ListMembers(t.Context(), &accessv1.ListMembersRequest{Container: org1.proto(), PageToken: resp.GetNextPageToken(), PageSize: 1})
		w.must(err)
		if got := subjectOf(rest.GetMembers()[0]); got != want[6] {
			t.Errorf("after %v comes %v, want %v", want[2], got, want[6])
		}
		_, err = w.subjects.ListMembers(t.Context(), &accessv1.ListMembersRequest{Container: Ref{typeOrganization, "nowhere"}.proto()})
		refused(t, err, codes.NotFound, "RESOURCE_NOT_FOUND")
	})
}
