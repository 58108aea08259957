package partner

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// PendingRole is a role on an account for who has the account of an address at the
// first sign-in (PT-20).
type PendingRole struct {
	AccountID string
	Email     string // folded
	RoleID    string
	GivenBy   string // id of the user who gave it; "" is the platform
	GivenAt   int64  // microseconds
}

// InsertPending adds pending roles; those that are there stay.
func (s *Store) InsertPending(ctx context.Context, tx *sql.Tx, all ...PendingRole) error {
	for _, p := range all {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO partner_pending_roles (account_id, email, role_id, given_by, given_at) VALUES ($1, $2, $3, $4, $5)
			ON CONFLICT (account_id, email, role_id) DO UPDATE SET given_by = excluded.given_by, given_at = excluded.given_at`,
			p.AccountID, p.Email, p.RoleID, p.GivenBy, p.GivenAt)
		if err != nil {
			return fmt.Errorf("insert pending role: %w", err)
		}
	}
	return nil
}

// PendingOf reads the pending roles of an address, or of an account.
func (s *Store) PendingOf(ctx context.Context, q sqldb.Querier, address string) ([]PendingRole, error) {
	return s.pending(ctx, q, `email = $1`, address)
}

// PendingOn reads the pending roles on an account, ordered by address and role.
func (s *Store) PendingOn(ctx context.Context, q sqldb.Querier, accountID string) ([]PendingRole, error) {
	return s.pending(ctx, q, `account_id = $1`, accountID)
}

func (s *Store) pending(ctx context.Context, q sqldb.Querier, where, arg string) ([]PendingRole, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT account_id, email, role_id, given_by, given_at FROM partner_pending_roles WHERE `+where+`
		ORDER BY account_id, email, role_id`, arg)
	if err != nil {
		return nil, fmt.Errorf("read pending roles: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var all []PendingRole
	for rows.Next() {
		var p PendingRole
		if err := rows.Scan(&p.AccountID, &p.Email, &p.RoleID, &p.GivenBy, &p.GivenAt); err != nil {
			return nil, fmt.Errorf("read pending roles: %w", err)
		}
		all = append(all, p)
	}
	return all, rows.Err()
}

// DeletePending drops the pending roles of an address on an account and reports how many
// there were.
func (s *Store) DeletePending(ctx context.Context, tx *sql.Tx, accountID, address string) (int64, error) {
	res, err := tx.ExecContext(ctx, `DELETE FROM partner_pending_roles WHERE account_id = $1 AND email = $2`, accountID, address)
	if err != nil {
		return 0, fmt.Errorf("delete pending roles: %w", err)
	}
	return res.RowsAffected()
}
