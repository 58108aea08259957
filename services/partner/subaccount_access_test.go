package partner

import (
	"testing"

	"google.golang.org/grpc/codes"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

func (w *world) access() partnerv1.SubaccountAccessServiceClient {
	return partnerv1.NewSubaccountAccessServiceClient(w.Conn)
}

// added is a delta that gives a role to somebody.
func added(role string, to person) *accesspb.AccessBindingDelta {
	return &accesspb.AccessBindingDelta{
		Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accesspb.AccessBinding{RoleId: role, Subject: &accesspb.Subject{Type: "userAccount", Id: to.id}},
	}
}

// TestPT22_AccessOfSubaccountsOnly: whoever may manage access to subaccounts but not to the
// partner's account does so there alone, gives no ownership, and leaves a deleted one alone.
func TestPT22_AccessOfSubaccountsOnly(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		owner, seller, friend := w.person("owner"), w.person("seller"), w.person("friend")
		partnerID := w.partner(owner)
		w.grant(owner, typeAccount, partnerID, "billing.accounts.varWithoutDiscounts", seller)
		sub := w.invited(owner, partnerID, "").GetId()
		give := func(as person, id, role string) error {
			_, err := w.access().UpdateSubaccountAccessBindings(w.as(as), &partnerv1.UpdateSubaccountAccessBindingsRequest{
				SubaccountId: id, AccessBindingDeltas: []*accesspb.AccessBindingDelta{added(roleMember, friend), added(role, friend)},
			})
			return err
		}
		if err := give(seller, sub, "billing.accounts.viewer"); err != nil {
			t.Fatal(err)
		}
		if err := w.may(friend, "billing.customers.get", typeAccount, sub); err != nil {
			t.Errorf("a viewer of the subaccount does not see it: %v", err)
		}
		wantRefusal(t, "the partner's own account", give(seller, partnerID, "billing.accounts.viewer"), codes.NotFound, "SUBACCOUNT_NOT_FOUND")
		wantRefusal(t, "the owner role", give(seller, sub, roleOwner), codes.PermissionDenied, "access_binding_deltas[1].access_binding")
		wantRefusal(t, "a viewer", give(friend, sub, "billing.accounts.viewer"), codes.PermissionDenied, "PERMISSION_DENIED")
		_, err := w.access().ListSubaccountAccessBindings(w.as(seller), &partnerv1.ListSubaccountAccessBindingsRequest{SubaccountId: partnerID})
		wantRefusal(t, "list the partner's own account", err, codes.NotFound, "SUBACCOUNT_NOT_FOUND")

		listed := must(w.access().ListSubaccountAccessBindings(w.as(seller), &partnerv1.ListSubaccountAccessBindingsRequest{SubaccountId: sub}))(t)
		found := false
		for _, b := range listed.GetAccessBindings() {
			found = found || b.GetRoleId() == "billing.accounts.viewer" && b.GetSubject().GetId() == friend.id
		}
		if !found {
			t.Errorf("%v, want the viewer listed", listed)
		}
		must(w.subaccounts.DeleteSubaccount(w.as(owner), &partnerv1.DeleteSubaccountRequest{SubaccountId: sub}))(t)
		wantRefusal(t, "a deleted one", give(seller, sub, "billing.accounts.editor"), codes.FailedPrecondition, "SUBACCOUNT_STATE")
	})
}

// TestAS20_RolesGoToUsersOfAnUnlinkedAccount: on an account outside of organizations a role
// goes to who is added to it; below an organization it goes to anybody there.
func TestAS20_RolesGoToUsersOfAnUnlinkedAccount(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		owner, friend, other := w.person("owner"), w.person("friend"), w.person("other")
		account := w.account(owner, partnerv1.BillingAccount_ACTIVE)
		give := func(deltas ...*accesspb.AccessBindingDelta) error {
			_, err := w.public.UpdateAccessBindings(w.as(owner), &accesspb.UpdateAccessBindingsRequest{ResourceId: account, AccessBindingDeltas: deltas})
			return err
		}
		everybody := &accesspb.AccessBindingDelta{
			Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accesspb.AccessBinding{
				RoleId: "billing.accounts.viewer", Subject: &accesspb.Subject{Type: "system", Id: "allAuthenticatedUsers"},
			},
		}
		wantRefusal(t, "somebody who was not added", give(added("billing.accounts.viewer", friend)), codes.FailedPrecondition, "access_binding_deltas[0].access_binding")
		wantRefusal(t, "everybody", give(everybody), codes.FailedPrecondition, "access_binding_deltas[0].access_binding")
		for what, deltas := range map[string][]*accesspb.AccessBindingDelta{
			"the owner":                       {added("billing.accounts.accountant", owner)},
			"somebody who is added with it":   {added("billing.accounts.viewer", friend), added(roleMember, friend)},
			"somebody who was added, further": {added("billing.accounts.editor", owner)},
		} {
			if err := give(deltas...); err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		must(w.partners.AddUser(w.as(owner), &partnerv1.AddUserRequest{BillingAccountId: account, Email: other.email, RoleIds: []string{"billing.accounts.viewer"}}))(t)
		if err := give(added("billing.accounts.editor", other)); err != nil {
			t.Errorf("a user of the account: %v", err)
		}

		org := w.cloud(owner, "").GetOrganizationId()
		must(w.accounts.BindOrganization(w.as(owner), &partnerv1.BindOrganizationRequest{BillingAccountId: account, OrganizationId: org}))(t)
		if err := give(added("billing.accounts.viewer", w.person("third"))); err != nil {
			t.Errorf("below an organization: %v", err)
		}
	})
}
