package partner

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables of the unit.
func Migrations() sqldb.Migrations {
	return sqldb.Migrations{Name: Name, Unit: Name, FS: files}
}

// Store is the tables of the unit. Methods that take a Querier read from a
// transaction or, outside of one, what is committed.
type Store struct{ db *sqldb.DB }

const accountColumns = `id, partner_id, organization_id, name, country_code, currency, state, phase, suspended_at, created_by, created_at, operation, version, balance`

// InsertAccount adds an account.
func (s *Store) InsertAccount(ctx context.Context, tx *sql.Tx, a Account) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO partner_accounts (`+accountColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		a.ID, sql.NullString{String: a.PartnerID, Valid: a.PartnerID != ""}, a.OrganizationID, a.Name, a.CountryCode, a.Currency,
		string(a.State), string(a.Phase), sqldb.Micros(a.SuspendedAt), a.CreatedBy, sqldb.Micros(a.CreatedAt), a.Operation, max(a.Version, 1), a.Balance.String())
	if err != nil {
		return fmt.Errorf("insert billing account: %w", err)
	}
	return nil
}

// UpdateAccount writes what may change: name, organization, state, phase, suspended_at
// and operation.
func (s *Store) UpdateAccount(ctx context.Context, tx *sql.Tx, a Account) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE partner_accounts SET name = $2, organization_id = $3, state = $4, phase = $5, suspended_at = $6, operation = $7, version = $8 WHERE id = $1`,
		a.ID, a.Name, a.OrganizationID, string(a.State), string(a.Phase), sqldb.Micros(a.SuspendedAt), a.Operation, a.Version)
	if err != nil {
		return fmt.Errorf("update billing account: %w", err)
	}
	return nil
}

// DropAccount removes an account that never came to be.
func (s *Store) DropAccount(ctx context.Context, tx *sql.Tx, accountID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM partner_accounts WHERE id = $1`, accountID); err != nil {
		return fmt.Errorf("delete billing account: %w", err)
	}
	return nil
}

// Account reads an account that was not deleted. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *Store) Account(ctx context.Context, q sqldb.Querier, accountID string) (Account, error) {
	return s.account(ctx, q, accountID, "")
}

// LockAccount is Account that keeps other transactions from changing the account until
// this one ends. A partner's is locked before those of its customers.
func (s *Store) LockAccount(ctx context.Context, tx *sql.Tx, accountID string) (Account, error) {
	return s.account(ctx, tx, accountID, s.db.ForUpdate())
}

func (s *Store) account(ctx context.Context, q sqldb.Querier, accountID, suffix string) (Account, error) {
	row := q.QueryRowContext(ctx, `SELECT `+accountColumns+` FROM partner_accounts WHERE id = $1 AND phase <> 'DELETED'`+suffix, accountID)
	a, err := scanAccount(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Account{}, errAccountNotFound(accountID)
	}
	if err != nil {
		return Account{}, fmt.Errorf("get billing account %s: %w", accountID, err)
	}
	return a, nil
}

// Accounts reads at most limit accounts that follow after, oldest first: those of a
// partner, or with "" all of them.
func (s *Store) Accounts(ctx context.Context, partnerID string, after page.Position, limit int) ([]Account, error) {
	text := `SELECT ` + accountColumns + ` FROM partner_accounts WHERE (created_at, id) > ($1, $2) AND phase <> 'DELETED'`
	args := []any{after.Time, after.ID, limit}
	if partnerID != "" {
		text += ` AND partner_id = $4`
		args = append(args, partnerID)
	}
	all, err := s.readAccounts(ctx, s.db, text+` ORDER BY created_at, id LIMIT $3`, args...)
	if err != nil {
		return nil, fmt.Errorf("list billing accounts: %w", err)
	}
	return all, nil
}

// CountSubaccounts counts the subaccounts of a partner that are not INACTIVE.
func (s *Store) CountSubaccounts(ctx context.Context, q sqldb.Querier, partnerID string) (int64, error) {
	return s.count(ctx, q, `SELECT COUNT(*) FROM partner_accounts WHERE partner_id = $1 AND phase <> 'DELETED' AND state <> 'INACTIVE'`, partnerID)
}

// CountAccountsOf counts the accounts that a subject has made, subaccounts left out.
func (s *Store) CountAccountsOf(ctx context.Context, q sqldb.Querier, subjectID string) (int64, error) {
	return s.count(ctx, q, `SELECT COUNT(*) FROM partner_accounts WHERE created_by = $1 AND phase <> 'DELETED' AND partner_id IS NULL`, subjectID)
}

func (s *Store) count(ctx context.Context, q sqldb.Querier, query string, args ...any) (n int64, err error) {
	if err := q.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return n, nil
}

func (s *Store) readAccounts(ctx context.Context, q sqldb.Querier, query string, args ...any) ([]Account, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var all []Account
	for rows.Next() {
		a, err := scanAccount(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, a)
	}
	return all, rows.Err()
}

func scanAccount(scan func(...any) error) (Account, error) {
	var (
		a                  Account
		partner            sql.NullString
		suspended, created int64
		balance            string
	)
	err := scan(&a.ID, &partner, &a.OrganizationID, &a.Name, &a.CountryCode, &a.Currency, &a.State, &a.Phase, &suspended,
		&a.CreatedBy, &created, &a.Operation, &a.Version, &balance)
	if err == nil {
		a.Balance, err = decimal.Parse(balance)
	}
	if err != nil {
		return Account{}, err
	}
	a.PartnerID, a.SuspendedAt, a.CreatedAt = partner.String, sqldb.Time(suspended), sqldb.Time(created)
	return a, nil
}
