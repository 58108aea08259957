package partner

import (
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// A cloud that is unlinked is nobody's from then on, and what a suspension has taken away
// is not had back by it.
func TestBI9_UnlinkingACloud(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		account, c := w.account(ann, partnerv1.BillingAccount_ACTIVE), w.cloud(bob, "").GetId()
		unlink := func(who person) error {
			_, err := w.accounts.UnlinkCloud(w.as(who), &partnerv1.UnlinkCloudRequest{BillingAccountId: account, CloudId: c})
			return err
		}
		w.grant(bob, typeCloud, c, "resource-manager.clouds.owner", ann)
		wantRefusal(t, "before the link", unlink(ann), codes.FailedPrecondition, ReasonCloudNotLinked)
		must(w.public.BindBillableObject(w.as(ann), bind(account, c)))(t)
		wantRefusal(t, "by the cloud's side alone", unlink(bob), codes.PermissionDenied, "PERMISSION_DENIED")
		w.state(account, partnerv1.BillingAccount_SUSPENDED)
		wantRefusal(t, "while the account is stopped", unlink(ann), codes.FailedPrecondition, ReasonAccountNotUsable)
		wantRefusal(t, "and still stopped", w.may(ann, use, typeCloud, c), codes.PermissionDenied, "PAYER_STOPPED")
		w.state(account, partnerv1.BillingAccount_ACTIVE)
		ended := new(partnerv1.CloudLink)
		w.done(must(w.accounts.UnlinkCloud(w.as(ann), &partnerv1.UnlinkCloudRequest{BillingAccountId: account, CloudId: c}))(t), ended, new(partnerv1.UnlinkCloudMetadata))
		if ended.GetCloudId() != c || ended.GetBillingAccountId() != account || !ended.GetUnlinkedAt().AsTime().After(ended.GetLinkedAt().AsTime()) {
			t.Errorf("unlinked %v", ended)
		}
		wantRefusal(t, "twice", unlink(ann), codes.FailedPrecondition, ReasonCloudNotLinked)
		w.state(account, partnerv1.BillingAccount_SUSPENDED)
		if err := w.may(ann, use, typeCloud, c); err != nil {
			t.Errorf("a cloud that the account paid for once: %v", err)
		}
		w.state(account, partnerv1.BillingAccount_ACTIVE)
		must(w.public.BindBillableObject(w.as(ann), bind(account, c)))(t)
		if got := w.links(ann, account); len(got) != 2 || got[0].GetUnlinkedAt() == nil || got[1].GetUnlinkedAt() != nil {
			t.Errorf("links %v", got)
		}
	})
}

func TestBI8_AS14_BindingToAnOrganization(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		partner := w.partner(ann)
		sub := w.served(ann, partner)
		org, other := w.cloud(ann, "").GetOrganizationId(), w.cloud(bob, "").GetOrganizationId()
		w.grant(ann, typeOrganization, org, "billing.accounts.viewer", bob)
		bindTo := func(who person, account, organization string) (*partnerv1.BillingAccount, error) {
			op, err := w.accounts.BindOrganization(w.as(who), &partnerv1.BindOrganizationRequest{BillingAccountId: account, OrganizationId: organization})
			if err != nil {
				return nil, err
			}
			a := new(partnerv1.BillingAccount)
			w.done(op, a, new(partnerv1.BindOrganizationMetadata))
			return a, nil
		}
		_, err := bindTo(ann, partner, other)
		wantRefusal(t, "somebody else's organization", err, codes.PermissionDenied, "PERMISSION_DENIED")
		_, err = bindTo(bob, partner, other)
		wantRefusal(t, "somebody else's account", err, codes.PermissionDenied, "PERMISSION_DENIED")
		_, err = bindTo(ann, sub, org)
		wantRefusal(t, "a subaccount", err, codes.FailedPrecondition, ReasonIsSubaccount)
		if w.may(bob, "billing.accounts.get", typeAccount, sub) == nil {
			t.Error("a role on the organization holds on an account elsewhere")
		}
		if a := must(bindTo(ann, partner, org))(t); a.GetOrganizationId() != org {
			t.Errorf("bound %v", a)
		}
		must(bindTo(ann, partner, org))(t)               // once more changes nothing
		for _, account := range []string{partner, sub} { // AS-14, and what is below it
			if err := w.may(bob, "billing.accounts.get", typeAccount, account); err != nil {
				t.Errorf("a role on the organization on %s: %v", account, err)
			}
		}
		w.grant(bob, typeOrganization, other, "organization-manager.organizations.owner", ann)
		_, err = bindTo(ann, partner, other)
		wantRefusal(t, "another organization", err, codes.FailedPrecondition, ReasonAccountBound)
		w.invited(ann, partner, "") // it goes on
		w.restart()
		if err := w.may(bob, "billing.accounts.get", typeAccount, sub); err != nil {
			t.Errorf("after a restart: %v", err)
		}
	})
}

// Many bind one account to two organizations at once: one of them has it, in the row and
// in the tree.
func TestBI8_RacingOrganizations(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		orgs := []string{w.cloud(ann, "").GetOrganizationId(), w.organization(ann)}
		readers := []person{w.person("zero"), w.person("one")}
		for i, org := range orgs {
			w.grant(ann, typeOrganization, org, "billing.accounts.viewer", readers[i])
		}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				_, err := w.accounts.BindOrganization(w.as(ann), &partnerv1.BindOrganizationRequest{BillingAccountId: account, OrganizationId: orgs[i%2]})
				if code := apierr.CodeOf(err); code != codes.OK && code != codes.FailedPrecondition {
					t.Errorf("bind: %v", err)
				}
			})
		}
		wg.Wait()
		a := must(w.accounts.GetBillingAccount(w.as(ann), &partnerv1.GetBillingAccountRequest{BillingAccountId: account}))(t)
		for i, org := range orgs {
			if reads := w.may(readers[i], "billing.accounts.get", typeAccount, account) == nil; reads != (org == a.GetOrganizationId()) {
				t.Errorf("the account says it is of %s; a reader of %s may read it: %t", a.GetOrganizationId(), org, reads)
			}
		}
	})
}
