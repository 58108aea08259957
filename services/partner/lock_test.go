package partner

import (
	"slices"
	"testing"
	"time"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// A client's record says who locked it, when and why, and a list is filtered by that.
func TestSC5_SC6_WhoSuspendedWhenAndWhy(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		ours, theirs, open := w.served(ann, partner), w.served(ann, partner), w.served(ann, partner)
		must(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: ours, Reason: "unpaid"}))(t)
		must(w.desk.SetBillingAccountState(t.Context(), &partnerv1.SetBillingAccountStateRequest{
			BillingAccountId: theirs, State: partnerv1.BillingAccount_SUSPENDED, Reason: "breach of terms",
		}))(t)
		for _, c := range []struct {
			id, reason string
			by         partnerv1.Subaccount_SuspendedBy
		}{{ours, "unpaid", partnerv1.Subaccount_PARTNER}, {theirs, "breach of terms", partnerv1.Subaccount_PLATFORM}, {open, "", 0}} {
			got := must(w.subaccounts.GetSubaccount(w.as(ann), &partnerv1.GetSubaccountRequest{SubaccountId: c.id}))(t)
			at := got.GetSuspendedAt()
			if got.GetSuspensionReason() != c.reason || got.GetSuspendedBy() != c.by || (at != nil) != (c.by != 0) || at != nil && time.Since(at.AsTime()) > time.Minute {
				t.Errorf("%v, want it suspended by %v for %q", got, c.by, c.reason)
			}
		}
		list := func(filter string) []string {
			t.Helper()
			var ids []string
			for _, s := range must(w.subaccounts.ListSubaccounts(w.as(ann), &partnerv1.ListSubaccountsRequest{ResellerId: partner, Filter: filter}))(t).GetSubaccounts() {
				ids = append(ids, s.GetId())
			}
			return ids
		}
		for filter, want := range map[string][]string{
			`suspended_by = "PARTNER"`: {ours}, `suspended_by = "PLATFORM"`: {theirs}, `state = "SUSPENDED"`: {ours, theirs}, "": {ours, theirs, open},
		} {
			if got := list(filter); !slices.Equal(got, want) {
				t.Errorf("%s lists %v, want %v", filter, got, want)
			}
		}
		w.state(theirs, partnerv1.BillingAccount_ACTIVE)
		got := must(w.subaccounts.GetSubaccount(w.as(ann), &partnerv1.GetSubaccountRequest{SubaccountId: theirs}))(t)
		if got.GetSuspendedAt() != nil || got.GetSuspendedBy() != 0 || got.GetSuspensionReason() != "" {
			t.Errorf("resumed: %v", got)
		}
	})
}

// organization makes another organization of somebody.
func (w *world) organization(owner person) string {
	w.t.Helper()
	made := new(orgv1.Organization)
	w.done(must(brmv1.NewOrganizationServiceClient(w.Conn).CreateOrganization(w.as(owner), &brmv1.CreateOrganizationRequest{
		Name: "second", Title: "second",
	}))(w.t), made, nil)
	return made.GetId()
}
