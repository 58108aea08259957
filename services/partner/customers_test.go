package partner

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// company is the legal data of a customer.
var company = &billingv1.CustomerPerson{
	Name: "ACME", Longname: "ACME Ltd", Phone: "+7 900 000-00-00", Email: "boss@acme.example", PostCode: "101000",
	PostAddress: "PO box 1", LegalAddress: "Moscow, 1", Tin: "7700000000",
}

// partner makes a billing account with partner status.
func (w *world) partner(owner person) string {
	w.t.Helper()
	id := w.account(owner, partnerv1.BillingAccount_ACTIVE)
	w.programs(id, partnerv1.Partner_VAR)
	return id
}

func (w *world) programs(accountID string, programs ...partnerv1.Partner_Program) {
	w.t.Helper()
	must(w.desk.SetPartnerStatus(w.t.Context(), &partnerv1.SetPartnerStatusRequest{BillingAccountId: accountID, Programs: programs}))(w.t)
}

// invited makes a subaccount for an address.
func (w *world) invited(by person, partnerID, address string) *partnerv1.Subaccount {
	w.t.Helper()
	made := new(partnerv1.Subaccount)
	w.done(must(w.subaccounts.CreateSubaccount(w.as(by), &partnerv1.CreateSubaccountRequest{
		ResellerId: partnerID, Name: "Customer", InvitationEmail: address, Person: company,
	}))(w.t), made, new(partnerv1.SubaccountMetadata))
	return made
}

// served makes an active subaccount that the partner serves itself.
func (w *world) served(by person, partnerID string) string {
	w.t.Helper()
	id := w.invited(by, partnerID, "").GetId()
	must(w.subaccounts.ActivateSubaccount(w.as(by), &partnerv1.ActivateSubaccountRequest{SubaccountId: id}))(w.t)
	return id
}

func (w *world) stateOf(who person, id string) partnerv1.BillingAccount_State {
	w.t.Helper()
	return must(w.subaccounts.GetSubaccount(w.as(who), &partnerv1.GetSubaccountRequest{SubaccountId: id}))(w.t).GetState()
}

func (w *world) incoming(who person) []string {
	w.t.Helper()
	var ids []string
	for _, i := range must(w.subaccounts.ListIncomingInvitations(w.as(who), &partnerv1.ListIncomingInvitationsRequest{}))(w.t).GetInvitations() {
		ids = append(ids, i.GetSubaccountId())
	}
	return ids
}

func TestPT2_OnlyPartnersHaveCustomers(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		id := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		req := &partnerv1.CreateSubaccountRequest{ResellerId: id, Name: "Customer", Person: company}
		try := func(what string, ok bool) {
			t.Helper()
			_, err := w.subaccounts.CreateSubaccount(w.as(ann), req)
			_, self := w.partners.GetSelf(w.as(ann), &partnerv1.GetSelfRequest{BillingAccountId: id})
			if ok && (err != nil || self != nil) {
				t.Errorf("%s: %v, %v", what, err, self)
			} else if !ok {
				wantRefusal(t, what, err, codes.PermissionDenied, ReasonNotAPartner)
			}
		}
		try("without the status", false)
		w.programs(id, partnerv1.Partner_REFERRAL)
		try("in the referral program alone (PT-3)", false)
		w.programs(id, partnerv1.Partner_VAR, partnerv1.Partner_REFERRAL)
		try("a direct partner", true)
		w.state(id, partnerv1.BillingAccount_SUSPENDED)
		try("suspended", false)
		_, err := w.desk.SetPartnerStatus(t.Context(), &partnerv1.SetPartnerStatusRequest{BillingAccountId: id, Programs: []partnerv1.Partner_Program{partnerv1.Partner_VAR}})
		wantRefusal(t, "the status for one that is not ACTIVE", err, codes.FailedPrecondition, ReasonAccountState)
	})
}

func TestPT9_PT10_PT17_PT18_Acceptance(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, ned, cus, adm, eve := w.person("ann"), w.person("ned"), w.person("cus"), w.person("adm"), w.person("eve")
		partner := w.partner(ann)
		w.grant(ann, typeAccount, partner, "billing.accounts.editor", ned)
		made := new(partnerv1.Subaccount)
		w.done(must(w.subaccounts.CreateSubaccount(w.as(ned), &partnerv1.CreateSubaccountRequest{
			ResellerId: partner, Name: "ACME", InvitationEmail: "CUS@people.example", Person: company, AdminEmails: []string{"adm@people.example"},
		}))(t), made, nil)
		id := made.GetId()
		if made.GetState() != partnerv1.BillingAccount_ACCEPTANCE_REQUIRED || made.GetOrganizationId() != "" {
			t.Errorf("made %v", made)
		}
		// PT-16: the invited person sees the invitation, whatever the case of the address.
		if got := w.incoming(cus); !slices.Equal(got, []string{id}) {
			t.Errorf("invitations of the customer %v", got)
		}
		for _, who := range []person{ann, ned, adm, eve} {
			_, err := w.subaccounts.AcceptInvitation(w.as(who), &partnerv1.AcceptInvitationRequest{SubaccountId: id})
			wantRefusal(t, who.login+" accepts for somebody else", err, codes.PermissionDenied, "PERMISSION_DENIED")
		}
		_, err := w.public.BindBillableObject(w.as(ann), bind(id, w.cloud(ann, "").GetId()))
		wantRefusal(t, "a cloud before acceptance (PT-32)", err, codes.FailedPrecondition, ReasonAccountNotUsable)
		answer := new(partnerv1.InvitationToSubaccount)
		meta := new(partnerv1.SubaccountMetadata)
		w.done(must(w.subaccounts.AcceptInvitation(w.as(cus), &partnerv1.AcceptInvitationRequest{SubaccountId: id}))(t), answer, meta)
		if meta.GetRevision() == "" {
			t.Error("the revision of the roles in the organization, which another unit made, is not told")
		}
		if answer.GetState() != partnerv1.BillingAccount_ACTIVE || answer.GetOrganizationId() == "" || w.stateOf(ann, id) != partnerv1.BillingAccount_ACTIVE {
			t.Errorf("accepted: %v", answer)
		}
		// PT-17: named after the customer. PT-18: who is what there.
		org := must(w.orgs.Get(w.as(cus), &orgv1.GetOrganizationRequest{OrganizationId: answer.GetOrganizationId()}))(t)
		if org.GetTitle() != "ACME" {
			t.Errorf("organization %v", org)
		}
		var roles []string
		for _, b := range must(w.orgs.ListAccessBindings(w.as(cus), &accesspb.ListAccessBindingsRequest{ResourceId: org.GetId()}))(t).GetAccessBindings() {
			if b.GetSubject().GetType() != "userAccount" { // the groups that every organization begins with (SC-2)
				continue
			}
			roles = append(roles, map[string]string{ann.id: "ann", ned.id: "ned", cus.id: "cus", adm.id: "adm"}[b.GetSubject().GetId()]+" "+b.GetRoleId())
		}
		slices.Sort(roles)
		const owner = " organization-manager.organizations.owner"
		if want := []string{"adm admin", "ann" + owner, "cus" + owner, "ned admin"}; !slices.Equal(roles, want) {
			t.Errorf("roles on the organization %q, want %q", roles, want)
		}
		// PT-18 on the subaccount: its maker and those named administrate it.
		for _, who := range []person{ned, adm} {
			must(w.subaccounts.SuspendSubaccount(w.as(who), &partnerv1.SuspendSubaccountRequest{SubaccountId: id}))(t)
			must(w.subaccounts.ResumeSubaccount(w.as(who), &partnerv1.ResumeSubaccountRequest{SubaccountId: id}))(t)
		}
		_, err = w.subaccounts.AcceptInvitation(w.as(cus), &partnerv1.AcceptInvitationRequest{SubaccountId: id})
		wantRefusal(t, "accepting twice", err, codes.FailedPrecondition, ReasonSubaccountState)
		if got := w.incoming(cus); got != nil {
			t.Errorf("invitations after the answer %v", got)
		}
	})
}

func TestPT10_Decline(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, cus := w.person("ann"), w.person("cus")
		partner := w.partner(ann)
		id := w.invited(ann, partner, cus.email).GetId()
		answer := new(partnerv1.InvitationToSubaccount)
		w.done(must(w.subaccounts.DeclineInvitation(w.as(cus), &partnerv1.DeclineInvitationRequest{SubaccountId: id}))(t), answer, nil)
		if answer.GetState() != partnerv1.BillingAccount_INACTIVE || answer.GetResellerName() == "" {
			t.Errorf("declined: %v", answer)
		}
		for what, err := range map[string]error{
			"accepting":  second(w.subaccounts.AcceptInvitation(w.as(cus), &partnerv1.AcceptInvitationRequest{SubaccountId: id})),
			"declining":  second(w.subaccounts.DeclineInvitation(w.as(cus), &partnerv1.DeclineInvitationRequest{SubaccountId: id})),
			"resending":  second(w.subaccounts.ResendInvitation(w.as(ann), &partnerv1.ResendInvitationRequest{SubaccountId: id})),
			"suspending": second(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: id})),
			"activating": second(w.subaccounts.ActivateSubaccount(w.as(ann), &partnerv1.ActivateSubaccountRequest{SubaccountId: id})),
			"changing":   second(w.subaccounts.UpdateSubaccount(w.as(ann), &partnerv1.UpdateSubaccountRequest{SubaccountId: id, Comment: "x"})),
		} {
			wantRefusal(t, what+" a declined one", err, codes.FailedPrecondition, ReasonSubaccountState)
		}
		// The partner may invite the address again.
		w.invited(ann, partner, cus.email)
	})
}

func second(_ *operationpb.Operation, err error) error { return err }

func TestPT11_PT14_SuspendAndResume(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		id := w.invited(ann, partner, "").GetId()
		_, err := w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: id})
		wantRefusal(t, "suspending what is not active", err, codes.FailedPrecondition, ReasonSubaccountState)
		_, err = w.subaccounts.ResumeSubaccount(w.as(ann), &partnerv1.ResumeSubaccountRequest{SubaccountId: id})
		wantRefusal(t, "resuming it", err, codes.FailedPrecondition, ReasonSubaccountState)
		public, meta := new(billingv1.Customer), new(billingv1.CustomerMetadata)
		w.done(must(w.customers.Activate(w.as(ann), &billingv1.ActivateCustomerRequest{CustomerId: id}))(t), public, meta)
		if public.GetBillingAccountId() != id || meta.GetResellerId() != partner || meta.GetCustomerId() != id {
			t.Errorf("activated %v, %v", public, meta)
		}
		for range 2 { // the second time changes nothing (PT-14)
			s := new(partnerv1.Subaccount)
			w.done(must(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: id, Reason: "unpaid"}))(t), s, nil)
			if s.GetState() != partnerv1.BillingAccount_SUSPENDED || s.GetSuspendedBy() != partnerv1.Subaccount_PARTNER || s.GetSuspensionReason() != "unpaid" {
				t.Errorf("suspended %v", s)
			}
		}
		w.done(must(w.customers.Activate(w.as(ann), &billingv1.ActivateCustomerRequest{CustomerId: id}))(t), public, nil) // PT-12: resumes, too
		if got := w.stateOf(ann, id); got != partnerv1.BillingAccount_ACTIVE {
			t.Errorf("resumed: %v", got)
		}
	})
}

func TestPT29_ResumingEndsAfter60Days(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		early, late := w.served(ann, partner), w.served(ann, partner)
		for _, id := range []string{early, late} {
			must(w.customers.Suspend(w.as(ann), &billingv1.SuspendCustomerRequest{CustomerId: id}))(t)
		}
		w.ahead.Add(int64(60*24*time.Hour - time.Minute))
		ann = w.again(ann)
		must(w.subaccounts.ResumeSubaccount(w.as(ann), &partnerv1.ResumeSubaccountRequest{SubaccountId: early}))(t)
		w.ahead.Add(int64(2 * time.Minute))
		_, err := w.subaccounts.ResumeSubaccount(w.as(ann), &partnerv1.ResumeSubaccountRequest{SubaccountId: late})
		wantRefusal(t, "after 60 days", err, codes.FailedPrecondition, ReasonDataDestroyed)
	})
}

func TestSC8_WhoSuspendedResumes(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		ours, theirs := w.served(ann, partner), w.served(ann, partner)
		must(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: theirs}))(t)
		w.state(ours, partnerv1.BillingAccount_SUSPENDED)
		_, err := w.subaccounts.ResumeSubaccount(w.as(ann), &partnerv1.ResumeSubaccountRequest{SubaccountId: ours})
		wantRefusal(t, "the partner resumes what the platform suspended", err, codes.FailedPrecondition, ReasonSuspendedByPlatform)
		_, err = w.desk.SetBillingAccountState(t.Context(), &partnerv1.SetBillingAccountStateRequest{BillingAccountId: theirs, State: partnerv1.BillingAccount_ACTIVE})
		wantRefusal(t, "the platform resumes what the partner suspended", err, codes.FailedPrecondition, ReasonSuspendedByPartner)
		w.state(ours, partnerv1.BillingAccount_ACTIVE)
		if got := w.stateOf(ann, ours); got != partnerv1.BillingAccount_ACTIVE {
			t.Errorf("resumed by the platform: %v", got)
		}
	})
}

// The platform takes over a suspension: whom it suspends, no partner lets go on that was
// quicker to suspend by itself.
func TestSC8_ThePlatformSuspendsAboveThePartner(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		id := w.served(ann, w.partner(ann))
		must(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: id, Reason: "ours"}))(t)
		w.state(id, partnerv1.BillingAccount_SUSPENDED)
		_, err := w.subaccounts.ResumeSubaccount(w.as(ann), &partnerv1.ResumeSubaccountRequest{SubaccountId: id})
		wantRefusal(t, "the partner resumes what the platform suspended after it", err, codes.FailedPrecondition, ReasonSuspendedByPlatform)
		must(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: id}))(t)
		_, err = w.subaccounts.ResumeSubaccount(w.as(ann), &partnerv1.ResumeSubaccountRequest{SubaccountId: id})
		wantRefusal(t, "the partner takes a suspension back to itself", err, codes.FailedPrecondition, ReasonSuspendedByPlatform)
		w.state(id, partnerv1.BillingAccount_ACTIVE)
	})
}

func TestPT13_PT21_DeletionByTheOwner(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob := w.person("ann"), w.person("bob")
		partner := w.partner(ann)
		w.grant(ann, typeAccount, partner, "billing.accounts.admin", bob)
		id := w.served(ann, partner)
		cloud := w.cloud(ann, "").GetId()
		must(w.public.BindBillableObject(w.as(ann), bind(id, cloud)))(t)
		_, err := w.subaccounts.DeleteSubaccount(w.as(bob), &partnerv1.DeleteSubaccountRequest{SubaccountId: id})
		wantRefusal(t, "an admin deletes", err, codes.PermissionDenied, "PERMISSION_DENIED")
		_, err = w.subaccounts.UpdateSubaccount(w.as(bob), &partnerv1.UpdateSubaccountRequest{SubaccountId: id, Name: "x"})
		wantRefusal(t, "an admin changes", err, codes.PermissionDenied, "PERMISSION_DENIED")
		must(w.subaccounts.DeleteSubaccount(w.as(ann), &partnerv1.DeleteSubaccountRequest{SubaccountId: id}))(t)
		if got := w.stateOf(ann, id); got != partnerv1.BillingAccount_INACTIVE {
			t.Errorf("deleted: %v", got)
		}
		if links := w.links(ann, id); len(links) != 1 || links[0].GetUnlinkedAt() == nil {
			t.Errorf("links of a deleted one %v", links)
		}
		_, err = w.public.BindBillableObject(w.as(ann), bind(id, cloud))
		wantRefusal(t, "a cloud for a deleted one", err, codes.FailedPrecondition, ReasonAccountNotUsable)
	})
}

func TestPT23_PersonalDataIsHidden(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		id := w.invited(ann, partner, "cus@elsewhere.example").GetId()
		for role, sees := range map[string]bool{
			"billing.accounts.partnerViewer": false, "billing.accounts.partnerEditor": false, "billing.accounts.viewer": false,
			"billing.accounts.piiPartnerViewer": true, "billing.accounts.piiPartnerEditor": true, "billing.accounts.partnerAdmin": true,
		} {
			who := w.person(strings.ToLower(role))
			w.grant(ann, typeAccount, partner, role, who)
			// PT-24: the role on the partner's account reaches the subaccount.
			one := must(w.subaccounts.GetSubaccount(w.as(who), &partnerv1.GetSubaccountRequest{SubaccountId: id}))(t)
			many := must(w.subaccounts.ListSubaccounts(w.as(who), &partnerv1.ListSubaccountsRequest{ResellerId: partner}))(t).GetSubaccounts()
			if len(many) != 1 {
				t.Fatalf("%s sees %v", role, many)
			}
			for _, s := range []*partnerv1.Subaccount{one, many[0]} {
				shown := s.GetInvitationEmail() != "" && s.GetPerson().GetPhone() != "" && s.GetPerson().GetEmail() != "" && s.GetPerson().GetPostAddress() != ""
				hidden := s.GetInvitationEmail()+s.GetPerson().GetPhone()+s.GetPerson().GetEmail()+s.GetPerson().GetPostAddress() == ""
				if sees != shown || sees == hidden || s.GetPersonalDataHidden() == sees || s.GetPerson().GetTin() != company.GetTin() {
					t.Errorf("%s sees %v", role, s)
				}
			}
			_, err := w.subaccounts.ListSubaccounts(w.as(who), &partnerv1.ListSubaccountsRequest{ResellerId: partner, Filter: `invitation_email = "CUS@elsewhere.example"`})
			if sees != (err == nil) {
				t.Errorf("%s filters by address: %v", role, err)
			}
		}
	})
}

// What an operation answers is no way around: who may not see personal data does not read
// it in the operations of those who may.
func TestPT23_OperationsHidePersonalData(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, eve := w.person("ann"), w.person("eve")
		partner := w.partner(ann)
		w.grant(ann, typeAccount, partner, "billing.accounts.partnerEditor", eve)
		id := w.served(ann, partner)
		operations := operationpb.NewOperationServiceClient(w.Conn)
		for what, op := range map[string]*operationpb.Operation{
			"update":  must(w.subaccounts.UpdateSubaccount(w.as(ann), &partnerv1.UpdateSubaccountRequest{SubaccountId: id, Name: "x"}))(t),
			"suspend": must(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: id}))(t),
		} {
			mine, shown := new(partnerv1.Subaccount), new(partnerv1.Subaccount)
			w.done(must(operations.Get(w.as(ann), &operationpb.GetOperationRequest{OperationId: op.GetId()}))(t), mine, nil)
			if mine.GetPerson().GetPhone() != company.GetPhone() {
				t.Errorf("%s: who may see it reads %v", what, mine)
			}
			read, err := operations.Get(w.as(eve), &operationpb.GetOperationRequest{OperationId: op.GetId()})
			if err != nil {
				continue
			}
			w.done(read, shown, nil)
			if shown.GetPerson().GetPhone() != "" {
				t.Errorf("%s: who may not see it reads %v", what, shown)
			}
		}
	})
}

func TestPT15_Resend(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		id := w.invited(ann, partner, "cus@elsewhere.example").GetId()
		req := &partnerv1.ResendInvitationRequest{SubaccountId: id}
		for range maxSends - 1 {
			must(w.subaccounts.ResendInvitation(w.as(ann), req))(t)
		}
		_, err := w.subaccounts.ResendInvitation(w.as(ann), req)
		wantRefusal(t, "once too often", err, codes.FailedPrecondition, ReasonSentTooOften)
		w.eventually("the last mail is handed over", func() bool {
			var n int
			if err := w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM notifications_deliveries WHERE target = 'cus@elsewhere.example'`).Scan(&n); err != nil {
				t.Fatal(err)
			}
			return n >= 1
		})
	})
}

// Each of two partners has its own invitation, each of the two is answered by itself; of
// several calls of one partner one makes the customer.
func TestTwoPartnersInviteOneCustomer(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, cus := w.person("ann"), w.person("bob"), w.person("cus")
		partners := map[string]person{w.partner(ann): ann, w.partner(bob): bob}
		var mu sync.Mutex
		made := make(map[string]int)
		var wg sync.WaitGroup
		for id, owner := range partners {
			for i := range 4 {
				wg.Go(func() {
					address := []string{cus.email, strings.ToUpper(cus.email)}[i%2]
					_, err := w.customers.Invite(w.as(owner), &billingv1.InviteCustomerRequest{ResellerId: id, Name: "ACME", InvitationEmail: address, Person: company})
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						made[id]++
						return
					}
					wantRefusal(t, "one of several", err, codes.AlreadyExists, ReasonCustomerExists)
				})
			}
		}
		wg.Wait()
		all := w.incoming(cus)
		if len(made) != 2 || len(all) != 2 {
			t.Fatalf("made %v, the customer sees %v", made, all)
		}
		for id, n := range made {
			if n != 1 {
				t.Errorf("%s made %d", id, n)
			}
		}
		must(w.subaccounts.DeclineInvitation(w.as(cus), &partnerv1.DeclineInvitationRequest{SubaccountId: all[0]}))(t)
		must(w.subaccounts.AcceptInvitation(w.as(cus), &partnerv1.AcceptInvitationRequest{SubaccountId: all[1]}))(t)
	})
}

func TestPT5_PT6_DataOfCustomers(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		for field, change := range map[string]func(*partnerv1.CreateSubaccountRequest){
			"name":        func(r *partnerv1.CreateSubaccountRequest) { r.Name = "" },
			"person":      func(r *partnerv1.CreateSubaccountRequest) { r.Person = nil },
			"person.name": func(r *partnerv1.CreateSubaccountRequest) { r.Person = &billingv1.CustomerPerson{Tin: "7700000000"} },
			"person.tin": func(r *partnerv1.CreateSubaccountRequest) {
				r.Person = &billingv1.CustomerPerson{Name: "x", Tin: "77000000ab"}
			},
			"person.email": func(r *partnerv1.CreateSubaccountRequest) {
				r.Person = &billingv1.CustomerPerson{Name: "x", Email: "nobody"}
			},
			"invitation_email": func(r *partnerv1.CreateSubaccountRequest) { r.InvitationEmail = "a b@c" },
			"admin_emails[0]":  func(r *partnerv1.CreateSubaccountRequest) { r.AdminEmails = []string{"@"} },
		} {
			req := &partnerv1.CreateSubaccountRequest{ResellerId: partner, Name: "x", Person: &billingv1.CustomerPerson{Name: "x"}}
			change(req)
			_, err := w.subaccounts.CreateSubaccount(w.as(ann), req)
			wantRefusal(t, field, err, codes.InvalidArgument, field)
		}
		id := w.invited(ann, partner, "").GetId()
		s := new(partnerv1.Subaccount)
		w.done(must(w.subaccounts.UpdateSubaccount(w.as(ann), &partnerv1.UpdateSubaccountRequest{
			SubaccountId: id, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"external_id", "name"}}, Name: "Other", ExternalId: "crm-1", Comment: "unnamed",
		}))(t), s, nil)
		if s.GetName() != "Other" || s.GetExternalId() != "crm-1" || s.GetComment() != "" || s.GetPerson().GetName() != "ACME" {
			t.Errorf("changed %v", s)
		}
		found := must(w.subaccounts.ListSubaccounts(w.as(ann), &partnerv1.ListSubaccountsRequest{ResellerId: partner, Filter: `external_id = "crm-1"`}))(t)
		if len(found.GetSubaccounts()) != 1 {
			t.Errorf("found %v", found)
		}
		_, err := w.subaccounts.GetSubaccount(w.as(ann), &partnerv1.GetSubaccountRequest{SubaccountId: partner})
		wantRefusal(t, "a partner's account as a subaccount", err, codes.NotFound, ReasonSubaccountNotFound)
		_, err = w.accounts.DeleteBillingAccount(w.as(ann), &partnerv1.DeleteBillingAccountRequest{BillingAccountId: id})
		wantRefusal(t, "a subaccount as an account", err, codes.FailedPrecondition, ReasonIsSubaccount)
	})
}
