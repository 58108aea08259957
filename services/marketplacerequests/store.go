package marketplacerequests

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables of the unit.
func Migrations() sqldb.Migrations {
	return sqldb.Migrations{Name: Name, Unit: Name, FS: files}
}

// Store is publishers, products and installed products. Methods that take a Querier
// read from a transaction or, outside of one, what is committed.
type Store struct{ db *sqldb.DB }

// Publisher is the profile of a partner.
type Publisher struct {
	ID               string
	BillingAccountID string
	Name             string
	Description      string
	Placed           bool // the tree has it
	Leaving          bool // it is being deleted
	CreatedBy        string
	CreatedAt        time.Time
}

func (p Publisher) position() page.Position {
	return page.Position{Time: sqldb.Micros(p.CreatedAt), ID: p.ID}
}

// Access is who may install a product (MR-1).
type Access string

// Access types.
const (
	Public    Access = "PUBLIC"
	OnRequest Access = "ON_REQUEST"
)

// State is where a product stands (MR-3).
type State string

// States of products.
const (
	Draft    State = "DRAFT"
	InReview State = "IN_REVIEW"
	Approved State = "APPROVED"
	Rejected State = "REJECTED"
	Archived State = "ARCHIVED"
)

// Product is what a publisher offers.
type Product struct {
	ID          string
	PublisherID string
	Slug        string
	Type        string
	Names       map[string]string // by language
	Description string
	Access      Access
	State       State
	Review      string
	Opened      int64 // number of the grant by which everybody has access; 0 for none
	Openings    int64
	Placed      bool // the tree has it
	CreatedBy   string
	CreatedAt   time.Time
}

func (p Product) position() page.Position {
	return page.Position{Time: sqldb.Micros(p.CreatedAt), ID: p.ID}
}

const publisherColumns = `id, billing_account_id, name, description, placed, leaving, created_by, created_at`

// InsertPublisher adds a publisher. Fails: PUBLISHER_EXISTS.
func (s *Store) InsertPublisher(ctx context.Context, tx *sql.Tx, p Publisher) error {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO marketplacerequests_publishers (`+publisherColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		p.ID, p.BillingAccountID, p.Name, p.Description, p.Placed, p.Leaving, p.CreatedBy, sqldb.Micros(p.CreatedAt))
	return inserted(res, err, "insert publisher", errPublisherExists)
}

// inserted tells an insertion that met a conflict.
func inserted(res sql.Result, err error, what string, conflict error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	switch n, err := res.RowsAffected(); {
	case err != nil:
		return fmt.Errorf("%s: %w", what, err)
	case n == 0:
		return conflict
	}
	return nil
}

// UpdatePublisher writes what can change of a publisher.
func (s *Store) UpdatePublisher(ctx context.Context, tx *sql.Tx, p Publisher) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE marketplacerequests_publishers SET name = $2, description = $3, placed = $4, leaving = $5 WHERE id = $1`,
		p.ID, p.Name, p.Description, p.Placed, p.Leaving)
	if err != nil {
		return fmt.Errorf("update publisher: %w", err)
	}
	return nil
}

// DeletePublisher removes a publisher and its products; their names in links stay
// taken.
func (s *Store) DeletePublisher(ctx context.Context, tx *sql.Tx, publisherID string) error {
	for _, query := range []string{
		`DELETE FROM marketplacerequests_products WHERE publisher_id = $1`, `DELETE FROM marketplacerequests_publishers WHERE id = $1`,
	} {
		if _, err := tx.ExecContext(ctx, query, publisherID); err != nil {
			return fmt.Errorf("delete publisher: %w", err)
		}
	}
	return nil
}

// Publisher reads a publisher. Fails: PUBLISHER_NOT_FOUND.
func (s *Store) Publisher(ctx context.Context, q sqldb.Querier, publisherID string) (Publisher, error) {
	return s.publisher(ctx, q, publisherID, "")
}

// LockPublisher is Publisher that keeps other transactions from changing it.
func (s *Store) LockPublisher(ctx context.Context, tx *sql.Tx, publisherID string) (Publisher, error) {
	return s.publisher(ctx, tx, publisherID, s.db.ForUpdate())
}

func (s *Store) publisher(ctx context.Context, q sqldb.Querier, publisherID, suffix string) (Publisher, error) {
	all, err := read(ctx, q, "read publisher", scanPublisher, `SELECT `+publisherColumns+` FROM marketplacerequests_publishers WHERE id = $1`+suffix, publisherID)
	if err == nil && len(all) == 0 {
		err = errPublisherNotFound
	}
	if err != nil {
		return Publisher{}, err
	}
	return all[0], nil
}

// Publishers reads at most limit publishers that follow after, newest first.
func (s *Store) Publishers(ctx context.Context, q sqldb.Querier, after page.Position, limit int) ([]Publisher, error) {
	if after == (page.Position{}) {
		after = newest
	}
	return read(ctx, q, "list publishers", scanPublisher, `
		SELECT `+publisherColumns+` FROM marketplacerequests_publishers WHERE (created_at, id) < ($1, $2)
		ORDER BY created_at DESC, id DESC LIMIT $3`, after.Time, after.ID, limit)
}

// newest stands before everything that a list shows newest first.
var newest = page.Position{Time: 1 << 62}

func scanPublisher(scan func(...any) error) (p Publisher, err error) {
	var created int64
	err = scan(&p.ID, &p.BillingAccountID, &p.Name, &p.Description, &p.Placed, &p.Leaving, &p.CreatedBy, &created)
	p.CreatedAt = sqldb.Time(created)
	return p, err
}

const productColumns = `id, publisher_id, slug, type, names, description, access, state, review, opened, openings, placed, created_by, created_at`

// InsertProduct adds a product and takes its name in links for good. Fails: SLUG_TAKEN.
func (s *Store) InsertProduct(ctx context.Context, tx *sql.Tx, p Product) error {
	res, err := tx.ExecContext(ctx, `INSERT INTO marketplacerequests_slugs (slug, product_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, p.Slug, p.ID)
	if err := inserted(res, err, "take name in links", errSlugTaken); err != nil {
		return err
	}
	names, err := json.Marshal(p.Names)
	if err != nil {
		return fmt.Errorf("insert product: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO marketplacerequests_products (`+productColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)`,
		p.ID, p.PublisherID, p.Slug, p.Type, string(names), p.Description, string(p.Access), string(p.State), p.Review,
		p.Opened, p.Openings, p.Placed, p.CreatedBy, sqldb.Micros(p.CreatedAt))
	if err != nil {
		return fmt.Errorf("insert product: %w", err)
	}
	return nil
}

// UpdateProduct writes what can change of a product, which the caller has locked.
func (s *Store) UpdateProduct(ctx context.Context, tx *sql.Tx, p Product) error {
	names, err := json.Marshal(p.Names)
	if err != nil {
		return fmt.Errorf("update product: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE marketplacerequests_products
		SET names = $2, description = $3, access = $4, state = $5, review = $6, opened = $7, openings = $8, placed = $9
		WHERE id = $1`,
		p.ID, string(names), p.Description, string(p.Access), string(p.State), p.Review, p.Opened, p.Openings, p.Placed)
	if err != nil {
		return fmt.Errorf("update product: %w", err)
	}
	return nil
}

// DeleteProduct removes a product that never came to be; its name in links is free
// again.
func (s *Store) DeleteProduct(ctx context.Context, tx *sql.Tx, productID string) error {
	for _, query := range []string{
		`DELETE FROM marketplacerequests_products WHERE id = $1`, `DELETE FROM marketplacerequests_slugs WHERE product_id = $1`,
	} {
		if _, err := tx.ExecContext(ctx, query, productID); err != nil {
			return fmt.Errorf("delete product: %w", err)
		}
	}
	return nil
}

// Product reads a product. Fails: PRODUCT_NOT_FOUND.
func (s *Store) Product(ctx context.Context, q sqldb.Querier, productID string) (Product, error) {
	return s.product(ctx, q, `WHERE id = $1`, productID)
}

// LockProduct is Product that keeps other transactions from changing it.
func (s *Store) LockProduct(ctx context.Context, tx *sql.Tx, productID string) (Product, error) {
	return s.product(ctx, tx, `WHERE id = $1`+s.db.ForUpdate(), productID)
}

// ProductBySlug reads a product by its name in links. Fails: PRODUCT_NOT_FOUND.
func (s *Store) ProductBySlug(ctx context.Context, q sqldb.Querier, slug string) (Product, error) {
	return s.product(ctx, q, `WHERE id = (SELECT product_id FROM marketplacerequests_slugs WHERE slug = $1)`, slug)
}

func (s *Store) product(ctx context.Context, q sqldb.Querier, where string, args ...any) (Product, error) {
	all, err := read(ctx, q, "read product", scanProduct, `SELECT `+productColumns+` FROM marketplacerequests_products `+where, args...)
	if err == nil && len(all) == 0 {
		err = errProductNotFound
	}
	if err != nil {
		return Product{}, err
	}
	return all[0], nil
}

// ProductQuery narrows a list. Zero fields narrow nothing.
type ProductQuery struct {
	PublisherID string
	State       State
	Slug        string
}

// Products reads at most limit products that follow after, newest first.
func (s *Store) Products(ctx context.Context, q sqldb.Querier, query ProductQuery, after page.Position, limit int) ([]Product, error) {
	if after == (page.Position{}) {
		after = newest
	}
	where, args := `(created_at, id) < ($1, $2)`, []any{after.Time, after.ID, limit}
	for _, c := range []struct{ column, value string }{
		{"publisher_id", query.PublisherID}, {"state", string(query.State)}, {"slug", query.Slug},
	} {
		if c.value != "" {
			args = append(args, c.value)
			where += fmt.Sprintf(` AND %s = $%d`, c.column, len(args))
		}
	}
	return read(ctx, q, "list products", scanProduct,
		`SELECT `+productColumns+` FROM marketplacerequests_products WHERE `+where+` ORDER BY created_at DESC, id DESC LIMIT $3`, args...)
}

// Unarchived reports whether a publisher has a product that is not archived.
func (s *Store) Unarchived(ctx context.Context, q sqldb.Querier, publisherID string) (bool, error) {
	var one int
	err := q.QueryRowContext(ctx, `
		SELECT 1 FROM marketplacerequests_products WHERE publisher_id = $1 AND state <> $2 LIMIT 1`, publisherID, string(Archived)).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read products: %w", err)
	}
	return true, nil
}

func scanProduct(scan func(...any) error) (p Product, err error) {
	var names string
	var created int64
	err = scan(&p.ID, &p.PublisherID, &p.Slug, &p.Type, &names, &p.Description, &p.Access, &p.State, &p.Review, &p.Opened, &p.Openings, &p.Placed,
		&p.CreatedBy, &created)
	if err == nil {
		err = json.Unmarshal([]byte(names), &p.Names)
	}
	p.CreatedAt = sqldb.Time(created)
	return p, err
}

// read scans all rows of a query.
func read[T any](ctx context.Context, q sqldb.Querier, what string, scan func(func(...any) error) (T, error), query string, args ...any) (all []T, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		one, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return all, nil
}
