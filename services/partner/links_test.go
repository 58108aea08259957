package partner

import (
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// links reads all links of an account that somebody may see, in pages of one.
func (w *world) links(who person, accountID string) []*partnerv1.CloudLink {
	w.t.Helper()
	var all []*partnerv1.CloudLink
	for token := ""; ; {
		page := must(w.accounts.ListCloudLinks(w.as(who), &partnerv1.ListCloudLinksRequest{BillingAccountId: accountID, PageSize: 1, PageToken: token}))(w.t)
		all = append(all, page.GetCloudLinks()...)
		if token = page.GetNextPageToken(); token == "" {
			return all
		}
	}
}

func TestBI1_BI4_LinkingMovesACloud(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		one, two := w.account(ann, partnerv1.BillingAccount_ACTIVE), w.account(ann, partnerv1.BillingAccount_TRIAL_ACTIVE)
		cloud := w.cloud(ann, "").GetId()
		binding := new(billingv1.BillableObjectBinding)
		w.done(must(w.public.BindBillableObject(w.as(ann), bind(one, cloud)))(t), binding, new(billingv1.BindBillableObjectMetadata))
		first := binding.GetEffectiveTime().AsTime()
		if binding.GetBillableObject().GetId() != cloud || binding.GetBillableObject().GetType() != "cloud" || time.Since(first) > time.Minute {
			t.Errorf("binding %v", binding)
		}
		// Once more changes nothing.
		w.done(must(w.public.BindBillableObject(w.as(ann), bind(one, cloud)))(t), binding, nil)
		if !binding.GetEffectiveTime().AsTime().Equal(first) {
			t.Errorf("linking again moved the time from %v to %v", first, binding.GetEffectiveTime().AsTime())
		}
		w.done(must(w.public.BindBillableObject(w.as(ann), bind(two, cloud)))(t), binding, nil)
		moved := binding.GetEffectiveTime().AsTime()
		w.ahead.Add(-int64(time.Hour)) // a clock that is set back does not overlap the times
		w.done(must(w.public.BindBillableObject(w.as(ann), bind(one, cloud)))(t), binding, nil)
		back := binding.GetEffectiveTime().AsTime()
		if !moved.After(first) || !back.After(moved) {
			t.Errorf("linked at %v, moved at %v, back at %v", first, moved, back)
		}
		ones, twos := w.links(ann, one), w.links(ann, two)
		if len(ones) != 2 || len(twos) != 1 ||
			!ones[0].GetUnlinkedAt().AsTime().Equal(moved) || !twos[0].GetLinkedAt().AsTime().Equal(moved) ||
			!twos[0].GetUnlinkedAt().AsTime().Equal(back) || ones[1].GetUnlinkedAt() != nil {
			t.Errorf("links of the one %v, of the other %v", ones, twos)
		}
		if now := must(w.public.ListBillableObjectBindings(w.as(ann), &billingv1.ListBillableObjectBindingsRequest{BillingAccountId: two}))(t); len(now.GetBillableObjectBindings()) != 0 {
			t.Errorf("the account that was left pays for %v", now)
		}
	})
}

// Many move one cloud at once: one account pays at any time, and no time is missing.
func TestBI1_RacingMoves(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		accounts := []string{w.account(ann, partnerv1.BillingAccount_ACTIVE), w.account(ann, partnerv1.BillingAccount_ACTIVE), w.account(ann, partnerv1.BillingAccount_ACTIVE)}
		cloud := w.cloud(ann, "").GetId()
		var wg sync.WaitGroup
		for i := range 24 {
			wg.Go(func() {
				if _, err := w.public.BindBillableObject(w.as(ann), bind(accounts[i%3], cloud)); err != nil {
					t.Errorf("link: %v", err)
				}
			})
		}
		wg.Wait()
		var gaps, inForce int
		if err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM partner_links WHERE unlinked_at = 0`).Scan(&inForce); err != nil || inForce != 1 {
			t.Errorf("%d links are in force (%v)", inForce, err)
		}
		if err := w.db.QueryRowContext(t.Context(), `
			SELECT COUNT(*) FROM partner_links l
			WHERE unlinked_at <> 0 AND NOT EXISTS (SELECT 1 FROM partner_links n WHERE n.cloud_id = l.cloud_id AND n.linked_at = l.unlinked_at)`).Scan(&gaps); err != nil || gaps != 0 {
			t.Errorf("%d links end and no other begins (%v)", gaps, err)
		}
	})
}

func TestBI3_PT33_LinkingNeedsBothSides(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		account, cloud := w.account(ann, partnerv1.BillingAccount_ACTIVE), w.cloud(bob, "").GetId()
		try := func(what string, who person, ok bool) {
			t.Helper()
			_, err := w.public.BindBillableObject(w.as(who), bind(account, cloud))
			if ok && err != nil {
				t.Errorf("%s: %v", what, err)
			} else if !ok {
				wantRefusal(t, what, err, codes.PermissionDenied, "PERMISSION_DENIED")
			}
		}
		try("the owner of the account alone", ann, false)
		try("the owner of the cloud alone", bob, false)
		for _, tt := range []struct {
			role string
			ok   bool
		}{
			{"billing.accounts.viewer", false}, {"billing.accounts.accountant", false}, {"billing.accounts.partnerEditor", false},
			{"billing.accounts.editor", true}, {"billing.accounts.admin", true}, {"billing.accounts.varWithoutDiscounts", true}, // C-9: the tables
		} {
			who := w.person("linker-" + tt.role)
			w.grant(ann, typeAccount, account, tt.role, who)
			w.grant(bob, typeCloud, cloud, "editor", who)
			try(tt.role+" and editor of the cloud", who, false)
			w.grant(bob, typeCloud, cloud, "resource-manager.clouds.owner", who)
			try(tt.role+" and owner of the cloud", who, tt.ok)
		}
	})
}

func TestBI7_OnlyCloudsAreLinked(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account, cloud := w.account(ann, partnerv1.BillingAccount_ACTIVE), w.cloud(ann, "").GetId()
		req := bind(account, cloud)
		for _, typ := range []string{"", "Cloud", "folder", "organization"} {
			req.BillableObject.Type = typ
			_, err := w.public.BindBillableObject(w.as(ann), req)
			wantRefusal(t, "type "+typ, err, codes.InvalidArgument, "billable_object.type")
		}
		_, err := w.public.BindBillableObject(w.as(ann), &billingv1.BindBillableObjectRequest{BillingAccountId: account})
		wantRefusal(t, "nothing", err, codes.InvalidArgument, "billable_object.id")
		for _, currency := range []string{"", "EUR", "rub"} {
			_, err := w.accounts.CreateBillingAccount(w.as(ann), &partnerv1.CreateBillingAccountRequest{Name: "x", CountryCode: "RU", Currency: currency})
			wantRefusal(t, "currency "+currency, err, codes.InvalidArgument, "currency")
		}
	})
}
