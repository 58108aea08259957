package partner

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// US-8: a budget of the balance has people told when the balance is down to a limit, and
// again when it has been above it since. The balance is what payments say it is.

// balancePeriod stands for the period of alerts of such budgets, that have none.
const balancePeriod Day = 0

// balanceTerms are the terms of a budget of the balance, which filters nothing and does not
// begin anew.
type balanceTerms struct{ *billingv1.BalanceBudgetSpec }

func (balanceTerms) GetFilter() *billingv1.ConsumptionFilter       { return nil }
func (balanceTerms) GetResetPeriod() (p billingv1.ResetPeriodType) { return p }

// first is the first day of a budget of the balance.
func (b Budget) first() Day {
	if day, err := parseDay("", b.terms().GetStartDate()); err == nil {
		return day
	}
	return dayOf(b.CreatedAt)
}

// begins is the day on which a new budget is looked at first; 0 for at once.
func (b Budget) begins() Day {
	if b.Spec.GetBalanceBudget() == nil || b.first() <= dayOf(b.CreatedAt) {
		return 0
	}
	return b.first()
}

// beginBudgets looks at budgets of the balance whose first day has come.
func (s *Service) beginBudgets(ctx context.Context) error {
	for {
		ids, err := s.store.BegunBudgets(ctx, s.store.db, dayOf(s.now()), budgetsInJob)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, budgetID := range ids {
			if err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
				if err := s.lookAt(ctx, tx, budgetID, 0); err != nil {
					return err
				}
				return s.store.BeginBudget(ctx, tx, budgetID)
			}); err != nil {
				return err
			}
		}
		s.jobs.Kick() // for the mails
	}
}

// SetBalance says what is on an account. Fails: BILLING_ACCOUNT_NOT_FOUND,
// BILLING_ACCOUNT_BUSY, BILLING_ACCOUNT_IS_SUBACCOUNT (PT-4).
func (s *moneyOperators) SetBalance(ctx context.Context, req *partnerv1.SetBalanceRequest) (*partnerv1.SetBalanceResponse, error) {
	balance, err := decimal.Parse(req.GetBalance())
	if err != nil {
		return nil, apierr.InvalidField("balance", "%v", err)
	}
	resp := &partnerv1.SetBalanceResponse{BillingAccountId: req.GetBillingAccountId(), Balance: balance.String()}
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		a, err := s.lockLiving(ctx, tx, req.GetBillingAccountId())
		if err != nil {
			return err
		}
		if a.PartnerID != "" {
			return errIsSubaccount
		}
		if resp.Before = a.Balance.String(); a.Balance.Cmp(balance) == 0 {
			return nil
		}
		a.Balance = balance
		if err := s.store.UpdateBalance(ctx, tx, a); err != nil {
			return err
		}
		if err := s.record(ctx, tx, a, event{
			name: eventBalance, status: audit.Done, details: map[string]any{"balance_before": resp.GetBefore(), "balance": resp.GetBalance()},
		}); err != nil {
			return err
		}
		return s.lookAtBalances(ctx, tx, a)
	})
	if err != nil {
		return nil, err
	}
	s.jobs.Kick() // for the mails
	return resp, nil
}

// lookAtBalances looks at all budgets of the balance of an account, in the transaction that
// changes it: no job may find a later balance and miss this one.
func (s *Service) lookAtBalances(ctx context.Context, tx *sql.Tx, a Account) error {
	all, err := s.store.Budgets(ctx, tx, a.ID, page.Position{}, maxBudgets)
	if err != nil {
		return err
	}
	for _, b := range all {
		if b.Spec.GetBalanceBudget() == nil {
			continue
		}
		if b, err = s.store.Budget(ctx, tx, b.ID, s.store.db.ForUpdate()); err != nil { // a job may look at it, too
			return err
		}
		if err := s.lookAtBalance(ctx, tx, b, a); err != nil {
			return err
		}
	}
	return nil
}

// lookAtBalance compares a budget with the balance. A limit that was told is told again
// only after the balance was above it.
func (s *Service) lookAtBalance(ctx context.Context, tx *sql.Tx, b Budget, a Account) error {
	if today := dayOf(s.now()); today < b.first() || today > b.last() {
		return nil
	}
	for _, l := range b.limits() {
		if a.Balance.Cmp(l.amount) > 0 {
			if err := s.store.DeleteAlert(ctx, tx, b.ID, balancePeriod, l.number); err != nil {
				return err
			}
			continue
		}
		if err := s.pass(ctx, tx, b, a, balancePeriod, l, a.Balance); err != nil {
			return err
		}
	}
	return nil
}

// UpdateBalance writes the balance of an account.
func (s *Store) UpdateBalance(ctx context.Context, tx *sql.Tx, a Account) error {
	if _, err := tx.ExecContext(ctx, `UPDATE partner_accounts SET balance = $2 WHERE id = $1`, a.ID, a.Balance.String()); err != nil {
		return fmt.Errorf("update balance: %w", err)
	}
	return nil
}

// BegunBudgets reads budgets that begin by a day and that nobody has looked at yet.
func (s *Store) BegunBudgets(ctx context.Context, q sqldb.Querier, by Day, limit int) (ids []string, err error) {
	rows, err := q.QueryContext(ctx, `SELECT id FROM partner_budgets WHERE begins > 0 AND begins <= $1 ORDER BY begins, id LIMIT $2`, int64(by), limit)
	if err != nil {
		return nil, fmt.Errorf("list budgets that begin: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, fmt.Errorf("list budgets that begin: %w", err)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// BeginBudget notes that a budget was looked at when it began.
func (s *Store) BeginBudget(ctx context.Context, tx *sql.Tx, budgetID string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE partner_budgets SET begins = 0 WHERE id = $1`, budgetID); err != nil {
		return fmt.Errorf("begin budget: %w", err)
	}
	return nil
}

// DeleteAlert has a limit of a budget told again.
func (s *Store) DeleteAlert(ctx context.Context, tx *sql.Tx, budgetID string, period Day, threshold int) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM partner_budget_alerts WHERE budget_id = $1 AND period = $2 AND threshold = $3`, budgetID, int64(period), threshold)
	if err != nil {
		return fmt.Errorf("delete budget alert: %w", err)
	}
	return nil
}

// balanceNotice is what the mail about a limit of the balance says: how the job found it.
func (b Budget) balanceNotice(a Account, l limit, job budgetMail) string {
	return fmt.Sprintf(`The balance of the billing account %s (%s) is %s %s.

The budget %s has you told when it is down to %s %s.
`, shown(a.Name), a.ID, job.Spent, a.Currency, shown(b.Spec.GetName()), l.amount, a.Currency)
}
