package partner

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

const budgetColumns = `id, account_id, created_at, spec`

// InsertBudget adds a budget.
func (s *Store) InsertBudget(ctx context.Context, tx *sql.Tx, b Budget) error {
	raw, err := encodeBudget(b.Spec)
	if err != nil {
		return fmt.Errorf("encode budget: %w", err)
	}
	spec, err := json.Marshal(json.RawMessage(raw)) // protojson spaces at random
	if err != nil {
		return fmt.Errorf("encode budget: %w", err)
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO partner_budgets (id, account_id, created_at, spec, begins) VALUES ($1, $2, $3, $4, $5)`,
		b.ID, b.AccountID, sqldb.Micros(b.CreatedAt), string(spec), int64(b.begins()))
	if err != nil {
		return fmt.Errorf("insert budget: %w", err)
	}
	return nil
}

// Budget reads a budget. suffix is that of the statement. Fails: BUDGET_NOT_FOUND.
func (s *Store) Budget(ctx context.Context, q sqldb.Querier, budgetID, suffix string) (Budget, error) {
	b, err := scanBudget(q.QueryRowContext(ctx, `SELECT `+budgetColumns+` FROM partner_budgets WHERE id = $1`+suffix, budgetID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Budget{}, errBudgetNotFound(budgetID)
	}
	if err != nil {
		return Budget{}, fmt.Errorf("get budget: %w", err)
	}
	return b, nil
}

// Budgets reads at most limit budgets of an account that follow after, oldest first.
func (s *Store) Budgets(ctx context.Context, q sqldb.Querier, accountID string, after page.Position, limit int) (all []Budget, err error) {
	rows, err := q.QueryContext(ctx, `
		SELECT `+budgetColumns+` FROM partner_budgets
		WHERE account_id = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4`, accountID, after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list budgets: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		b, err := scanBudget(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list budgets: %w", err)
		}
		all = append(all, b)
	}
	return all, rows.Err()
}

// readBudgetsOf adds a statement to a batch that reads the budgets of accounts.
func (s *Store) readBudgetsOf(b *sqldb.Batch, accounts *sqldb.Rows, each func(id string)) {
	b.QueryRows(func(row sqldb.Scanner) error {
		var id string
		err := row.Scan(&id)
		each(id)
		return err
	}, `SELECT id FROM partner_budgets WHERE account_id IN (`, accounts, `)`)
}

// InsertAlert records that a limit of a budget is spent; false when it was before.
func (s *Store) InsertAlert(ctx context.Context, tx *sql.Tx, budgetID string, period Day, threshold int, at time.Time) (bool, error) {
	result, err := tx.ExecContext(ctx, `
		INSERT INTO partner_budget_alerts (budget_id, period, threshold, passed_at) VALUES ($1, $2, $3, $4)
		ON CONFLICT (budget_id, period, threshold) DO NOTHING`, budgetID, int64(period), threshold, sqldb.Micros(at))
	if err != nil {
		return false, fmt.Errorf("insert budget alert: %w", err)
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

func scanBudget(scan func(...any) error) (b Budget, err error) {
	var created int64
	var spec string
	if err := scan(&b.ID, &b.AccountID, &created, &spec); err != nil {
		return Budget{}, err
	}
	b.CreatedAt = sqldb.Time(created)
	b.Spec, err = decodeBudget(spec)
	return b, err
}
