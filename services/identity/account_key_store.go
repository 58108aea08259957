package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// keyColumns are those that accountKey holds, of both tables.
const keyColumns = `k.id, k.account_id, k.description, k.created_at, k.expires_at, k.last_used_at`

// of puts the table of a kind into a query.
func (k *keyKind) of(query string) string { return strings.ReplaceAll(query, "{{keys}}", k.table) }

// keyRow is where the columns of an accountKey are read into.
type keyRow struct {
	key                    accountKey
	created, expires, used int64
}

func (r *keyRow) into() []any {
	return []any{&r.key.ID, &r.key.AccountID, &r.key.Description, &r.created, &r.expires, &r.used}
}

func (r *keyRow) value() accountKey {
	k := r.key
	k.CreatedAt, k.ExpiresAt, k.LastUsedAt = sqldb.Time(r.created), sqldb.Time(r.expires), sqldb.Time(r.used)
	return k
}

// accountKey reads what keys have in common of one. Temporary keys are none. Fails:
// the kind's NOT_FOUND.
func (s *Store) accountKey(ctx context.Context, q sqldb.Querier, kind *keyKind, keyID, suffix string) (accountKey, error) {
	var r keyRow
	err := q.QueryRowContext(ctx, kind.of(`SELECT `+keyColumns+` FROM {{keys}} k WHERE k.id = $1`)+kind.listed()+suffix, keyID).Scan(r.into()...)
	if errors.Is(err, sql.ErrNoRows) {
		return accountKey{}, kind.errNotFound(keyID)
	}
	if err != nil {
		return accountKey{}, fmt.Errorf("read %s: %w", kind.name, err)
	}
	return r.value(), nil
}

// listed leaves out the keys that no list shows.
func (k *keyKind) listed() string {
	if k == &accessKeyKind {
		return ` AND k.session = ''`
	}
	return ""
}

// countKeys counts the keys of the service accounts of a cloud that have a quota.
func (s *Store) countKeys(ctx context.Context, q sqldb.Querier, kind *keyKind, cloudID string) (n int64, err error) {
	err = q.QueryRowContext(ctx, kind.of(`
		SELECT COUNT(*) FROM {{keys}} k JOIN identity_service_accounts a ON a.id = k.account_id WHERE a.cloud_id = $1`)+kind.listed(),
		cloudID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count %ss: %w", kind.name, err)
	}
	return n, nil
}

// deleteKey removes a key.
func (s *Store) deleteKey(ctx context.Context, tx *sql.Tx, kind *keyKind, keyID string) error {
	if _, err := tx.ExecContext(ctx, kind.of(`DELETE FROM {{keys}} WHERE id = $1`), keyID); err != nil {
		return fmt.Errorf("delete %s: %w", kind.name, err)
	}
	return nil
}

// keyUsed notes that a key, and with it its account, was accepted at that time.
func (s *Store) keyUsed(ctx context.Context, tx *sql.Tx, kind *keyKind, k accountKey, at time.Time) error {
	_, err := tx.ExecContext(ctx, kind.of(`UPDATE {{keys}} SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2`), k.ID, sqldb.Micros(at))
	if err != nil {
		return fmt.Errorf("note the use of %s: %w", kind.name, err)
	}
	return s.AccountAuthenticated(ctx, tx, k.AccountID, at)
}

// keysOf reads at most limit keys of an account that follow after, oldest first: by
// created_at, then id.
func keysOf[K any](ctx context.Context, s *Store, kind *keyKind, columns, accountID string, after page.Position, limit int,
	scan func(func(...any) error) (K, error),
) (all []K, err error) {
	rows, err := s.db.QueryContext(ctx, kind.of(`SELECT `+columns+` FROM {{keys}} k
		WHERE k.account_id = $1 AND (k.created_at, k.id) > ($2, $3)`)+kind.listed()+` ORDER BY k.created_at, k.id LIMIT $4`,
		accountID, after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", kind.name, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		k, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list %ss: %w", kind.name, err)
		}
		all = append(all, k)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list %ss: %w", kind.name, err)
	}
	return all, nil
}
