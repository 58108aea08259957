package resourcemanager

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the table of resources.
func Migrations() sqldb.Migrations {
	return sqldb.Migrations{Name: Name, Unit: Name, FS: files}
}

// Status is where a resource stands in its life (DL-12).
type Status string

// Statuses. CREATING lasts until the tree knows the resource.
const (
	Creating        Status = "CREATING"
	Active          Status = "ACTIVE"
	PendingDeletion Status = "PENDING_DELETION"
	Deleting        Status = "DELETING"
)

// Resource is an organization, a cloud or a folder.
type Resource struct {
	ID          string
	Kind        *kind
	ParentID    string // "" for an organization
	Name        string
	Title       string // organizations only
	Description string
	Labels      map[string]string
	Status      Status
	CreatedBy   string // id of the subject
	CreatedAt   time.Time
	DeleteAfter time.Time // while PENDING_DELETION
	Operation   string    // the one that makes or deletes it; "" while ACTIVE
}

// position is where r stands in a list.
func (r Resource) position() page.Position {
	return page.Position{Time: sqldb.Micros(r.CreatedAt), ID: r.ID}
}

// Store is the table of resources. Methods that take a Querier read from a
// transaction or, outside of one, what is committed.
type Store struct{ db *sqldb.DB }

// constraints maps what a statement may break to the refusal.
var constraints = map[string]func(r Resource) error{
	"resourcemanager_resources_parent_id_name_key": func(r Resource) error { return errNameTaken(r.Name) },
	sqldb.ForeignKey: func(r Resource) error { return errNotFound(r.Kind.parent, r.ParentID) },
}

func refuse(err error, r Resource) error {
	if f := constraints[sqldb.ConstraintName(err)]; f != nil {
		return f(r)
	}
	return err
}

// Insert adds a resource. Fails: FOLDER_NAME_TAKEN (NM-3), <PARENT>_NOT_FOUND.
func (s *Store) Insert(ctx context.Context, tx *sql.Tx, r Resource) error {
	labels, err := encodeLabels(r.Labels)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO resourcemanager_resources
			(id, kind, parent_id, name, title, description, labels, status, created_by, created_at, delete_after, operation)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		r.ID, r.Kind.name, sql.NullString{String: r.ParentID, Valid: r.ParentID != ""}, r.Name, r.Title, r.Description, labels,
		string(r.Status), r.CreatedBy, sqldb.Micros(r.CreatedAt), sqldb.Micros(r.DeleteAfter), r.Operation)
	if err != nil {
		return fmt.Errorf("insert %s: %w", r.Kind.name, refuse(err, r))
	}
	return nil
}

// Update writes what may change: name, title, description, labels, status,
// delete_after and operation. Fails: FOLDER_NAME_TAKEN (NM-3).
func (s *Store) Update(ctx context.Context, tx *sql.Tx, r Resource) error {
	labels, err := encodeLabels(r.Labels)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE resourcemanager_resources
		SET name = $2, title = $3, description = $4, labels = $5, status = $6, delete_after = $7, operation = $8
		WHERE id = $1`,
		r.ID, r.Name, r.Title, r.Description, labels, string(r.Status), sqldb.Micros(r.DeleteAfter), r.Operation)
	if err != nil {
		return fmt.Errorf("update %s: %w", r.Kind.name, refuse(err, r))
	}
	return nil
}

const columns = `id, kind, parent_id, name, title, description, labels, status, created_by, created_at, delete_after, operation`

// Get reads a resource. Fails: <KIND>_NOT_FOUND.
func (s *Store) Get(ctx context.Context, q sqldb.Querier, k *kind, resourceID string) (Resource, error) {
	return s.get(ctx, q, k, resourceID, "")
}

// Lock is Get that keeps other transactions from changing the resource until this
// one ends. A parent is locked before its child.
func (s *Store) Lock(ctx context.Context, tx *sql.Tx, k *kind, resourceID string) (Resource, error) {
	return s.get(ctx, tx, k, resourceID, s.db.ForUpdate())
}

func (s *Store) get(ctx context.Context, q sqldb.Querier, k *kind, resourceID, suffix string) (Resource, error) {
	row := q.QueryRowContext(ctx, `
		SELECT `+columns+` FROM resourcemanager_resources WHERE id = $1 AND kind = $2`+suffix, resourceID, k.name)
	r, err := scan(row.Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Resource{}, errNotFound(k, resourceID)
	}
	if err != nil {
		return Resource{}, fmt.Errorf("get %s %s: %w", k.name, resourceID, err)
	}
	return r, nil
}

// Query narrows a list. Kind is required, the rest is not.
type Query struct {
	Kind     *kind
	ParentID string
	Name     string
}

// List reads at most limit resources that follow after, oldest first: by
// created_at, then id.
func (s *Store) List(ctx context.Context, query Query, after page.Position, limit int) ([]Resource, error) {
	text := `SELECT ` + columns + ` FROM resourcemanager_resources WHERE kind = $1 AND (created_at, id) > ($2, $3)`
	args := []any{query.Kind.name, after.Time, after.ID, limit}
	if query.ParentID != "" {
		args = append(args, query.ParentID)
		text += fmt.Sprintf(` AND parent_id = $%d`, len(args))
	}
	if query.Name != "" {
		args = append(args, query.Name)
		text += fmt.Sprintf(` AND name = $%d`, len(args))
	}
	all, err := s.read(ctx, s.db, text+` ORDER BY created_at, id LIMIT $4`, args...)
	if err != nil {
		return nil, fmt.Errorf("list %ss: %w", query.Kind.name, err)
	}
	return all, nil
}

// Below reads everything below a resource, in no order; at most two levels, as the
// tree has three.
func (s *Store) Below(ctx context.Context, tx *sql.Tx, resourceID string) ([]Resource, error) {
	all, err := s.read(ctx, tx, `
		SELECT `+columns+` FROM resourcemanager_resources
		WHERE parent_id = $1 OR parent_id IN (SELECT id FROM resourcemanager_resources WHERE parent_id = $1)`, resourceID)
	if err != nil {
		return nil, fmt.Errorf("list below %s: %w", resourceID, err)
	}
	return all, nil
}

// Delete removes a resource with everything below it and their quotas; one that is not there
// changes nothing.
func (s *Store) Delete(ctx context.Context, tx *sql.Tx, resourceID string) error {
	const gone = ` WHERE resource_id = $1
		OR resource_id IN (SELECT id FROM resourcemanager_resources WHERE parent_id = $1)
		OR resource_id IN (SELECT id FROM resourcemanager_resources
			WHERE parent_id IN (SELECT id FROM resourcemanager_resources WHERE parent_id = $1))`
	for _, statement := range []string{
		`DELETE FROM resourcemanager_quota_limits` + gone,
		`DELETE FROM resourcemanager_quota_requests` + gone,
		`DELETE FROM resourcemanager_resources
		 WHERE parent_id IN (SELECT id FROM resourcemanager_resources WHERE parent_id = $1)`,
		`DELETE FROM resourcemanager_resources WHERE parent_id = $1`,
		`DELETE FROM resourcemanager_resources WHERE id = $1`,
	} {
		if _, err := tx.ExecContext(ctx, statement, resourceID); err != nil {
			return fmt.Errorf("delete %s: %w", resourceID, err)
		}
	}
	return nil
}

// CountIn counts the resources of a kind in a parent, whatever their status: each
// counts against the quota until it is gone.
func (s *Store) CountIn(ctx context.Context, q sqldb.Querier, k *kind, parentID string) (int64, error) {
	return s.count(ctx, q, `SELECT COUNT(*) FROM resourcemanager_resources WHERE parent_id = $1 AND kind = $2`, parentID, k.name)
}

// CountStaying counts the clouds of an organization that are not being deleted,
// now or later.
func (s *Store) CountStaying(ctx context.Context, q sqldb.Querier, organizationID string) (int64, error) {
	return s.count(ctx, q, `
		SELECT COUNT(*) FROM resourcemanager_resources WHERE parent_id = $1 AND status IN ($2, $3)`,
		organizationID, string(Creating), string(Active))
}

// CountOrganizationsOf counts the organizations that a subject has made.
func (s *Store) CountOrganizationsOf(ctx context.Context, q sqldb.Querier, subjectID string) (int64, error) {
	return s.count(ctx, q, `SELECT COUNT(*) FROM resourcemanager_resources WHERE created_by = $1 AND kind = $2`,
		subjectID, organization.name)
}

// HasCloudIn reports whether an organization has a cloud (CR-3).
func (s *Store) HasCloudIn(ctx context.Context, q sqldb.Querier, organizationID string) (bool, error) {
	n, err := s.CountIn(ctx, q, cloud, organizationID)
	return n > 0, err
}

// Founded reads the organizations that a subject has made and that have a cloud
// (CR-3).
func (s *Store) Founded(ctx context.Context, q sqldb.Querier, subjectID string) ([]Resource, error) {
	all, err := s.read(ctx, q, `
		SELECT `+columns+` FROM resourcemanager_resources o
		WHERE created_by = $1 AND kind = $2
			AND EXISTS (SELECT 1 FROM resourcemanager_resources c WHERE c.parent_id = o.id)`,
		subjectID, organization.name)
	if err != nil {
		return nil, fmt.Errorf("list organizations of %s: %w", subjectID, err)
	}
	return all, nil
}

// Names reads the names of resources of any kind by their ids. Those that are not
// there are left out.
func (s *Store) Names(ctx context.Context, q sqldb.Querier, ids []string) (map[string]string, error) {
	names := make(map[string]string, len(ids))
	if len(ids) == 0 {
		return names, nil
	}
	marks, args := make([]string, len(ids)), make([]any, len(ids))
	for i, resourceID := range ids {
		marks[i], args[i] = "$"+strconv.Itoa(i+1), resourceID
	}
	found, err := s.read(ctx, q, `SELECT `+columns+` FROM resourcemanager_resources WHERE id IN (`+strings.Join(marks, ", ")+`)`, args...)
	if err != nil {
		return nil, fmt.Errorf("read names: %w", err)
	}
	for _, r := range found {
		names[r.ID] = r.Name
	}
	return names, nil
}

func (s *Store) count(ctx context.Context, q sqldb.Querier, query string, args ...any) (n int64, err error) {
	if err := q.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count resources: %w", err)
	}
	return n, nil
}

func (s *Store) read(ctx context.Context, q sqldb.Querier, query string, args ...any) ([]Resource, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var all []Resource
	for rows.Next() {
		r, err := scan(rows.Scan)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

func scan(scan func(...any) error) (Resource, error) {
	var (
		r                    Resource
		kindName             string
		parent               sql.NullString
		labels               string
		created, deleteAfter int64
	)
	err := scan(&r.ID, &kindName, &parent, &r.Name, &r.Title, &r.Description, &labels, &r.Status, &r.CreatedBy,
		&created, &deleteAfter, &r.Operation)
	if err != nil {
		return Resource{}, err
	}
	r.Kind, r.ParentID = kinds[kindName], parent.String
	r.CreatedAt, r.DeleteAfter = sqldb.Time(created), sqldb.Time(deleteAfter)
	if err := json.Unmarshal([]byte(labels), &r.Labels); err != nil {
		return Resource{}, fmt.Errorf("read labels of %s: %w", r.ID, err)
	}
	return r, nil
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
