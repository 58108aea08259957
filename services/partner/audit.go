package partner

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/log"
)

// eventSource is the source of the unit's audit events (AU-6).
const eventSource = "billing"

// Audit events. AU-6 names the first two; where the platform publishes none the name is
// ours (AU-8).
const (
	eventCreate     = "BillingAccountCreate"
	eventUpdate     = "BillingAccountUpdate"
	eventDelete     = "BillingAccountDelete"
	eventBindObject = "BillableObjectBind"

	eventUnbindObject     = "BillableObjectUnbind"
	eventBindOrganization = "BillingAccountBindOrganization"
	eventQuotaUpdate      = "CustomerQuotaUpdate"

	eventSubaccountCreate   = "SubaccountCreate"
	eventSubaccountUpdate   = "SubaccountUpdate"
	eventSubaccountInvite   = "SubaccountInvitationResend"
	eventSubaccountActivate = "SubaccountActivate"
	eventSubaccountSuspend  = "SubaccountSuspend"
	eventSubaccountResume   = "SubaccountResume"
	eventSubaccountDelete   = "SubaccountDelete"
	eventSubaccountAccept   = "SubaccountInvitationAccept"
	eventSubaccountDecline  = "SubaccountInvitationDecline"
	eventPartnerUpdate      = "PartnerStatusUpdate"
	eventUserAdd            = "PartnerUserAdd"
	eventUserRemove         = "PartnerUserRemove"
	eventUserSignIn         = "PartnerUserSignIn"

	eventBudgetCreate     = "BudgetCreate"
	eventBudgetPassed     = "BudgetPass"
	eventBalance          = "BalanceUpdate"
	eventCardUpdate       = "PartnerCardUpdate"
	eventRebateWithdraw   = "RebateWithdraw"
	eventReferralWithdraw = "ReferralCommissionWithdraw"
	eventReferralCreate   = "ReferralLinkCreate"
	eventReferralUpdate   = "ReferralLinkUpdate"
	eventAccrual          = "RewardAccrue"
	eventSpecialization   = "SpecializationUpdate"
)

// event is one audit event about an account.
type event struct {
	name       string
	status     audit.Status
	permission string         // checked for it; "" when none was, or none now
	on         authz.Resource // where it was checked; zero for the account
	details    map[string]any
}

// record writes the audit record of a change to an account within its transaction.
// Within a request it says who asked; within a job that the unit did it by itself.
func (s *Service) record(ctx context.Context, tx *sql.Tx, a Account, e event) error {
	path, err := s.path(ctx, tx, a)
	if err != nil {
		return err
	}
	if e.on == (authz.Resource{}) {
		e.on = a.resource()
	}
	return s.recordOn(ctx, tx, path, e)
}

// recordOn is record of a change to the last resource of a path.
func (s *Service) recordOn(ctx context.Context, tx *sql.Tx, path []audit.Resource, e event) error {
	p, req := authn.FromContext(ctx), log.RequestFrom(ctx)
	rec := audit.Record{
		EventSource:      eventSource,
		EventType:        audit.EventType(eventSource, e.name),
		EventTime:        s.now(),
		EventStatus:      e.status,
		Authentication:   audit.By(p),
		Authorization:    audit.Authorization{Authorized: true},
		ResourceMetadata: audit.ResourceMetadata{Path: path},
		RequestMetadata:  audit.RequestMetadata{RemoteAddress: req.Remote, UserAgent: req.UserAgent, RequestID: req.ID},
		Details:          e.details,
	}
	if !p.IsSubject() && p.Unit == "" {
		rec.Authentication.Unit = Name
	}
	if e.permission != "" {
		rec.Authorization.Permissions = []audit.Permission{{
			Permission: e.permission, ResourceType: e.on.Type, ResourceID: e.on.ID, Authorized: true,
		}}
	}
	return audit.Write(ctx, tx, Name, rec)
}

// path names an account and what it stands below, the root first.
func (s *Service) path(ctx context.Context, tx *sql.Tx, a Account) ([]audit.Resource, error) {
	var path []audit.Resource
	if a.PartnerID != "" {
		partner, err := s.store.Account(ctx, tx, a.PartnerID)
		if err != nil {
			return nil, err
		}
		if path, err = s.path(ctx, tx, partner); err != nil {
			return nil, err
		}
	} else if a.OrganizationID != "" {
		path = append(path, audit.Resource{Type: typeOrganization, ID: a.OrganizationID})
	}
	return append(path, audit.Resource{Type: typeAccount, ID: a.ID, Name: a.Name}), nil
}
