package partner

import (
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// Types of resources that the unit names.
const (
	typeAccount      = "billing.account"
	typeCloud        = "resource-manager.cloud"
	typeFolder       = "resource-manager.folder"
	typeOrganization = "organization-manager.organization"
)

// State is where an account stands with its payments (BI-5), or a subaccount with its
// customer (PT-9 to PT-14).
type State string

// States that the unit itself leads to; the others are the operator's.
const (
	New                = State("NEW")
	TrialActive        = State("TRIAL_ACTIVE")
	TrialSuspended     = State("TRIAL_SUSPENDED")
	TrialExpired       = State("TRIAL_EXPIRED")
	FirstPayment       = State("FIRST_PAYMENT_REQUIRED")
	Active             = State("ACTIVE")
	PaymentRequired    = State("PAYMENT_REQUIRED")
	Suspended          = State("SUSPENDED")
	AcceptanceRequired = State("ACCEPTANCE_REQUIRED")
	Inactive           = State("INACTIVE")
)

// BI-5: in which states what an account pays for may be used.
var usable = []State{TrialActive, Active, PaymentRequired}

// BI-5: from which states its owner begins a trial, and goes over to the paid version.
var (
	beforeTrial = []State{New}
	beforePaid  = []State{New, TrialActive, TrialSuspended, TrialExpired, FirstPayment}
)

// customerStates are those of subaccounts alone, and of them no other than these and
// ACTIVE and SUSPENDED.
var customerStates = []State{AcceptanceRequired, Inactive}

// Phase is where an account stands in the life of its row.
type Phase string

// Phases. CREATING lasts until the tree knows the account.
const (
	Creating Phase = "CREATING"
	Living   Phase = "LIVING"
	Deleting Phase = "DELETING"
	Deleted  Phase = "DELETED"
)

// Account is a billing account; with a PartnerID it is a subaccount (PT-4).
type Account struct {
	ID             string
	PartnerID      string // account of the partner
	OrganizationID string // that it stands below
	Name           string
	CountryCode    string
	Currency       string
	State          State
	Phase          Phase
	SuspendedAt    time.Time // while SUSPENDED
	CreatedBy      string    // id of the subject
	CreatedAt      time.Time
	Operation      string          // the one under way; "" for none
	Version        int64           // of the state, from 1 on
	Balance        decimal.Decimal // as payments said last; not of a subaccount
}

// Usable reports whether what the account pays for may be used (BI-5).
func (a Account) Usable() bool { return slices.Contains(usable, a.State) }

// resource names the account for the checker.
func (a Account) resource() authz.Resource { return accountResource(a.ID) }

func accountResource(accountID string) authz.Resource {
	return authz.Resource{Type: typeAccount, ID: accountID}
}

// parent is what the account stands below in the tree (PT-24); zero for a root.
func (a Account) parent() authz.Resource {
	switch {
	case a.PartnerID != "":
		return accountResource(a.PartnerID)
	case a.OrganizationID != "":
		return authz.Resource{Type: typeOrganization, ID: a.OrganizationID}
	default:
		return authz.Resource{}
	}
}

// position is where the account stands in a list.
func (a Account) position() page.Position {
	return page.Position{Time: sqldb.Micros(a.CreatedAt), ID: a.ID}
}

// public is the message of the platform.
func (a Account) public() *billingv1.BillingAccount {
	return &billingv1.BillingAccount{
		Id: a.ID, Name: a.Name, CreatedAt: timestamppb.New(a.CreatedAt), CountryCode: a.CountryCode,
		Currency: a.Currency, Active: a.Usable(), Balance: a.Balance.String(),
	}
}

// proto is our own message.
func (a Account) proto(keepFor time.Duration) *partnerv1.BillingAccount {
	p := &partnerv1.BillingAccount{
		Id: a.ID, Name: a.Name, CreatedAt: timestamppb.New(a.CreatedAt), CountryCode: a.CountryCode, Currency: a.Currency,
		State:          partnerv1.BillingAccount_State(partnerv1.BillingAccount_State_value[string(a.State)]),
		OrganizationId: a.OrganizationID, ResellerId: a.PartnerID,
	}
	if a.State == Suspended {
		p.DataKeptUntil = timestamppb.New(a.SuspendedAt.Add(keepFor))
	}
	return p
}

// moved returns the account in another state.
func (a Account) moved(to State, now time.Time) Account {
	if a.State != to {
		a.State, a.SuspendedAt = to, time.Time{}
		a.Version++
		if to == Suspended {
			a.SuspendedAt = now
		}
	}
	return a
}
