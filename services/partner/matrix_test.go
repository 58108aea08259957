package partner

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// cell is one call of one operation: by whom, on a partner's account or a subaccount made
// for it, by an owner who prepared it.
type cell struct {
	*world
	owner, who person
	partner    string // the partner's account
	account    string // what the operation is about
}

// operations are how each row of the tables is called. The subject of a table is the
// beginning of its name.
var operations = map[string]func(*cell) error{
	"account: view account details": func(c *cell) error {
		_, err := c.public.Get(c.as(c.who), &billingv1.GetBillingAccountRequest{Id: c.account})
		return err
	},
	"account: link a cloud":                 linkCloud,
	"account: manage access to the account": manageAccess,
	"account: activate the paid version": func(c *cell) error {
		c.state(c.account, partnerv1.BillingAccount_TRIAL_ACTIVE)
		_, err := c.accounts.ActivatePaidVersion(c.as(c.who), &partnerv1.ActivatePaidVersionRequest{BillingAccountId: c.account})
		return err
	},
	"account: delete the account": func(c *cell) error {
		_, err := c.accounts.DeleteBillingAccount(c.as(c.who), &partnerv1.DeleteBillingAccountRequest{BillingAccountId: c.account})
		return err
	},
	"account: list customers": func(c *cell) error {
		_, err := c.customers.List(c.as(c.who), &billingv1.ListCustomersRequest{ResellerId: c.account})
		return err
	},
	"account: create a subaccount": func(c *cell) error {
		_, err := c.customers.CreateResellerServed(c.as(c.who), &billingv1.CreateResellerServedCustomerRequest{ResellerId: c.account, Name: "x", Person: company})
		return err
	},
	"account: suspend a subaccount": func(c *cell) error {
		_, err := c.customers.Suspend(c.as(c.who), &billingv1.SuspendCustomerRequest{CustomerId: c.served(c.owner, c.account)})
		return err
	},
	"account: reactivate a subaccount": func(c *cell) error {
		id := c.served(c.owner, c.account)
		must(c.customers.Suspend(c.as(c.owner), &billingv1.SuspendCustomerRequest{CustomerId: id}))(c.t)
		_, err := c.subaccounts.ResumeSubaccount(c.as(c.who), &partnerv1.ResumeSubaccountRequest{SubaccountId: id})
		return err
	},
	"account: update customer data": func(c *cell) error {
		_, err := c.subaccounts.UpdateSubaccount(c.as(c.who), &partnerv1.UpdateSubaccountRequest{SubaccountId: c.served(c.owner, c.account), Name: "y"})
		return err
	},
	"account: view customer usage": func(c *cell) error {
		_, err := c.reports().GetUsageReport(c.as(c.who), &partnerv1.GetUsageReportRequest{BillingAccountId: c.account})
		return err
	},
	"account: rebate history": func(c *cell) error {
		_, err := c.rewards().ListRebates(c.as(c.who), &partnerv1.ListRebatesRequest{BillingAccountId: c.account})
		return err
	},
	"account: withdraw rebate": func(c *cell) error {
		c.accrue(c.account, "", "10")
		_, err := c.rewards().WithdrawRebate(c.as(c.who), &partnerv1.WithdrawRebateRequest{BillingAccountId: c.account, Amount: "10"})
		return err
	},
	"account: view specializations": func(c *cell) error {
		_, err := c.rewards().ListSpecializations(c.as(c.who), &partnerv1.ListSpecializationsRequest{BillingAccountId: c.account})
		return err
	},
	"account: view partner bonuses": func(c *cell) error {
		_, err := c.rewards().ListBonuses(c.as(c.who), &partnerv1.ListBonusesRequest{BillingAccountId: c.account})
		return err
	},
	"account: referral accruals": func(c *cell) error {
		_, err := c.referrals().ListReferralAccruals(c.as(c.who), &partnerv1.ListReferralAccrualsRequest{BillingAccountId: c.account})
		return err
	},
	"account: referral links": func(c *cell) error {
		_, err := c.referrals().ListReferralLinks(c.as(c.who), &partnerv1.ListReferralLinksRequest{BillingAccountId: c.account})
		return err
	},
	"account: change referral links": func(c *cell) error {
		c.refers(c.account)
		made := c.referralLink(c.owner, c.account)
		if _, err := c.referrals().UpdateReferralLink(c.as(c.who), &partnerv1.UpdateReferralLinkRequest{ReferralLinkId: made, Name: "x"}); err != nil {
			return err
		}
		_, err := c.referrals().CreateReferralLink(c.as(c.who), &partnerv1.CreateReferralLinkRequest{BillingAccountId: c.account, Name: "y"})
		return err
	},
	"account: withdraw from referral": func(c *cell) error {
		c.refers(c.account)
		c.accrue(c.account, c.referralLink(c.owner, c.account), "100")
		_, err := c.referrals().WithdrawReferral(c.as(c.who), &partnerv1.WithdrawReferralRequest{BillingAccountId: c.account, Amount: "10"})
		return err
	},

	"subaccount: view details": func(c *cell) error {
		_, err := c.subaccounts.GetSubaccount(c.as(c.who), &partnerv1.GetSubaccountRequest{SubaccountId: c.account})
		return err
	},
	"subaccount: link a cloud": func(c *cell) error {
		must(c.subaccounts.ActivateSubaccount(c.as(c.owner), &partnerv1.ActivateSubaccountRequest{SubaccountId: c.account}))(c.t)
		return linkCloud(c)
	},
	"subaccount: activate": func(c *cell) error {
		_, err := c.subaccounts.ActivateSubaccount(c.as(c.who), &partnerv1.ActivateSubaccountRequest{SubaccountId: c.account})
		return err
	},
	"subaccount: manage access": func(c *cell) error {
		_, err := c.access().UpdateSubaccountAccessBindings(c.as(c.who), &partnerv1.UpdateSubaccountAccessBindingsRequest{
			SubaccountId: c.account, AccessBindingDeltas: []*accesspb.AccessBindingDelta{added("billing.accounts.viewer", c.owner)},
		})
		return err
	},
	"subaccount: delete without consent": func(c *cell) error {
		_, err := c.subaccounts.DeleteSubaccount(c.as(c.who), &partnerv1.DeleteSubaccountRequest{SubaccountId: c.account})
		return err
	},
	"subaccount: accept": func(c *cell) error {
		_, err := c.subaccounts.AcceptInvitation(c.as(c.who), &partnerv1.AcceptInvitationRequest{SubaccountId: c.account})
		return err
	},
	"subaccount: decline": func(c *cell) error {
		_, err := c.subaccounts.DeclineInvitation(c.as(c.who), &partnerv1.DeclineInvitationRequest{SubaccountId: c.account})
		return err
	},
}

// linkCloud links a cloud that the caller owns, so that the account alone decides.
func linkCloud(c *cell) error {
	_, err := c.public.BindBillableObject(c.as(c.who), bind(c.account, c.cloud(c.who, "").GetId()))
	return err
}

func manageAccess(c *cell) error {
	_, err := c.public.UpdateAccessBindings(c.as(c.who), &accesspb.UpdateAccessBindingsRequest{
		ResourceId: c.account, AccessBindingDeltas: []*accesspb.AccessBindingDelta{added("billing.accounts.viewer", c.owner)},
	})
	return err
}

// TestPT21_PT22_OperationsMatrices calls every operation of both tables as every role.
func TestPT21_PT22_OperationsMatrices(t *testing.T) {
	text, err := os.ReadFile("testdata/operations.txt")
	if err != nil {
		t.Fatal(err)
	}
	heading := regexp.MustCompile(`^on (?:the partner|a sub) ?account: +(.*)$`)
	line := regexp.MustCompile(`^(\S.*?) {2,}((?:(?:yes|no)\*? *)+)$`)
	forEach(t, func(t *testing.T, w *world) {
		owner := w.person("owner")
		table, roles, called := "", []string(nil), make(map[string]bool)
		for row := range strings.Lines(string(text)) {
			row = strings.TrimRight(row, "\n")
			if row == "" || strings.HasPrefix(row, "#") {
				continue
			}
			if h := heading.FindStringSubmatch(row); h != nil {
				table, roles = "account", strings.Fields(h[1])
				if strings.HasPrefix(row, "on a sub") {
					table = "subaccount"
				}
				continue
			}
			m := line.FindStringSubmatch(row)
			if m == nil {
				t.Fatalf("%q is no row", row)
			}
			name, words := table+": "+m[1], strings.Fields(m[2])
			call := operations[name]
			if call == nil || len(words) != len(roles) {
				t.Fatalf("%q: no such operation, or %d words for %d roles", name, len(words), len(roles))
			}
			called[name] = true
			for i, role := range roles {
				w.cell(owner, name, role, strings.HasPrefix(words[i], "yes"), call)
			}
		}
		for name := range operations {
			if !called[name] {
				t.Errorf("%s is in no table", name)
			}
		}
	})
}

// cell calls one operation as somebody who has one role on what it is about.
func (w *world) cell(owner person, name, role string, want bool, call func(*cell) error) {
	w.t.Helper()
	// A person owns at most ten accounts, and cells need many: each has an owner of its own.
	who := w.person(strings.ToLower(strings.NewReplacer(": ", "-", " ", "-").Replace(name) + "-" + role))
	c := &cell{world: w, owner: w.person("o-" + who.login), who: who}
	c.partner = w.partner(c.owner)
	c.account = c.partner
	if strings.HasPrefix(name, "subaccount") {
		address := ""
		if strings.Contains("subaccount: accept subaccount: decline", name) {
			address = "somebody@elsewhere.example"
		}
		if role == "customer" {
			address = who.email
		}
		if name == "subaccount: link a cloud" {
			address = "" // an active one is needed
		}
		c.account = w.invited(c.owner, c.partner, address).GetId()
	}
	if role != "customer" {
		w.grant(c.owner, typeAccount, c.account, "billing.accounts."+role, who)
	} else if name == "subaccount: link a cloud" {
		must(accessv1.NewResourceServiceClient(w.Unit(Name, "accessbindings")).UpdateAutomaticBindings(w.t.Context(), &accessv1.UpdateAutomaticBindingsRequest{
			Resource: &accessv1.Resource{Type: typeAccount, Id: c.account},
			Add:      []*accessv1.AccessBinding{{RoleId: roleCustomer, Subject: who.subject()}},
		}))(w.t)
	}
	err := call(c)
	if want && err != nil {
		w.t.Errorf("%s as %s: %v", name, role, err)
	}
	if !want && apierr.CodeOf(err) != codes.PermissionDenied {
		w.t.Errorf("%s as %s: %v, want it refused", name, role, err)
	}
}
