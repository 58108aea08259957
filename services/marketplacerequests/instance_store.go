package marketplacerequests

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// InstanceState is where an installed product stands.
type InstanceState string

// States of installed products.
const (
	Creating InstanceState = "CREATING"
	Active   InstanceState = "ACTIVE"
	Inactive InstanceState = "INACTIVE"
	Deleting InstanceState = "DELETING" // shown as it was: its removal is under way
)

// Instance is an installed product.
type Instance struct {
	ID        string
	FolderID  string
	ProductID string
	Name      string
	State     InstanceState
	CreatedBy string
	CreatedAt time.Time
}

func (i Instance) position() page.Position {
	return page.Position{Time: sqldb.Micros(i.CreatedAt), ID: i.ID}
}

const instanceColumns = `id, folder_id, product_id, name, state, created_by, created_at`

// InsertInstance adds an installed product. Fails: PRODUCT_INSTANCE_NAME_TAKEN.
func (s *Store) InsertInstance(ctx context.Context, tx *sql.Tx, i Instance) error {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO marketplacerequests_instances (`+instanceColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING`,
		i.ID, i.FolderID, i.ProductID, i.Name, string(i.State), i.CreatedBy, sqldb.Micros(i.CreatedAt))
	return inserted(res, err, "insert installed product", errInstanceNameTaken)
}

// UpdateInstance writes what can change. Fails: PRODUCT_INSTANCE_NAME_TAKEN.
func (s *Store) UpdateInstance(ctx context.Context, tx *sql.Tx, i Instance) error {
	_, err := tx.ExecContext(ctx, `UPDATE marketplacerequests_instances SET name = $2, state = $3 WHERE id = $1`, i.ID, i.Name, string(i.State))
	if sqldb.ConstraintName(err) == "marketplacerequests_instances_folder_id_name_key" {
		return errInstanceNameTaken
	}
	if err != nil {
		return fmt.Errorf("update installed product: %w", err)
	}
	return nil
}

// DeleteInstances removes installed products; those that are gone are no matter.
func (s *Store) DeleteInstances(ctx context.Context, tx *sql.Tx, ids ...string) error {
	for _, instanceID := range ids {
		if _, err := tx.ExecContext(ctx, `DELETE FROM marketplacerequests_instances WHERE id = $1`, instanceID); err != nil {
			return fmt.Errorf("delete installed product: %w", err)
		}
	}
	return nil
}

// Instance reads an installed product. Fails: PRODUCT_INSTANCE_NOT_FOUND.
func (s *Store) Instance(ctx context.Context, q sqldb.Querier, instanceID string) (Instance, error) {
	return s.instance(ctx, q, instanceID, "")
}

// LockInstance is Instance that keeps other transactions from changing it.
func (s *Store) LockInstance(ctx context.Context, tx *sql.Tx, instanceID string) (Instance, error) {
	return s.instance(ctx, tx, instanceID, s.db.ForUpdate())
}

func (s *Store) instance(ctx context.Context, q sqldb.Querier, instanceID, suffix string) (Instance, error) {
	all, err := read(ctx, q, "read installed product", scanInstance,
		`SELECT `+instanceColumns+` FROM marketplacerequests_instances WHERE id = $1`+suffix, instanceID)
	if err == nil && len(all) == 0 {
		err = errInstanceNotFound
	}
	if err != nil {
		return Instance{}, err
	}
	return all[0], nil
}

// Instances reads at most limit products installed in a folder that follow after,
// newest first; column and value narrow the list where column is not empty.
func (s *Store) Instances(ctx context.Context, q sqldb.Querier, folderID, column, value string, after page.Position, limit int) ([]Instance, error) {
	if after == (page.Position{}) {
		after = newest
	}
	where, args := `folder_id = $1 AND (created_at, id) < ($2, $3)`, []any{folderID, after.Time, after.ID, limit}
	switch column {
	case "name":
		where, args = where+` AND name = $5`, append(args, value)
	case "product_id":
		where, args = where+` AND product_id = $5`, append(args, value)
	}
	return read(ctx, q, "list installed products", scanInstance,
		`SELECT `+instanceColumns+` FROM marketplacerequests_instances WHERE `+where+` ORDER BY created_at DESC, id DESC LIMIT $4`, args...)
}

func scanInstance(scan func(...any) error) (i Instance, err error) {
	var created int64
	err = scan(&i.ID, &i.FolderID, &i.ProductID, &i.Name, &i.State, &i.CreatedBy, &created)
	i.CreatedAt = sqldb.Time(created)
	return i, err
}

// removalPlace is how far the removals of a type were followed; zero from the first.
type removalPlace struct {
	epoch, revision int64
	id              string
}

// RemovalPlace reads how far the removals of a type were followed.
func (s *Store) RemovalPlace(ctx context.Context, q sqldb.Querier, typ string) (p removalPlace, err error) {
	err = q.QueryRowContext(ctx, `SELECT epoch, revision, id FROM marketplacerequests_removals WHERE type = $1`, typ).Scan(&p.epoch, &p.revision, &p.id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, fmt.Errorf("read place: %w", err)
	}
	return p, nil
}

// SetRemovalPlace notes how far the removals of a type were followed.
func (s *Store) SetRemovalPlace(ctx context.Context, tx *sql.Tx, typ string, p removalPlace) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO marketplacerequests_removals (type, epoch, revision, id) VALUES ($1, $2, $3, $4)
		ON CONFLICT (type) DO UPDATE SET epoch = excluded.epoch, revision = excluded.revision, id = excluded.id`, typ, p.epoch, p.revision, p.id)
	if err != nil {
		return fmt.Errorf("note place: %w", err)
	}
	return nil
}
