package partner

import (
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

// users is the users of an account as somebody sees them: "name: roles".
func (w *world) users(who person, accountID string) map[string][]string {
	w.t.Helper()
	all := make(map[string][]string)
	for token := ""; ; {
		page := must(w.partners.ListUsers(w.as(who), &partnerv1.ListUsersRequest{BillingAccountId: accountID, PageSize: 1, PageToken: token}))(w.t)
		for _, u := range page.GetUsers() {
			name := u.GetName()
			if u.GetInvited() {
				name = "invited " + u.GetEmail()
			}
			all[name] = slices.Sorted(slices.Values(u.GetRoleIds()))
		}
		if token = page.GetNextPageToken(); token == "" {
			return all
		}
	}
}

func add(accountID, email string, roles ...string) *partnerv1.AddUserRequest {
	return &partnerv1.AddUserRequest{BillingAccountId: accountID, Email: email, RoleIds: roles}
}

func TestPT20_AddingUsersByEmail(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		partner := w.partner(ann)
		_, err := w.partners.GetSelf(w.as(bob), &partnerv1.GetSelfRequest{})
		wantRefusal(t, "who has no role", err, codes.PermissionDenied, ReasonNotAPartner)
		user := new(partnerv1.PartnerUser)
		w.done(must(w.partners.AddUser(w.as(ann), add(partner, "BOB@people.example", "billing.accounts.editor")))(t), user, new(partnerv1.UserMetadata))
		if user.GetSubjectId() != bob.id || user.GetInvited() {
			t.Errorf("added %v", user)
		}
		if self := must(w.partners.GetSelf(w.as(bob), &partnerv1.GetSelfRequest{}))(t).GetPartners(); len(self) != 1 || self[0].GetBillingAccountId() != partner {
			t.Errorf("bob opens %v", self)
		}
		w.invited(bob, partner, "") // and may add customers
		if got := w.list(bob); !slices.Contains(got, partner) {
			t.Errorf("bob's accounts %v", got)
		}
		w.done(must(w.partners.AddUser(w.as(ann), add(partner, "zoe@people.example", "billing.accounts.admin")))(t), user, nil)
		if !user.GetInvited() || user.GetSubjectId() != "" {
			t.Errorf("somebody unknown: %v", user)
		}
		want := map[string][]string{
			"ann": {"billing.accounts.owner"}, "bob": {"billing.accounts.editor", "billing.accounts.member"},
			"invited zoe@people.example": {"billing.accounts.admin", "billing.accounts.member"},
		}
		for name, roles := range w.users(ann, partner) {
			if !slices.Equal(roles, want[name]) {
				t.Errorf("%s has %v, want %v", name, roles, want[name])
			}
			delete(want, name)
		}
		if len(want) > 0 {
			t.Errorf("not listed: %v", want)
		}
		// The first sign-in turns the invitation into bindings.
		zoe := w.person("zoe")
		must(w.partners.GetSelf(w.as(zoe), &partnerv1.GetSelfRequest{}))(t)
		if got := w.users(ann, partner); got["zoe"] == nil || got["invited zoe@people.example"] != nil {
			t.Errorf("after the sign-in: %v", got)
		}
		must(w.partners.RemoveUser(w.as(zoe), &partnerv1.RemoveUserRequest{
			BillingAccountId: partner, User: &partnerv1.RemoveUserRequest_Email{Email: "Bob@people.example"},
		}))(t)
		_, err = w.partners.GetSelf(w.as(bob), &partnerv1.GetSelfRequest{})
		wantRefusal(t, "who was removed", err, codes.PermissionDenied, ReasonNotAPartner)
		_, err = w.partners.RemoveUser(w.as(zoe), &partnerv1.RemoveUserRequest{
			BillingAccountId: partner, User: &partnerv1.RemoveUserRequest_SubjectId{SubjectId: bob.id},
		})
		wantRefusal(t, "once more", err, codes.NotFound, ReasonUserNotFound)
	})
}

// An invitation is worth what its giver may give when it is taken up.
func TestAS7_InvitationsOfWhoMayNoLonger(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		partner := w.partner(ann)
		w.grant(ann, typeAccount, partner, "billing.accounts.admin", bob)
		_, err := w.partners.AddUser(w.as(bob), add(partner, "own@people.example", "billing.accounts.owner"))
		wantRefusal(t, "an admin invites an owner", err, codes.PermissionDenied, "PERMISSION_DENIED")
		must(w.partners.AddUser(w.as(bob), add(partner, "zoe@people.example", "billing.accounts.admin")))(t)
		must(w.partners.AddUser(w.as(bob), add(partner, "moe@people.example", "billing.accounts.admin")))(t)
		moe := w.person("moe")
		must(w.partners.GetSelf(w.as(moe), &partnerv1.GetSelfRequest{}))(t)
		remove := &partnerv1.RemoveUserRequest{BillingAccountId: partner, User: &partnerv1.RemoveUserRequest_SubjectId{SubjectId: bob.id}}
		must(w.partners.RemoveUser(w.as(ann), remove))(t)
		zoe := w.person("zoe")
		_, err = w.partners.GetSelf(w.as(zoe), &partnerv1.GetSelfRequest{})
		wantRefusal(t, "invited by who is one no more", err, codes.PermissionDenied, ReasonNotAPartner)
		remove.User = &partnerv1.RemoveUserRequest_SubjectId{SubjectId: ann.id}
		_, err = w.partners.RemoveUser(w.as(ann), remove)
		wantRefusal(t, "the last owner (OW-4)", err, codes.FailedPrecondition, "LAST_OWNER")
	})
}

// Where granting is strict (AS-3), inviting an address that nobody has yet is no way to
// give more than one was granted: whoever takes it up gets what the giver may give.
func TestAS3_InvitationsAboveOwn(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		org := w.cloud(ann, "").GetOrganizationId()
		a := new(partnerv1.BillingAccount)
		w.done(must(w.accounts.CreateBillingAccount(w.as(ann), &partnerv1.CreateBillingAccountRequest{
			Name: "x", CountryCode: "RU", Currency: "RUB", OrganizationId: org,
		}))(t), a, nil)
		w.grant(ann, typeAccount, a.GetId(), "billing.accounts.admin", bob)
		// While granting is not strict, an admin may give what it has not.
		must(w.partners.AddUser(w.as(bob), add(a.GetId(), "zoe@people.example", "editor", "billing.accounts.viewer")))(t)
		must(accessv1.NewAccessPolicyServiceClient(w.Conn).BindAccessPolicy(w.as(ann), &accessv1.BindAccessPolicyRequest{
			Resource: &accessv1.Resource{Type: typeOrganization, Id: org}, AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: "bindery.denyGrantAboveOwn"},
		}))(t)
		moe := w.person("moe")
		_, err := w.partners.AddUser(w.as(bob), add(a.GetId(), moe.email, "editor"))
		wantRefusal(t, "above own, to somebody", err, codes.PermissionDenied, "GRANT_ABOVE_OWN")
		// Nobody has the address: it is refused at once all the same, not first when
		// somebody signs in.
		_, err = w.partners.AddUser(w.as(bob), add(a.GetId(), "eve@people.example", "editor", "billing.accounts.viewer"))
		wantRefusal(t, "above own, to somebody yet unknown", err, codes.PermissionDenied, "GRANT_ABOVE_OWN")
		if got := w.users(ann, a.GetId())["invited eve@people.example"]; got != nil {
			t.Errorf("a refused invitation waits with %v", got)
		}
		must(w.partners.AddUser(w.as(bob), add(a.GetId(), "eve@people.example", "billing.accounts.viewer")))(t)
		zoe := w.person("zoe")
		must(w.subaccounts.ListIncomingInvitations(w.as(zoe), &partnerv1.ListIncomingInvitationsRequest{}))(t)
		if got, want := w.users(ann, a.GetId())["zoe"], []string{"billing.accounts.member", "billing.accounts.viewer"}; !slices.Equal(got, want) {
			t.Errorf("zoe was given %v, want %v", got, want)
		}
	})
}

func TestAddUserRefusals(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		for role, field := range map[string]string{
			"no.such.role": "role_ids[0]", "billing.accounts.customer": "role_ids[0]", "resource-manager.clouds.owner": "role_ids[0]",
		} {
			_, err := w.partners.AddUser(w.as(ann), add(partner, "zoe@people.example", role))
			wantRefusal(t, role, err, codes.InvalidArgument, field)
		}
		_, err := w.partners.AddUser(w.as(ann), add(partner, "zoe", "viewer"))
		wantRefusal(t, "no address", err, codes.InvalidArgument, "email")
		must(w.partners.AddUser(w.as(ann), add(partner, "zoe@people.example", "billing.accounts.viewer")))(t)
		must(w.partners.RemoveUser(w.as(ann), &partnerv1.RemoveUserRequest{
			BillingAccountId: partner, User: &partnerv1.RemoveUserRequest_Email{Email: "zoe@people.example"},
		}))(t)
		zoe := w.person("zoe")
		_, err = w.partners.GetSelf(w.as(zoe), &partnerv1.GetSelfRequest{})
		wantRefusal(t, "an invitation that was taken back", err, codes.PermissionDenied, ReasonNotAPartner)
	})
}
