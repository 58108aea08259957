package partner

import (
	"context"
	"database/sql"
	"slices"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// operators is our OperatorService, on the operator socket alone.
type operators struct {
	partnerv1.UnsafeOperatorServiceServer // a missing method does not compile
	*Service
}

// SetBillingAccountState puts an account into any state of its kind, as payments have it
// (BI-5). Fails: BILLING_ACCOUNT_NOT_FOUND, BILLING_ACCOUNT_BUSY, BILLING_ACCOUNT_STATE,
// BILLING_ACCOUNT_IS_SUBACCOUNT.
func (s *operators) SetBillingAccountState(ctx context.Context, req *partnerv1.SetBillingAccountStateRequest) (*partnerv1.BillingAccount, error) {
	var after Account
	var ticket *jobs.Ticket
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		before, err := s.lockLiving(ctx, tx, req.GetBillingAccountId())
		if err != nil {
			return err
		}
		to := State(req.GetState().String())
		if before.PartnerID != "" {
			if after, err = s.setCustomerState(ctx, tx, before.ID, to, req.GetReason()); err != nil {
				return err
			}
			ticket, err = s.standingJob(ctx, tx, before, after, standing{Account: before.ID})
			return err
		}
		switch {
		case slices.Contains(customerStates, to):
			return errAccountState(before, "only a subaccount is "+string(to))
		}
		after = before.moved(to, s.now())
		if err := s.store.UpdateAccount(ctx, tx, after); err != nil {
			return err
		}
		if err := s.record(ctx, tx, after, event{name: eventUpdate, status: audit.Done, details: changed(before, after, "")}); err != nil {
			return err
		}
		ticket, err = s.standingJob(ctx, tx, before, after, standing{Account: before.ID})
		return err
	})
	if err != nil {
		return nil, err
	}
	if ticket != nil {
		if err := s.jobs.Do(ctx, *ticket); err != nil {
			return nil, errNotEnforced.WithCause(err)
		}
	}
	return after.proto(s.cfg.KeepFor), nil
}

// setCustomerState suspends a customer for the platform, and resumes one that the platform
// suspended (SC-8). Fails: SUBACCOUNT_STATE, DATA_DESTROYED, SUSPENDED_BY_PARTNER.
func (s *Service) setCustomerState(ctx context.Context, tx *sql.Tx, accountID string, to State, reason string) (Account, error) {
	before, err := s.store.LockCustomer(ctx, tx, accountID)
	if err != nil {
		return Account{}, err
	}
	after, name := before, eventSubaccountSuspend
	switch to {
	case Suspended:
		after, err = s.suspends(byPlatform, reason)(before)
	case Active:
		name = eventSubaccountResume
		after, err = s.resumes(byPlatform)(before)
	default:
		err = errIsSubaccount
	}
	if err != nil {
		return Account{}, err
	}
	if err := s.store.UpdateCustomer(ctx, tx, after); err != nil {
		return Account{}, err
	}
	return after.Account, s.record(ctx, tx, after.Account, event{name: name, status: audit.Done, details: changed(before.Account, after.Account, "")})
}

// SetPartnerStatus gives an account partner status, or takes it away (PT-2, PT-3). Fails:
// BILLING_ACCOUNT_NOT_FOUND, BILLING_ACCOUNT_STATE, BILLING_ACCOUNT_IS_SUBACCOUNT.
func (s *operators) SetPartnerStatus(ctx context.Context, req *partnerv1.SetPartnerStatusRequest) (*partnerv1.Partner, error) {
	programs := Programs{
		VAR: slices.Contains(req.GetPrograms(), partnerv1.Partner_VAR), Referral: slices.Contains(req.GetPrograms(), partnerv1.Partner_REFERRAL),
	}
	var a Account
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if a, err = s.lockLiving(ctx, tx, req.GetBillingAccountId()); err != nil {
			return err
		}
		switch {
		case a.PartnerID != "":
			return errIsSubaccount
		case programs != (Programs{}) && a.State != Active:
			return errAccountState(a, "partner status is for an ACTIVE account (PT-2)")
		}
		if err := s.store.SetPartner(ctx, tx, a.ID, programs); err != nil {
			return err
		}
		return s.record(ctx, tx, a, event{
			name: eventPartnerUpdate, status: audit.Done, details: map[string]any{"var": programs.VAR, "referral": programs.Referral},
		})
	})
	if err != nil {
		return nil, err
	}
	return partnerProto(a, programs), nil
}
