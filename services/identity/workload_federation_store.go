package identity

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

// Federation is trust in an issuer of tokens elsewhere.
type Federation struct {
	ID          string
	FolderID    string
	CloudID     string // a folder stays in its cloud (RH-7)
	Name        string // unique in the folder
	Description string
	Labels      map[string]string
	Disabled    bool
	Audiences   []string // at least one
	Issuer      string
	KeysURL     string
	State       State  // Creating, Active or Deleting
	Operation   string // that makes or deletes it; "" when none is under way
	CreatedBy   string // id of the subject
	CreatedAt   time.Time
}

func (f Federation) position() page.Position {
	return page.Position{Time: sqldb.Micros(f.CreatedAt), ID: f.ID}
}

const federationNameConstraint = "identity_workload_federations_folder_id_name_key"

// InsertFederation adds a federation. Fails: FEDERATION_NAME_TAKEN.
func (s *Store) InsertFederation(ctx context.Context, tx *sql.Tx, f Federation) error {
	labels, audiences, err := f.encode()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO identity_workload_federations
			(id, folder_id, cloud_id, name, description, labels, disabled, audiences, issuer, jwks_url, state, operation, created_by, created_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		f.ID, f.FolderID, f.CloudID, f.Name, f.Description, labels, f.Disabled, audiences, f.Issuer, f.KeysURL,
		string(f.State), f.Operation, f.CreatedBy, sqldb.Micros(f.CreatedAt))
	return refuseFederation(err, "insert", f)
}

// UpdateFederation writes what may change: name, description, labels, disabled,
// audiences, the address of the keys, state and operation. Fails:
// FEDERATION_NAME_TAKEN.
func (s *Store) UpdateFederation(ctx context.Context, tx *sql.Tx, f Federation) error {
	labels, audiences, err := f.encode()
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE identity_workload_federations
		SET name = $2, description = $3, labels = $4, disabled = $5, audiences = $6, jwks_url = $7, state = $8, operation = $9
		WHERE id = $1`,
		f.ID, f.Name, f.Description, labels, f.Disabled, audiences, f.KeysURL, string(f.State), f.Operation)
	return refuseFederation(err, "update", f)
}

func (f Federation) encode() (labels, audiences string, err error) {
	if labels, err = encodeLabels(f.Labels); err != nil {
		return "", "", err
	}
	raw, err := json.Marshal(f.Audiences)
	if err != nil {
		return "", "", fmt.Errorf("encode audiences: %w", err)
	}
	return labels, string(raw), nil
}

func refuseFederation(err error, verb string, f Federation) error {
	switch {
	case err == nil:
		return nil
	case sqldb.ConstraintName(err) == federationNameConstraint:
		return errFederationNameTaken(f.Name)
	default:
		return fmt.Errorf("%s federation %s: %w", verb, f.ID, err)
	}
}

// DeleteFederations removes federations with their credentials; those that are not
// there change nothing.
func (s *Store) DeleteFederations(ctx context.Context, tx *sql.Tx, ids ...string) error {
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, `DELETE FROM identity_workload_federations WHERE id = $1`, id); err != nil {
			return fmt.Errorf("delete federation %s: %w", id, err)
		}
	}
	return nil
}

const federationColumns = `f.id, f.folder_id, f.cloud_id, f.name, f.description, f.labels, f.disabled, f.audiences, f.issuer, f.jwks_url, f.state,
	f.operation, f.created_by, f.created_at`

// Federation reads a federation by id, in any state. Fails: FEDERATION_NOT_FOUND.
func (s *Store) Federation(ctx context.Context, q sqldb.Querier, federationID string) (Federation, error) {
	return s.federation(ctx, q, federationID, "")
}

// LockFederation is Federation that keeps other transactions from changing it until
// this one ends.
func (s *Store) LockFederation(ctx context.Context, tx *sql.Tx, federationID string) (Federation, error) {
	return s.federation(ctx, tx, federationID, s.db.ForUpdate())
}

func (s *Store) federation(ctx context.Context, q sqldb.Querier, federationID, suffix string) (Federation, error) {
	var r federationRow
	err := q.QueryRowContext(ctx, `SELECT `+federationColumns+` FROM identity_workload_federations f WHERE f.id = $1`+suffix, federationID).
		Scan(r.into()...)
	if errors.Is(err, sql.ErrNoRows) {
		return Federation{}, errFederationNotFound(federationID)
	}
	if err != nil {
		return Federation{}, fmt.Errorf("read federation %s: %w", federationID, err)
	}
	return r.value()
}

// FederationsIn reads at most limit federations of a folder that follow after, oldest
// first: by created_at, then id.
func (s *Store) FederationsIn(ctx context.Context, folderID string, after page.Position, limit int) (all []Federation, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+federationColumns+` FROM identity_workload_federations f
		WHERE f.folder_id = $1 AND (f.created_at, f.id) > ($2, $3) ORDER BY f.created_at, f.id LIMIT $4`, folderID, after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list federations: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var r federationRow
		if err := rows.Scan(r.into()...); err != nil {
			return nil, fmt.Errorf("list federations: %w", err)
		}
		f, err := r.value()
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list federations: %w", err)
	}
	return all, nil
}

// CountFederations counts the federations of a cloud, whatever their state.
func (s *Store) CountFederations(ctx context.Context, q sqldb.Querier, cloudID string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COUNT(*) FROM identity_workload_federations WHERE cloud_id = $1`, cloudID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count federations: %w", err)
	}
	return n, nil
}

// federationRow is where federationColumns are read into.
type federationRow struct {
	f                 Federation
	labels, audiences string
	created           int64
}

func (r *federationRow) into() []any {
	f := &r.f
	return []any{
		&f.ID, &f.FolderID, &f.CloudID, &f.Name, &f.Description, &r.labels, &f.Disabled, &r.audiences, &f.Issuer, &f.KeysURL, &f.State,
		&f.Operation, &f.CreatedBy, &r.created,
	}
}

func (r *federationRow) value() (Federation, error) {
	f := r.f
	f.CreatedAt = sqldb.Time(r.created)
	if err := json.Unmarshal([]byte(r.labels), &f.Labels); err != nil {
		return Federation{}, fmt.Errorf("read labels: %w", err)
	}
	if err := json.Unmarshal([]byte(r.audiences), &f.Audiences); err != nil {
		return Federation{}, fmt.Errorf("read audiences: %w", err)
	}
	return f, nil
}
