package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// accessKeyColumns are those that scanAccessKey reads.
const accessKeyColumns = keyColumns + `, k.key_id, k.secret, k.session`

// InsertAccessKey adds a key.
func (s *Store) InsertAccessKey(ctx context.Context, tx *sql.Tx, k AccessKey) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_access_keys (id, account_id, key_id, secret, session, description, created_at, expires_at, last_used_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)`,
		k.ID, k.AccountID, k.KeyID, k.Secret, k.Session, k.Description, sqldb.Micros(k.CreatedAt), sqldb.Micros(k.ExpiresAt))
	if err != nil {
		return fmt.Errorf("insert access key: %w", err)
	}
	return nil
}

// DescribeAccessKey changes the description of a key.
func (s *Store) DescribeAccessKey(ctx context.Context, tx *sql.Tx, keyID, description string) error {
	_, err := tx.ExecContext(ctx, `UPDATE identity_access_keys SET description = $2 WHERE id = $1`, keyID, description)
	if err != nil {
		return fmt.Errorf("describe access key: %w", err)
	}
	return nil
}

// SweepAccessKeys removes some temporary keys that have ended: more than are made at
// once, so that they do not gather.
func (s *Store) SweepAccessKeys(ctx context.Context, tx *sql.Tx, now time.Time) error {
	_, err := tx.ExecContext(ctx, `
		DELETE FROM identity_access_keys WHERE id IN
			(SELECT id FROM identity_access_keys WHERE expires_at > 0 AND expires_at <= $1 ORDER BY expires_at LIMIT 10)`, sqldb.Micros(now))
	if err != nil {
		return fmt.Errorf("sweep temporary access keys: %w", err)
	}
	return nil
}

// AccessKey reads a static key by id. Fails: ACCESS_KEY_NOT_FOUND.
func (s *Store) AccessKey(ctx context.Context, q sqldb.Querier, keyID string) (AccessKey, error) {
	k, found, err := s.accessKeyWhere(ctx, q, `k.session = '' AND k.id = $1`, keyID)
	if err == nil && !found {
		err = accessKeyKind.errNotFound(keyID)
	}
	return k, err
}

// AccessKeyByKeyID reads the key, static or temporary, by its name in what it signs.
func (s *Store) AccessKeyByKeyID(ctx context.Context, q sqldb.Querier, keyID string) (k AccessKey, found bool, err error) {
	return s.accessKeyWhere(ctx, q, `k.key_id = $1`, keyID)
}

func (s *Store) accessKeyWhere(ctx context.Context, q sqldb.Querier, condition, arg string) (AccessKey, bool, error) {
	k, err := scanAccessKey(q.QueryRowContext(ctx, `SELECT `+accessKeyColumns+` FROM identity_access_keys k WHERE `+condition, arg).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return AccessKey{}, false, nil
	}
	if err != nil {
		return AccessKey{}, false, fmt.Errorf("read access key: %w", err)
	}
	return k, true, nil
}

// AccessKeys reads at most limit static keys of an account that follow after, oldest
// first.
func (s *Store) AccessKeys(ctx context.Context, accountID string, after page.Position, limit int) ([]AccessKey, error) {
	return keysOf(ctx, s, &accessKeyKind, accessKeyColumns, accountID, after, limit, scanAccessKey)
}

func scanAccessKey(scan func(...any) error) (k AccessKey, err error) {
	var r keyRow
	if err := scan(append(r.into(), &k.KeyID, &k.Secret, &k.Session)...); err != nil {
		return AccessKey{}, err
	}
	k.accountKey = r.value()
	return k, nil
}
