package oslogin

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

const keyColumns = `id, organization_id, subject_id, name, data, fingerprint, created_at, expires_at`

func scanKey(scan func(...any) error) (k Key, err error) {
	var created, expires int64
	err = scan(&k.ID, &k.OrganizationID, &k.SubjectID, &k.Name, &k.Data, &k.Fingerprint, &created, &expires)
	k.CreatedAt, k.ExpiresAt = sqldb.Time(created), sqldb.Time(expires)
	return k, err
}

// key reads a key. Fails: USER_SSH_KEY_NOT_FOUND.
func (s *store) key(ctx context.Context, q sqldb.Querier, keyID, suffix string) (Key, error) {
	k, err := scanKey(q.QueryRowContext(ctx, `SELECT `+keyColumns+` FROM identity_user_ssh_keys WHERE id = $1`+suffix, keyID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Key{}, errKeyNotFound
	}
	if err != nil {
		return Key{}, fmt.Errorf("read SSH key: %w", err)
	}
	return k, nil
}

// keys reads at most limit keys of an organization, or of one subject there, that follow
// after, oldest first.
func (s *store) keys(ctx context.Context, organizationID, subjectID string, after page.Position, limit int) ([]Key, error) {
	condition, args := "", []any{organizationID, after.Time, after.ID, limit}
	if subjectID != "" {
		condition, args = ` AND subject_id = $5`, append(args, subjectID)
	}
	rows, err := s.db.QueryContext(ctx, `
		SELECT `+keyColumns+` FROM identity_user_ssh_keys
		WHERE organization_id = $1 AND (created_at, id) > ($2, $3)`+condition+` ORDER BY created_at, id LIMIT $4`, args...)
	return collect(rows, err, "list SSH keys", scanKey)
}

func (s *store) countKeys(ctx context.Context, q sqldb.Querier, organizationID, subjectID string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM identity_user_ssh_keys WHERE organization_id = $1 AND subject_id = $2`, organizationID, subjectID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count SSH keys: %w", err)
	}
	return n, nil
}

// insertKey adds a key. Fails: USER_SSH_KEY_EXISTS.
func (s *store) insertKey(ctx context.Context, tx *sql.Tx, k Key) error {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO identity_user_ssh_keys (`+keyColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		k.ID, k.OrganizationID, k.SubjectID, k.Name, k.Data, k.Fingerprint, sqldb.Micros(k.CreatedAt), sqldb.Micros(k.ExpiresAt))
	return mustChange(res, err, "insert SSH key", errKeyExists)
}

// updateKey writes what may change of a key.
func (s *store) updateKey(ctx context.Context, tx *sql.Tx, k Key) error {
	_, err := tx.ExecContext(ctx, `UPDATE identity_user_ssh_keys SET name = $2, expires_at = $3 WHERE id = $1`,
		k.ID, k.Name, sqldb.Micros(k.ExpiresAt))
	if err != nil {
		return fmt.Errorf("update SSH key: %w", err)
	}
	return nil
}
