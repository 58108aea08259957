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

// Further states, of service accounts only (SK-1).
const (
	Suspended State = "SUSPENDED"
	Deleting  State = "DELETING"
)

// ServiceAccount is a subject that programs act as, and a resource in a folder.
type ServiceAccount struct {
	ID                  string
	FolderID            string
	CloudID             string // a folder stays in its cloud (RH-7)
	Name                string
	Description         string
	Labels              map[string]string
	State               State
	Version             int64  // of State and ExpiresAt, from 1 on
	Operation           string // that makes, changes or deletes it; "" when none is under way
	CreatedBy           string // id of the subject
	CreatedAt           time.Time
	ExpiresAt           time.Time // zero for never
	LastAuthenticatedAt time.Time // zero when never; exact to a minute
}

// MayAct reports whether it authenticates at a time: what ends now has ended.
func (a ServiceAccount) MayAct(now time.Time) bool {
	return a.State == Active && (a.ExpiresAt.IsZero() || a.ExpiresAt.After(now))
}

// position is where a stands in a list.
func (a ServiceAccount) position() page.Position {
	return page.Position{Time: sqldb.Micros(a.CreatedAt), ID: a.ID}
}

// nameConstraint keeps names unique in a cloud (NM-3).
const nameConstraint = "identity_service_accounts_cloud_id_name_key"

// InsertAccount adds a service account. Fails: SERVICE_ACCOUNT_NAME_TAKEN (NM-3).
func (s *Store) InsertAccount(ctx context.Context, tx *sql.Tx, a ServiceAccount) error {
	labels, err := encodeLabels(a.Labels)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO identity_service_accounts
			(id, folder_id, cloud_id, name, description, labels, status, version, operation, created_by, created_at, expires_at, last_authenticated_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
		a.ID, a.FolderID, a.CloudID, a.Name, a.Description, labels, string(a.State), a.Version, a.Operation, a.CreatedBy,
		sqldb.Micros(a.CreatedAt), sqldb.Micros(a.ExpiresAt), sqldb.Micros(a.LastAuthenticatedAt))
	return refuseAccount(err, "insert", a)
}

// UpdateAccount writes what may change: name, description, labels, state, version,
// operation and expires_at. Fails: SERVICE_ACCOUNT_NAME_TAKEN (NM-3).
func (s *Store) UpdateAccount(ctx context.Context, tx *sql.Tx, a ServiceAccount) error {
	labels, err := encodeLabels(a.Labels)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE identity_service_accounts
		SET name = $2, description = $3, labels = $4, status = $5, version = $6, operation = $7, expires_at = $8
		WHERE id = $1`,
		a.ID, a.Name, a.Description, labels, string(a.State), a.Version, a.Operation, sqldb.Micros(a.ExpiresAt))
	return refuseAccount(err, "update", a)
}

func refuseAccount(err error, verb string, a ServiceAccount) error {
	switch {
	case err == nil:
		return nil
	case sqldb.ConstraintName(err) == nameConstraint:
		return errAccountNameTaken(a.Name)
	default:
		return fmt.Errorf("%s service account %s: %w", verb, a.ID, err)
	}
}

// DeleteAccounts removes service accounts with all that refers to them; those that
// are not there change nothing.
func (s *Store) DeleteAccounts(ctx context.Context, tx *sql.Tx, ids ...string) error {
	for _, id := range ids {
		if _, err := tx.ExecContext(ctx, `DELETE FROM identity_service_accounts WHERE id = $1`, id); err != nil {
			return fmt.Errorf("delete service account %s: %w", id, err)
		}
	}
	return nil
}

const accountColumns = `id, folder_id, cloud_id, name, description, labels, status, version, operation, created_by,
	created_at, expires_at, last_authenticated_at`

// ServiceAccount reads a service account by id, in any state. Fails:
// SERVICE_ACCOUNT_NOT_FOUND.
func (s *Store) ServiceAccount(ctx context.Context, q sqldb.Querier, accountID string) (ServiceAccount, error) {
	return s.account(ctx, q, accountID, "")
}

// LockAccount is ServiceAccount that keeps other transactions from changing it
// until this one ends.
func (s *Store) LockAccount(ctx context.Context, tx *sql.Tx, accountID string) (ServiceAccount, error) {
	return s.account(ctx, tx, accountID, s.db.ForUpdate())
}

func (s *Store) account(ctx context.Context, q sqldb.Querier, accountID, suffix string) (ServiceAccount, error) {
	row := q.QueryRowContext(ctx, `SELECT `+accountColumns+` FROM identity_service_accounts WHERE id = $1`+suffix, accountID)
	a, err := scanAccount(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return ServiceAccount{}, errAccountNotFound(accountID)
	}
	if err != nil {
		return ServiceAccount{}, fmt.Errorf("read service account %s: %w", accountID, err)
	}
	return a, nil
}

// AccountsIn reads at most limit service accounts of a folder that follow after,
// oldest first: by created_at, then id. An empty name means all.
func (s *Store) AccountsIn(ctx context.Context, folderID, name string, after page.Position, limit int) (all []ServiceAccount, err error) {
	text := `SELECT ` + accountColumns + ` FROM identity_service_accounts WHERE folder_id = $1 AND (created_at, id) > ($2, $3)`
	args := []any{folderID, after.Time, after.ID, limit}
	if name != "" {
		args = append(args, name)
		text += ` AND name = $5`
	}
	rows, err := s.db.QueryContext(ctx, text+` ORDER BY created_at, id LIMIT $4`, args...)
	if err != nil {
		return nil, fmt.Errorf("list service accounts: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		a, err := scanAccount(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list service accounts: %w", err)
		}
		all = append(all, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list service accounts: %w", err)
	}
	return all, nil
}

// CountAccounts counts the service accounts of a cloud, whatever their state: each
// counts against the quota until it is gone.
func (s *Store) CountAccounts(ctx context.Context, q sqldb.Querier, cloudID string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COUNT(*) FROM identity_service_accounts WHERE cloud_id = $1`, cloudID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count service accounts: %w", err)
	}
	return n, nil
}

func scanAccount(scan func(...any) error) (ServiceAccount, error) {
	var a ServiceAccount
	var labels string
	var created, expires, authenticated int64
	err := scan(&a.ID, &a.FolderID, &a.CloudID, &a.Name, &a.Description, &labels, &a.State, &a.Version, &a.Operation, &a.CreatedBy,
		&created, &expires, &authenticated)
	if err != nil {
		return ServiceAccount{}, err
	}
	a.CreatedAt, a.ExpiresAt, a.LastAuthenticatedAt = sqldb.Time(created), sqldb.Time(expires), sqldb.Time(authenticated)
	if err := json.Unmarshal([]byte(labels), &a.Labels); err != nil {
		return ServiceAccount{}, fmt.Errorf("read labels: %w", err)
	}
	return a, nil
}

// encodeLabels writes labels as a JSON object, {} for none.
func encodeLabels(labels map[string]string) (string, error) {
	if len(labels) == 0 {
		return "{}", nil
	}
	b, err := json.Marshal(labels)
	if err != nil {
		return "", fmt.Errorf("encode labels: %w", err)
	}
	return string(b), nil
}
