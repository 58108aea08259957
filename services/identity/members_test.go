package identity

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	oauthpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/oauth"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

const ownerOfOrganizations = "organization-manager.organizations.owner"

// listMembers reads all members of an organization, in pages of a size.
func (w *town) listMembers(as citizen, org string, size int64) []*oauthpb.SubjectClaims {
	w.t.Helper()
	var all []*oauthpb.SubjectClaims
	req := &orgv1.ListMembersRequest{OrganizationId: org, PageSize: size}
	for {
		resp, err := w.members.ListMembers(as.ctx, req)
		if err != nil {
			w.t.Fatal(err)
		}
		for _, u := range resp.GetUsers() {
			all = append(all, u.GetSubjectClaims())
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return all
		}
		if len(resp.GetUsers()) == 0 {
			w.t.Fatal("an empty page with a token")
		}
	}
}

func (w *town) leave(as citizen, org, subjectID string) error {
	op, err := w.members.DeleteMembership(as.ctx, &orgv1.DeleteMembershipRequest{OrganizationId: org, SubjectId: subjectID})
	if err != nil {
		return err
	}
	w.done(op, nil, new(orgv1.DeleteMembershipResponse))
	return nil
}

func TestListMembers(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, sync := w.citizen("olga"), w.citizen("sync")
		org := w.organization(olga, "acme")
		vera, err := w.operator.CreateUser(t.Context(), &identityv1.CreateUserRequest{
			Login: "Vera", Email: "vera@example.com", GivenName: "Vera", FamilyName: "Nova", PhoneNumber: "+4930123456",
		})
		if err != nil {
			t.Fatal(err)
		}
		w.join(olga, org, citizen{id: vera.GetId(), login: "vera", email: "vera@example.com", ctx: w.Context(w.token(vera).GetIamToken())})
		for _, login := range []string{"a", "b", "c"} {
			w.join(olga, org, w.citizen(login))
		}
		full := &oauthpb.SubjectClaims{
			Sub: vera.GetId(), PreferredUsername: "Vera", SubType: oauthpb.SubjectType_USER_ACCOUNT, Email: "vera@example.com",
			GivenName: "Vera", FamilyName: "Nova", Name: "Vera Nova", PhoneNumber: "+4930123456",
		}
		w.grant(olga, typeOrganization, org, "organization-manager.userpools.syncAgent", sync) // has users.list alone
		auditor := w.citizen("auditor")
		w.grant(olga, typeOrganization, org, "auditor", auditor) // has no users.getPhone
		noPhone := proto.CloneOf(full)
		noPhone.PhoneNumber = ""
		bare := &oauthpb.SubjectClaims{Sub: full.GetSub(), PreferredUsername: "Vera", SubType: oauthpb.SubjectType_USER_ACCOUNT}
		for who, want := range map[*citizen]*oauthpb.SubjectClaims{&olga: full, &auditor: noPhone, &sync: bare} {
			all := w.listMembers(*who, org, 2)
			if len(all) != 5 {
				t.Fatalf("%s sees %d members, want 5", who.login, len(all))
			}
			i := slices.IndexFunc(all, func(c *oauthpb.SubjectClaims) bool { return c.GetSub() == vera.GetId() })
			if i < 0 {
				t.Fatalf("%s does not see her", who.login)
			}
			all[i].LastAuthenticatedAt = nil
			if diff := cmp.Diff(want, all[i], protocmp.Transform()); diff != "" {
				t.Errorf("%s sees her otherwise (-want +got):\n%s", who.login, diff)
			}
		}
		_, err = w.members.ListMembers(olga.ctx, &orgv1.ListMembersRequest{OrganizationId: org, PageToken: "x"})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		_, err = w.members.ListMembers(w.citizen("stranger").ctx, &orgv1.ListMembersRequest{OrganizationId: org})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	})
}

// Who leaves an organization loses all of it, and nothing elsewhere.
func TestGR6_DeletedMembershipTakesEverything(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera, nick := w.citizen("olga"), w.citizen("vera"), w.citizen("nick")
		here, there := w.organization(olga, "here"), w.organization(olga, "there")
		clouds := map[string]string{here: w.cloud(olga, here), there: w.cloud(olga, there)}
		for _, org := range []string{here, there} {
			for _, who := range []citizen{vera, nick} {
				w.join(olga, org, who)
				w.grant(olga, "resource-manager.cloud", clouds[org], "viewer", who)
			}
		}
		reads := func(who citizen, org string) error {
			_, err := w.clouds.Get(who.ctx, &rmv1.GetCloudRequest{CloudId: clouds[org]})
			return err
		}
		wantCode(t, w.leave(nick, here, vera.id), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		if err := w.leave(olga, here, vera.id); err != nil { // by an administrator
			t.Fatal(err)
		}
		if err := w.leave(nick, here, ""); err != nil { // by itself
			t.Fatal(err)
		}
		for _, who := range []citizen{vera, nick} {
			if w.isMember(who, here) || !w.isMember(who, there) {
				t.Errorf("%s is a member here %t, there %t", who.login, w.isMember(who, here), w.isMember(who, there))
			}
			wantCode(t, reads(who, here), codes.PermissionDenied, apierr.ReasonPermissionDenied)
			if err := reads(who, there); err != nil {
				t.Errorf("%s lost the other organization: %v", who.login, err)
			}
		}
		wantCode(t, w.leave(olga, here, vera.id), codes.NotFound, ReasonMembershipNotFound)
		wantCode(t, w.leave(vera, here, ""), codes.NotFound, ReasonMembershipNotFound)
		wantCode(t, w.leave(olga, here, "usr00000000000000000"), codes.NotFound, ReasonMembershipNotFound)
		wantCode(t, w.leave(olga, "org00000000000000000", vera.id), codes.NotFound, apierr.ReasonResourceNotFound)
		events := w.organizationEvents()
		if events["DeleteMembership STARTED"] != 2 || events["DeleteMembership DONE"] != 2 {
			t.Errorf("audit records: %v", events)
		}
		w.join(olga, here, vera)
		wantCode(t, reads(vera, here), codes.PermissionDenied, apierr.ReasonPermissionDenied) // what she held is gone for good
	})
}

// The last owner cannot leave, also when all of them try at once.
func TestOW3_LastOwnerCannotLeave(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		wantCode(t, w.leave(olga, org, ""), codes.FailedPrecondition, "LAST_OWNER")
		if !w.isMember(olga, org) {
			t.Fatal("she was refused and left")
		}
		owners := []citizen{olga, vera, w.citizen("nick"), w.citizen("adam")}
		for _, who := range owners[1:] {
			w.join(olga, org, who)
			w.grant(olga, typeOrganization, org, ownerOfOrganizations, who)
		}
		var all sync.WaitGroup
		errs := make([]error, len(owners))
		for i, who := range owners {
			all.Go(func() { errs[i] = w.leave(who, org, "") })
		}
		all.Wait()
		stayed := 0
		for i, err := range errs {
			if err != nil {
				wantCode(t, err, codes.FailedPrecondition, "LAST_OWNER")
				stayed++
			}
			if w.isMember(owners[i], org) != (err != nil) {
				t.Errorf("%s: %v, a member %t", owners[i].login, err, w.isMember(owners[i], org))
			}
		}
		if stayed != 1 {
			t.Errorf("%d owners stayed, want 1", stayed)
		}
	})
}

func TestDeleteMembershipHonoursKeys(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		w.join(olga, org, vera)
		req := &orgv1.DeleteMembershipRequest{OrganizationId: org, SubjectId: vera.id}
		first, err := w.members.DeleteMembership(olga.keyed("k"), req)
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.members.DeleteMembership(olga.keyed("k"), req)
		if err != nil || !proto.Equal(first, again) {
			t.Errorf("again: %v, %v; want %v", again, err, first)
		}
		w.join(olga, org, vera)
		if _, err := w.members.DeleteMembership(olga.keyed("k"), req); err != nil || !w.isMember(vera, org) {
			t.Errorf("the replay took her out again: %v", err)
		}
	})
}

// What the operator does to a user counts everywhere at once.
func TestOperatorEndsUsers(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		w.join(olga, org, vera)
		works := func(c citizen) error {
			_, err := w.invitations.ListIncomingInvitations(c.ctx, &identityv1.ListIncomingInvitationsRequest{})
			return err
		}
		suspended, err := w.operator.SuspendUser(t.Context(), &identityv1.SuspendUserRequest{Login: "VERA", Reason: "a lost laptop"})
		if err != nil || suspended.GetUser().GetState() != identityv1.OperatorUser_SUSPENDED || suspended.GetUser().GetSuspendReason() != "a lost laptop" {
			t.Fatalf("suspend: %v, %v", suspended, err)
		}
		wantCode(t, works(vera), codes.Unauthenticated, apierr.ReasonSubjectInactive)
		_, err = w.operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "vera"})
		wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		if !w.isMember(vera, org) {
			t.Error("a suspension ended the membership")
		}
		if back, err := w.operator.ReactivateUser(t.Context(), &identityv1.ReactivateUserRequest{Login: "vera"}); err != nil || back.GetUser().GetState() != identityv1.OperatorUser_ACTIVE {
			t.Fatalf("reactivate: %v, %v", back, err)
		}
		if err := works(vera); err != nil {
			t.Errorf("active again: %v", err)
		}

		_, err = w.operator.DeleteUser(t.Context(), &identityv1.DeleteUserRequest{Login: "olga"})
		wantCode(t, err, codes.FailedPrecondition, "LAST_OWNER")
		if err := works(olga); err != nil {
			t.Errorf("the deletion was refused, and she cannot act: %v", err)
		}
		if gone, err := w.operator.DeleteUser(t.Context(), &identityv1.DeleteUserRequest{Login: "vera"}); err != nil || gone.GetId() != vera.id {
			t.Fatalf("delete: %v, %v", gone, err)
		}
		wantCode(t, works(vera), codes.Unauthenticated, apierr.ReasonSubjectInactive)
		if w.isMember(vera, org) || len(w.listMembers(olga, org, 10)) != 1 {
			t.Error("who is deleted is still a member")
		}
		for _, err := range []error{
			second(w.operator.DeleteUser(t.Context(), &identityv1.DeleteUserRequest{Login: "vera"})),
			second(w.operator.SuspendUser(t.Context(), &identityv1.SuspendUserRequest{Login: "vera"})),
			second(w.operator.ReactivateUser(t.Context(), &identityv1.ReactivateUserRequest{Login: "nobody"})),
		} {
			wantCode(t, err, codes.NotFound, ReasonUserNotFound)
		}
		if heir := w.citizen("vera"); heir.id == vera.id || w.isMember(heir, org) { // login and address are free again
			t.Error("who has her login now is taken for her")
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestOperatorListsUsers(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		want := map[string]bool{}
		for _, login := range []string{"vera", "nick", "olga", "adam", "carl"} {
			want[w.user(login).GetId()] = true
		}
		list := func(filter string) []string {
			var ids []string
			req := &identityv1.ListUsersRequest{PageSize: 2, Filter: filter}
			for {
				resp, err := w.operator.ListUsers(t.Context(), req)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range resp.GetUsers() {
					ids = append(ids, u.GetId())
				}
				if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
					return ids
				}
			}
		}
		all := list("")
		if len(all) != len(want) || !slices.IsSorted(all) || slices.ContainsFunc(all, func(id string) bool { return !want[id] }) {
			t.Errorf("all users: %v, want %v", all, want)
		}
		for filter, n := range map[string]int{`login = "VERA"`: 1, `email = "Nick@example.com"`: 1, `id = "` + all[3] + `"`: 1, `login = "nobody"`: 0} {
			if got := list(filter); len(got) != n {
				t.Errorf("%s: %v, want %d", filter, got, n)
			}
		}
		for _, bad := range []string{"v\u0435ra@example.com", strings.Repeat("a", 65) + "@example.com", "vera@xn--example-r06c.com"} {
			_, err := w.operator.CreateUser(t.Context(), &identityv1.CreateUserRequest{Login: "eve", Email: bad})
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
	})
}

// The permission checker is told of a suspension late, at worst, and never wrongly.
func TestSuspensionsOvertakeEachOther(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		vera := w.citizen("vera")
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				var err error
				if i%2 == 0 {
					_, err = w.operator.SuspendUser(t.Context(), &identityv1.SuspendUserRequest{Login: "vera"})
				} else {
					_, err = w.operator.ReactivateUser(t.Context(), &identityv1.ReactivateUserRequest{Login: "vera"})
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		users, err := w.operator.ListUsers(t.Context(), &identityv1.ListUsersRequest{})
		if err != nil || len(users.GetUsers()) != 1 {
			t.Fatalf("users: %v, %v", users, err)
		}
		_, err = w.subjects.ListMemberships(vera.ctx, &accessv1.ListMembershipsRequest{Subject: vera.subject(), ContainerType: typeOrganization})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.invitations.ListIncomingInvitations(vera.ctx, &identityv1.ListIncomingInvitationsRequest{})
		if stands := users.GetUsers()[0].GetState() == identityv1.OperatorUser_SUSPENDED; stands != (apierr.ReasonOf(err) == apierr.ReasonSubjectInactive) {
			t.Errorf("suspended %t, and her call got %v", stands, err)
		}
	})
}
