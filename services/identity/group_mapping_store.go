package identity

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// InsertGroupMapping adds the mapping of a federation. Fails: GROUP_MAPPING_EXISTS.
func (s *Store) InsertGroupMapping(ctx context.Context, tx *sql.Tx, federationID string, enabled bool) error {
	n, err := affected(tx.ExecContext(ctx, `INSERT INTO identity_group_mappings (federation_id, enabled) VALUES ($1, $2) ON CONFLICT DO NOTHING`, federationID, enabled))
	if err == nil && n == 0 {
		err = errMappingExists
	}
	return err
}

// affected is how many rows a statement changed.
func affected(res sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, fmt.Errorf("write rows: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return 0, fmt.Errorf("write rows: %w", err)
	}
	return n, nil
}

// UpdateGroupMapping writes whether a mapping is in use.
func (s *Store) UpdateGroupMapping(ctx context.Context, tx *sql.Tx, federationID string, enabled bool) error {
	_, err := affected(tx.ExecContext(ctx, `UPDATE identity_group_mappings SET enabled = $2 WHERE federation_id = $1`, federationID, enabled))
	return err
}

// DeleteGroupMapping removes the mapping of a federation with its items.
func (s *Store) DeleteGroupMapping(ctx context.Context, tx *sql.Tx, federationID string) error {
	_, err := affected(tx.ExecContext(ctx, `DELETE FROM identity_group_mappings WHERE federation_id = $1`, federationID))
	return err
}

// GroupMapping reads whether the mapping of a federation is in use. Fails:
// GROUP_MAPPING_NOT_FOUND.
func (s *Store) GroupMapping(ctx context.Context, q sqldb.Querier, federationID string) (enabled bool, err error) {
	err = q.QueryRowContext(ctx, `SELECT enabled FROM identity_group_mappings WHERE federation_id = $1`, federationID).Scan(&enabled)
	if errors.Is(err, sql.ErrNoRows) {
		return false, errMappingNotFound
	}
	if err != nil {
		return false, fmt.Errorf("read group mapping: %w", err)
	}
	return enabled, nil
}

// changeMappingItem adds or removes an item, and reports whether that changed anything.
func (s *Store) changeMappingItem(ctx context.Context, tx *sql.Tx, federationID string, i mappingItem, add bool) (bool, error) {
	key := sha256.Sum256([]byte(i.external))
	if add {
		n, err := affected(tx.ExecContext(ctx, `
			INSERT INTO identity_group_mapping_items (federation_id, external_group_id, external_key, internal_group_id)
			VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`, federationID, i.external, key[:], i.internal))
		return n > 0, err
	}
	n, err := affected(tx.ExecContext(ctx, `
		DELETE FROM identity_group_mapping_items WHERE federation_id = $1 AND external_key = $2 AND internal_group_id = $3`,
		federationID, key[:], i.internal))
	return n > 0, err
}

// MappingItems reads all items of a mapping, ordered by the name of the external group
// and then the id of the internal one.
func (s *Store) MappingItems(ctx context.Context, q sqldb.Querier, federationID string) ([]mappingItem, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT external_group_id, internal_group_id FROM identity_group_mapping_items WHERE federation_id = $1
		ORDER BY external_group_id, internal_group_id`, federationID)
	return collect(rows, err, func(r row) (i mappingItem, err error) {
		err = r.Scan(&i.external, &i.internal)
		return i, err
	})
}
