package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// apiKeyColumns are those that scanAPIKey reads.
const apiKeyColumns = keyColumns + `, k.hash, k.mask, k.scopes`

// InsertAPIKey adds a key.
func (s *Store) InsertAPIKey(ctx context.Context, tx *sql.Tx, k APIKey) error {
	scopes, err := json.Marshal(k.Scopes)
	if err != nil {
		return fmt.Errorf("insert API key: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO identity_api_keys (id, account_id, hash, mask, scopes, description, created_at, expires_at, last_used_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0)`,
		k.ID, k.AccountID, k.Hash, k.Mask, string(scopes), k.Description, sqldb.Micros(k.CreatedAt), sqldb.Micros(k.ExpiresAt))
	if err != nil {
		return fmt.Errorf("insert API key: %w", err)
	}
	return nil
}

// UpdateAPIKey writes what may change: description, scopes and end.
func (s *Store) UpdateAPIKey(ctx context.Context, tx *sql.Tx, k APIKey) error {
	scopes, err := json.Marshal(k.Scopes)
	if err != nil {
		return fmt.Errorf("update API key: %w", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE identity_api_keys SET description = $2, scopes = $3, expires_at = $4 WHERE id = $1`,
		k.ID, k.Description, string(scopes), sqldb.Micros(k.ExpiresAt))
	if err != nil {
		return fmt.Errorf("update API key: %w", err)
	}
	return nil
}

// APIKey reads a key by id. Fails: API_KEY_NOT_FOUND.
func (s *Store) APIKey(ctx context.Context, q sqldb.Querier, keyID string) (APIKey, error) {
	k, found, err := s.apiKeyWhere(ctx, q, `k.id = $1`, keyID)
	if err == nil && !found {
		err = apiKeyKind.errNotFound(keyID)
	}
	return k, err
}

// APIKeyByHash reads the key with a secret of that hash.
func (s *Store) APIKeyByHash(ctx context.Context, q sqldb.Querier, hash []byte) (k APIKey, found bool, err error) {
	return s.apiKeyWhere(ctx, q, `k.hash = $1`, hash)
}

func (s *Store) apiKeyWhere(ctx context.Context, q sqldb.Querier, condition string, arg any) (APIKey, bool, error) {
	k, err := scanAPIKey(q.QueryRowContext(ctx, `SELECT `+apiKeyColumns+` FROM identity_api_keys k WHERE `+condition, arg).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return APIKey{}, false, nil
	}
	if err != nil {
		return APIKey{}, false, fmt.Errorf("read API key: %w", err)
	}
	return k, true, nil
}

// APIKeys reads at most limit keys of an account that follow after, oldest first.
func (s *Store) APIKeys(ctx context.Context, accountID string, after page.Position, limit int) ([]APIKey, error) {
	return keysOf(ctx, s, &apiKeyKind, apiKeyColumns, accountID, after, limit, scanAPIKey)
}

func scanAPIKey(scan func(...any) error) (k APIKey, err error) {
	var r keyRow
	var scopes string
	if err := scan(append(r.into(), &k.Hash, &k.Mask, &scopes)...); err != nil {
		return APIKey{}, err
	}
	k.accountKey = r.value()
	if err := json.Unmarshal([]byte(scopes), &k.Scopes); err != nil {
		return APIKey{}, fmt.Errorf("scopes: %w", err)
	}
	return k, nil
}
