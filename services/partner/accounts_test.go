package partner

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// list is the ids of the accounts that somebody sees, read in pages of one.
func (w *world) list(who person) []string {
	w.t.Helper()
	var ids []string
	for token := ""; ; {
		page := must(w.public.List(w.as(who), &billingv1.ListBillingAccountsRequest{PageSize: 1, PageToken: token}))(w.t)
		for _, a := range page.GetBillingAccounts() {
			ids = append(ids, a.GetId())
		}
		if token = page.GetNextPageToken(); token == "" {
			return ids
		}
		if len(page.GetBillingAccounts()) == 0 {
			w.t.Fatal("an empty page with a token")
		}
	}
}

func TestBI2_CreatorOwnsTheAccount(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		op := must(w.accounts.CreateBillingAccount(w.as(ann), &partnerv1.CreateBillingAccountRequest{Name: "Ann's", CountryCode: "KZ", Currency: "KZT"}))(t)
		made, meta := new(partnerv1.BillingAccount), new(partnerv1.CreateBillingAccountMetadata)
		w.done(op, made, meta)
		id := made.GetId()
		if !strings.HasPrefix(id, "bac") || meta.GetBillingAccountId() != id || !strings.HasPrefix(op.GetId(), "opa") ||
			made.GetState() != partnerv1.BillingAccount_NEW {
			t.Errorf("operation %v made %v", op, made)
		}
		public := must(w.public.Get(w.as(ann), &billingv1.GetBillingAccountRequest{Id: id}))(t)
		if public.GetName() != "Ann's" || public.GetCountryCode() != "KZ" || public.GetCurrency() != "KZT" || public.GetActive() || public.GetBalance() != "0" {
			t.Errorf("account %v", public)
		}
		bindings := must(w.public.ListAccessBindings(w.as(ann), &accesspb.ListAccessBindingsRequest{ResourceId: id}))(t).GetAccessBindings()
		if len(bindings) != 1 || bindings[0].GetRoleId() != "billing.accounts.owner" || bindings[0].GetSubject().GetId() != ann.id {
			t.Errorf("bindings %v, want the creator as owner", bindings)
		}
		_, err := w.public.Get(w.as(bob), &billingv1.GetBillingAccountRequest{Id: id})
		wantRefusal(t, "another one reads it", err, codes.PermissionDenied, "PERMISSION_DENIED")
		_, err = w.public.Get(w.as(ann), &billingv1.GetBillingAccountRequest{Id: "bac00000000000000000"})
		wantRefusal(t, "what is not there", err, codes.NotFound, "RESOURCE_NOT_FOUND")
	})
}

func TestAU6_EventsOfBillingAccounts(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		id := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		must(w.public.BindBillableObject(w.as(ann), bind(id, w.cloud(ann, "").GetId())))(t)
		want := []string{
			"billing.BillingAccountCreate STARTED " + ann.id, "billing.BillingAccountCreate DONE " + ann.id,
			"billing.BillingAccountUpdate DONE ", "billing.BillableObjectBind DONE " + ann.id,
		}
		if diff := cmp.Diff(want, w.events()); diff != "" {
			t.Errorf("audit (-want +got):\n%s", diff)
		}
	})
}

func TestBillingAccountsListed(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, eve := w.person("ann"), w.person("bob"), w.person("eve")
		first, second := w.account(ann, partnerv1.BillingAccount_NEW), w.account(bob, partnerv1.BillingAccount_NEW)
		third := w.account(ann, partnerv1.BillingAccount_NEW)
		if got := w.list(ann); !slices.Equal(got, []string{first, third}) {
			t.Errorf("ann sees %v", got)
		}
		if got := w.list(eve); got != nil {
			t.Errorf("a stranger sees %v", got)
		}
		// The smallest role on an account makes it appear.
		w.grant(bob, typeAccount, second, "billing.accounts.member", eve)
		if got := w.list(eve); !slices.Equal(got, []string{second}) {
			t.Errorf("a member sees %v", got)
		}
	})
}

func TestBI5_BI6_StatesOfAccounts(t *testing.T) {
	usable := map[string]bool{"TRIAL_ACTIVE": true, "ACTIVE": true, "PAYMENT_REQUIRED": true}
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		id := w.account(ann, partnerv1.BillingAccount_NEW)
		cloud := w.cloud(ann, "")
		for number, name := range partnerv1.BillingAccount_State_name {
			state := partnerv1.BillingAccount_State(number)
			switch state {
			case partnerv1.BillingAccount_STATE_UNSPECIFIED:
				continue
			case partnerv1.BillingAccount_ACCEPTANCE_REQUIRED, partnerv1.BillingAccount_INACTIVE:
				_, err := w.desk.SetBillingAccountState(t.Context(), &partnerv1.SetBillingAccountStateRequest{BillingAccountId: id, State: state})
				wantRefusal(t, name, err, codes.FailedPrecondition, ReasonAccountState)
				continue
			default:
			}
			w.state(id, state)
			got := must(w.accounts.GetBillingAccount(w.as(ann), &partnerv1.GetBillingAccountRequest{BillingAccountId: id}))(t)
			public := must(w.public.Get(w.as(ann), &billingv1.GetBillingAccountRequest{Id: id}))(t)
			if got.GetState() != state || public.GetActive() != usable[name] {
				t.Errorf("%s: %v, active %v", name, got, public.GetActive())
			}
			if kept := got.GetDataKeptUntil(); (state == partnerv1.BillingAccount_SUSPENDED) != (kept != nil) ||
				kept != nil && time.Until(kept.AsTime()).Round(time.Hour) != 60*24*time.Hour { // BI-6
				t.Errorf("%s: data is kept until %v", name, kept)
			}
			_, err := w.public.BindBillableObject(w.as(ann), bind(id, cloud.GetId()))
			if usable[name] && err != nil {
				t.Errorf("%s: link: %v", name, err)
			} else if !usable[name] {
				wantRefusal(t, name+": link", err, codes.FailedPrecondition, ReasonAccountNotUsable)
			}
		}
	})
}

func TestBI5_BI8_TrialAndPaidVersion(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		id := w.account(ann, partnerv1.BillingAccount_NEW)
		w.grant(ann, typeAccount, id, "billing.accounts.admin", bob)
		trial, paid := &partnerv1.ActivateTrialRequest{BillingAccountId: id}, &partnerv1.ActivatePaidVersionRequest{BillingAccountId: id}
		_, err := w.accounts.ActivatePaidVersion(w.as(bob), paid)
		wantRefusal(t, "an admin", err, codes.PermissionDenied, "PERMISSION_DENIED")
		a := new(partnerv1.BillingAccount)
		w.done(must(w.accounts.ActivateTrial(w.as(ann), trial))(t), a, new(partnerv1.ActivateTrialMetadata))
		w.done(must(w.accounts.ActivateTrial(w.as(ann), trial))(t), a, nil) // again changes nothing
		if a.GetState() != partnerv1.BillingAccount_TRIAL_ACTIVE {
			t.Errorf("after the trial began: %v", a)
		}
		w.done(must(w.accounts.ActivatePaidVersion(w.as(ann), paid))(t), a, new(partnerv1.ActivatePaidVersionMetadata))
		if a.GetState() != partnerv1.BillingAccount_ACTIVE {
			t.Errorf("after the paid version began: %v", a)
		}
		_, err = w.accounts.ActivateTrial(w.as(ann), trial)
		wantRefusal(t, "a trial after it", err, codes.FailedPrecondition, ReasonAccountState)
		w.state(id, partnerv1.BillingAccount_SUSPENDED)
		_, err = w.accounts.ActivatePaidVersion(w.as(ann), paid)
		wantRefusal(t, "the way out of a suspension", err, codes.FailedPrecondition, ReasonAccountState)
	})
}

func TestUpdateBillingAccount(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		id := w.account(ann, partnerv1.BillingAccount_NEW)
		a := new(partnerv1.BillingAccount)
		w.done(must(w.accounts.UpdateBillingAccount(w.as(ann), &partnerv1.UpdateBillingAccountRequest{BillingAccountId: id, Name: "Другое имя"}))(t), a, nil)
		w.done(must(w.accounts.UpdateBillingAccount(w.as(ann), &partnerv1.UpdateBillingAccountRequest{BillingAccountId: id}))(t), a, nil) // NM-8
		if a.GetName() != "Другое имя" {
			t.Errorf("account %v", a)
		}
		_, err := w.accounts.UpdateBillingAccount(w.as(ann), &partnerv1.UpdateBillingAccountRequest{
			BillingAccountId: id, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"currency"}},
		})
		wantRefusal(t, "the currency", err, codes.InvalidArgument, "update_mask")
	})
}

// An account that pays for something stays; one that was deleted is gone with all its
// roles, and what it paid for is remembered.
func TestDeleteBillingAccount(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		id, other := w.account(ann, partnerv1.BillingAccount_ACTIVE), w.account(ann, partnerv1.BillingAccount_ACTIVE)
		cloud := w.cloud(ann, "").GetId()
		must(w.public.BindBillableObject(w.as(ann), bind(id, cloud)))(t)
		_, err := w.accounts.DeleteBillingAccount(w.as(ann), &partnerv1.DeleteBillingAccountRequest{BillingAccountId: id})
		wantRefusal(t, "with a cloud", err, codes.FailedPrecondition, ReasonAccountInUse)
		must(w.public.BindBillableObject(w.as(ann), bind(other, cloud)))(t)
		if op := must(w.accounts.DeleteBillingAccount(w.as(ann), &partnerv1.DeleteBillingAccountRequest{BillingAccountId: id}))(t); !op.GetDone() {
			t.Errorf("operation %v is not done", op)
		}
		_, err = w.public.Get(w.as(ann), &billingv1.GetBillingAccountRequest{Id: id})
		if apierr.CodeOf(err) != codes.NotFound {
			t.Errorf("after its deletion: %v", err)
		}
		if got := w.list(ann); !slices.Equal(got, []string{other}) {
			t.Errorf("ann sees %v", got)
		}
		var links int
		if err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM partner_links WHERE account_id = $1`, id).Scan(&links); err != nil || links != 1 {
			t.Errorf("%d links of it are remembered, want 1 (%v)", links, err)
		}
	})
}

func TestAB11_RolesOnBillingAccountsDoNotEnd(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		id := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		add := func(end *timestamppb.Timestamp) error {
			_, err := w.bindings.UpdateAccessBindings(w.as(ann), &accessv1.UpdateAccessBindingsRequest{
				Resource: &accessv1.Resource{Type: typeAccount, Id: id},
				AccessBindingDeltas: []*accessv1.AccessBindingDelta{{Action: accesspb.AccessBindingAction_ADD, AccessBinding: &accessv1.AccessBinding{
					RoleId: roleMember, Subject: bob.subject(), ExpiresAt: end,
				}}},
			})
			return err
		}
		wantRefusal(t, "with an end", add(timestamppb.New(time.Now().Add(time.Hour))), codes.InvalidArgument, "access_binding_deltas[0].access_binding.expires_at")
		if err := add(nil); err != nil {
			t.Errorf("without one: %v", err)
		}
	})
}

func TestQL2_BillingAccountsOfASubject(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		made := make([]error, 14)
		var wg sync.WaitGroup
		for i := range made {
			wg.Go(func() {
				_, made[i] = w.accounts.CreateBillingAccount(w.as(ann), &partnerv1.CreateBillingAccountRequest{Name: "x", CountryCode: "RU", Currency: "USD"})
			})
		}
		wg.Wait()
		good := 0
		for _, err := range made {
			if err == nil {
				good++
				continue
			}
			wantRefusal(t, "one too many", err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
		}
		if good != 10 {
			t.Errorf("%d accounts were made, want 10", good)
		}
	})
}

// An account below an organization belongs to the organization's owner, too, and it takes
// a right there to make one.
func TestBI8_AccountOfAnOrganization(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		org := w.cloud(ann, "").GetOrganizationId()
		req := &partnerv1.CreateBillingAccountRequest{Name: "x", CountryCode: "RU", Currency: "RUB", OrganizationId: org}
		_, err := w.accounts.CreateBillingAccount(w.as(bob), req)
		wantRefusal(t, "a stranger", err, codes.PermissionDenied, "PERMISSION_DENIED")
		w.grant(ann, typeOrganization, org, "organization-manager.admin", bob)
		a := new(partnerv1.BillingAccount)
		w.done(must(w.accounts.CreateBillingAccount(w.as(bob), req))(t), a, nil)
		if a.GetOrganizationId() != org {
			t.Errorf("account %v", a)
		}
		must(w.accounts.ActivatePaidVersion(w.as(ann), &partnerv1.ActivatePaidVersionRequest{BillingAccountId: a.GetId()}))(t)
	})
}

// What was decided is there after a restart.
func TestLinksAfterARestart(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		id := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		cloud := w.cloud(ann, "").GetId()
		must(w.public.BindBillableObject(w.as(ann), bind(id, cloud)))(t)
		w.restart()
		links := must(w.public.ListBillableObjectBindings(w.as(ann), &billingv1.ListBillableObjectBindingsRequest{BillingAccountId: id}))(t)
		if len(links.GetBillableObjectBindings()) != 1 {
			t.Errorf("links %v", links)
		}
	})
}
