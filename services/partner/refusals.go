package partner

import (
	"strconv"
	"strings"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/decimal"
)

// Every "no" of this unit, apart from those of the checker, of field constraints and
// of quotas (QL-2).
const (
	ReasonAccountNotFound     = "BILLING_ACCOUNT_NOT_FOUND"
	ReasonAccountBusy         = "BILLING_ACCOUNT_BUSY"          // it is being made or deleted
	ReasonAccountState        = "BILLING_ACCOUNT_STATE"         // BI-5, PT-14: not from the state it is in
	ReasonAccountInUse        = "BILLING_ACCOUNT_IN_USE"        // it pays for clouds or has subaccounts
	ReasonIsSubaccount        = "BILLING_ACCOUNT_IS_SUBACCOUNT" // its partner leads it
	ReasonAccountNotUsable    = "BILLING_ACCOUNT_NOT_ACTIVE"    // BI-5, PT-32
	ReasonNotAPartner         = "NOT_A_PARTNER"                 // PT-2
	ReasonCustomerExists      = "CUSTOMER_EXISTS"               // the partner has a customer of the address
	ReasonSubaccountNotFound  = "SUBACCOUNT_NOT_FOUND"
	ReasonSubaccountState     = "SUBACCOUNT_STATE"          // PT-14
	ReasonSuspendedByPlatform = "SUSPENDED_BY_PLATFORM"     // SC-8
	ReasonSuspendedByPartner  = "SUSPENDED_BY_PARTNER"      // SC-8
	ReasonDataDestroyed       = "DATA_DESTROYED"            // PT-29
	ReasonSentTooOften        = "INVITATION_SENT_TOO_OFTEN" // maxSends
	ReasonNotEnforced         = "NOT_ENFORCED_YET"          // the checker was not reached
	ReasonUserNotFound        = "USER_NOT_FOUND"
	ReasonUsageConflict       = "USAGE_RECORD_CONFLICT" // US-1
	ReasonServiceNotFound     = "SERVICE_NOT_FOUND"
	ReasonSKUNotFound         = "SKU_NOT_FOUND"
	ReasonBudgetNotFound      = "BUDGET_NOT_FOUND"
	ReasonTooManyBudgets      = "BUDGETS_TOO_MANY"  // maxBudgets
	ReasonBalanceTooSmall     = "BALANCE_TOO_SMALL" // US-5
	ReasonAccrualConflict     = "ACCRUAL_CONFLICT"  // US-6
	ReasonReferralNotFound    = "REFERRAL_LINK_NOT_FOUND"
	ReasonReferralNotActive   = "REFERRAL_LINK_NOT_ACTIVE"    // US-6
	ReasonTooManyLinks        = "REFERRAL_LINKS_TOO_MANY"     // maxReferralLinks
	ReasonAccountBound        = "BILLING_ACCOUNT_BOUND"       // it is below another organization
	ReasonCloudNotLinked      = "CLOUD_NOT_LINKED"            // the account does not pay for it now
	ReasonNotEligible         = "REQUESTER_NOT_ELIGIBLE"      // SC-21
	ReasonPartnersSide        = "PARTNERS_SIDE"               // SC-21
	ReasonServiceAccount      = "SERVICE_ACCOUNT_NOT_ALLOWED" // SU-9
)

func errAccountNotFound(accountID string) *apierr.Error {
	return apierr.NotFound(ReasonAccountNotFound, "billing account %s not found", accountID)
}

func errAccountBusy(a Account) *apierr.Error {
	return apierr.Precondition(ReasonAccountBusy, "billing account %s is %s", a.ID, a.Phase)
}

func errAccountState(a Account, want string) *apierr.Error {
	return apierr.Precondition(ReasonAccountState, "billing account %s is %s: %s", a.ID, a.State, want).WithMeta("state", string(a.State))
}

func errAccountInUse(a Account, clouds, subaccounts int64) *apierr.Error {
	return apierr.Precondition(ReasonAccountInUse, "billing account %s pays for %d clouds and has %d subaccounts", a.ID, clouds, subaccounts)
}

func errAccountNotUsable(a Account) *apierr.Error {
	return apierr.Precondition(ReasonAccountNotUsable, "billing account %s is %s: no cloud is linked to it", a.ID, a.State).
		WithMeta("state", string(a.State))
}

func errAccountBound(a Account) *apierr.Error {
	return apierr.Precondition(ReasonAccountBound, "billing account %s belongs to another organization", a.ID)
}

func errCloudNotLinked(cloudID, accountID string) *apierr.Error {
	return apierr.Precondition(ReasonCloudNotLinked, "cloud %s is not linked to billing account %s", cloudID, accountID)
}

func errSubaccountNotFound(accountID string) *apierr.Error {
	return apierr.NotFound(ReasonSubaccountNotFound, "subaccount %s not found", accountID)
}

func errSubaccountState(c Customer, why string) *apierr.Error {
	return apierr.Precondition(ReasonSubaccountState, "subaccount %s is %s: %s", c.ID, c.State, why).WithMeta("state", string(c.State))
}

func errSuspendedBy(c Customer) *apierr.Error {
	if c.SuspendedBy == byPlatform {
		return apierr.Precondition(ReasonSuspendedByPlatform, "subaccount %s was suspended by the platform, which alone resumes it", c.ID)
	}
	return apierr.Precondition(ReasonSuspendedByPartner, "subaccount %s was suspended by its partner, who alone resumes it", c.ID)
}

func errDataDestroyed(c Customer) *apierr.Error {
	return apierr.Precondition(ReasonDataDestroyed, "subaccount %s is suspended since %s: its data is destroyed", c.ID, c.SuspendedAt.UTC().Format("2006-01-02"))
}

func errServiceNotFound(serviceID string) *apierr.Error {
	return apierr.NotFound(ReasonServiceNotFound, "service %s not found", serviceID)
}

func errSKUNotFound(skuID string) *apierr.Error {
	return apierr.NotFound(ReasonSKUNotFound, "product %s not found", skuID)
}

func errBudgetNotFound(budgetID string) *apierr.Error {
	return apierr.NotFound(ReasonBudgetNotFound, "budget %s not found", budgetID)
}

func errBalanceTooSmall(balance decimal.Decimal, currency string) *apierr.Error {
	return apierr.Precondition(ReasonBalanceTooSmall, "there is %s %s to withdraw", balance, currency).WithMeta("balance", balance.String())
}

func errAccrualConflict(entryID string) *apierr.Error {
	return apierr.AlreadyExists(ReasonAccrualConflict, "accrual %s was booked before with other contents", entryID)
}

func errReferralLinkNotFound(linkID string) *apierr.Error {
	return apierr.NotFound(ReasonReferralNotFound, "referral link %s not found", linkID)
}

func errReferralLinkNotActive(linkID string) *apierr.Error {
	return apierr.Precondition(ReasonReferralNotActive, "referral link %s is switched off", linkID)
}

// maxNamed is how many records a refusal names.
const maxNamed = 10

func errUsageConflict(ids []string) *apierr.Error {
	named := strings.Join(ids[:min(len(ids), maxNamed)], ", ")
	return apierr.AlreadyExists(ReasonUsageConflict, "usage records were taken before with other contents: %s", named).
		WithMeta("recordId", ids[0], "records", strconv.Itoa(len(ids)))
}

var (
	errNotAPartner    = apierr.Denied(ReasonNotAPartner, "the account has no partner status for this, or is not ACTIVE")
	errCustomerExists = apierr.AlreadyExists(ReasonCustomerExists, "the partner has a customer of that address")
	errSentTooOften   = apierr.Precondition(ReasonSentTooOften, "an invitation is sent %d times at most", maxSends)
	errNotEnforced    = apierr.Unavailable(ReasonNotEnforced, "the state is set, and not enforced yet: it will be")
	errUserNotFound   = apierr.NotFound(ReasonUserNotFound, "nobody of that name has a role on the account, or is invited to it")
	errIsSubaccount   = apierr.Precondition(ReasonIsSubaccount, "the account is a subaccount: use its partner's methods")
	errTooManyBudgets = apierr.Precondition(ReasonTooManyBudgets, "an account has at most %d budgets", maxBudgets)
	errTooManyLinks   = apierr.Precondition(ReasonTooManyLinks, "a partner has at most %d referral links", maxReferralLinks)
	errNotEligible    = apierr.Precondition(ReasonNotEligible, "only people enter the organization of a customer")
	errPartnersSide   = apierr.Denied(ReasonPartnersSide, "the customer lets somebody in, nobody of the partner does")
	errServiceAccount = apierr.Denied(ReasonServiceAccount, "a service account belongs to one organization and cannot own an account outside of it")
)
