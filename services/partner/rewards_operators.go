package partner

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// PostAccrual books what a partner has earned (US-6): the same id again changes nothing.
// Fails: BILLING_ACCOUNT_NOT_FOUND, NOT_A_PARTNER, ACCRUAL_CONFLICT,
// REFERRAL_LINK_NOT_FOUND, REFERRAL_LINK_NOT_ACTIVE.
func (s *moneyOperators) PostAccrual(ctx context.Context, req *partnerv1.PostAccrualRequest) (*partnerv1.RewardEntry, error) {
	amount, err := positive("amount", req.GetAmount())
	if err != nil {
		return nil, err
	}
	e := Entry{
		ID: req.GetId(), AccountID: req.GetBillingAccountId(), Ledger: rebates.name, Amount: amount, Comment: req.GetComment(),
		CreatedAt: sqldb.Micros(s.now()),
	}
	l := rebates
	if req.GetReferralLinkId() != "" {
		l = referrals
		e.Ledger, e.LinkID, e.Base, e.Amount = referrals.name, req.GetReferralLinkId(), amount.String(), amount.Percent(commission)
	}
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		a, err := s.lockLiving(ctx, tx, e.AccountID)
		if err != nil {
			return err
		}
		switch known, found, err := s.store.Entry(ctx, tx, e.ID); {
		case err != nil:
			return err
		case found && !known.says(e):
			return errAccrualConflict(e.ID)
		case found:
			e = known
			return nil
		}
		if _, err := s.lockParticipant(ctx, tx, a.ID, l.takesPart); err != nil {
			return err
		}
		if err := s.linkEarns(ctx, tx, e); err != nil {
			return err
		}
		if err := s.store.InsertEntry(ctx, tx, e); err != nil {
			return err
		}
		return s.record(ctx, tx, a, event{
			name: eventAccrual, status: audit.Done, details: map[string]any{"entry_id": e.ID, "ledger": e.Ledger, "amount": e.Amount.String()},
		})
	})
	if err != nil {
		return nil, err
	}
	return e.proto(), nil
}

// says reports whether two accruals are the same but for their time.
func (e Entry) says(other Entry) bool {
	return e.AccountID == other.AccountID && e.Ledger == other.Ledger && e.Amount.Cmp(other.Amount) == 0 && e.Base == other.Base &&
		e.LinkID == other.LinkID && e.Comment == other.Comment
}

// linkEarns refuses commission for a link that is not the account's, or is switched off.
func (s *Service) linkEarns(ctx context.Context, tx *sql.Tx, e Entry) error {
	if e.LinkID == "" {
		return nil
	}
	l, err := s.store.ReferralLink(ctx, tx, e.LinkID)
	switch {
	case err != nil:
		return err
	case l.AccountID != e.AccountID:
		return errReferralLinkNotFound(e.LinkID)
	case !l.Active:
		return errReferralLinkNotActive(e.LinkID)
	}
	return nil
}

// SetSpecialization grants a specialization or takes it away (PT-8). Fails:
// BILLING_ACCOUNT_NOT_FOUND, NOT_A_PARTNER.
func (s *moneyOperators) SetSpecialization(ctx context.Context, req *partnerv1.SetSpecializationRequest) (*partnerv1.Specialization, error) {
	var x Specialization
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		a, err := s.lockParticipant(ctx, tx, req.GetBillingAccountId(), rebates.takesPart)
		if err != nil {
			return err
		}
		var found bool
		if x, found, err = s.store.SpecializationNow(ctx, tx, a.ID, req.GetName()); err != nil || found != req.GetRevoked() {
			return err // it is as it is to be
		}
		if found {
			x.RevokedAt = s.now()
		} else {
			x.GrantedAt = s.now()
		}
		if err := s.store.PutSpecialization(ctx, tx, a.ID, x); err != nil {
			return err
		}
		return s.record(ctx, tx, a, event{
			name: eventSpecialization, status: audit.Done, details: map[string]any{"specialization": x.Name, "revoked": found},
		})
	})
	if err != nil {
		return nil, err
	}
	return x.proto(), nil
}
