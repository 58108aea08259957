package operation

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/revision"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the table <unit>_operations.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_operations", Unit: unit, FS: files}
}

// ReasonNotFound is the reason for an operation that nobody made, or that the
// caller may not see.
const ReasonNotFound = "OPERATION_NOT_FOUND"

// Store is the operations of one unit.
type Store struct {
	db     *sqldb.DB
	unit   string
	prefix string
	now    func() time.Time
	cancel Canceler
}

// Canceler takes back an operation that is not done, after it has checked that the
// caller of ctx may, and returns what has become of the operation.
type Canceler func(ctx context.Context, op Operation) (Operation, error)

// OnCancel sets what OperationService.Cancel does with the operations of the
// unit. Without it they cannot be cancelled. It is called before the store serves.
func (s *Store) OnCancel(cancel Canceler) { s.cancel = cancel }

// NewStore returns the store of a unit, whose operations have ids of prefix.
func NewStore(db *sqldb.DB, unit, prefix string, now func() time.Time) *Store {
	return &Store{db: db, unit: unit, prefix: prefix, now: now}
}

// Prefix returns the prefix of the ids.
func (s *Store) Prefix() string { return s.prefix }

// Insert makes an operation in the transaction of the change it stands for. With
// a Response it is done.
func (s *Store) Insert(ctx context.Context, tx *sql.Tx, n New) (Operation, error) {
	op, values, err := s.noted(ctx, n)
	if err != nil {
		return Operation{}, err
	}
	if _, err := tx.ExecContext(ctx, s.sql(insertOne), values...); err != nil {
		return Operation{}, fmt.Errorf("insert operation: %w", err)
	}
	return op, nil
}

// InsertIn adds to a batch what Insert does.
func (s *Store) InsertIn(ctx context.Context, b *sqldb.Batch, n New) (Operation, error) {
	op, values, err := s.noted(ctx, n)
	if err == nil {
		b.Exec(s.sql(insertOne), values...)
	}
	return op, err
}

// noted is make for an operation that tells the revision that ctx has noted.
func (s *Store) noted(ctx context.Context, n New) (Operation, []any, error) {
	if r, ok := revision.Noted(ctx); ok && n.Metadata != nil {
		revision.Tell(n.Metadata, r)
	}
	return s.make(n)
}

const insertOne = insert + ` VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`

const insert = `
	INSERT INTO {{unit}}_operations
		(id, resource_type, resource_id, view_type, view_id, view_permission, description, created_by, created_at, modified_at, done,
		metadata, response)`

// inserted are the columns of insert.
var inserted = []sqldb.Type{
	sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Ints, sqldb.Ints, sqldb.Bools,
	sqldb.Blobs, sqldb.Blobs,
}

// Made are operations of several changes that one transaction makes.
type Made struct{ rows sqldb.Rows }

// Make makes an operation as Insert does, to be stored with others by Store.
func (s *Store) Make(all *Made, n New) (Operation, error) {
	op, values, err := s.make(n)
	if err == nil {
		all.rows.Add(values...)
	}
	return op, err
}

// Store adds to a batch what stores operations.
func (s *Store) Store(b *sqldb.Batch, all *Made) {
	all.rows.Columns = inserted
	b.ExecRows(s.sql(insert), &all.rows, ``)
}

// make is a new operation, and its values for insert.
func (s *Store) make(n New) (Operation, []any, error) {
	now := sqldb.Time(sqldb.Micros(s.now())) // as it will be read back
	op := Operation{
		ID: id.New(s.prefix), Resource: n.Resource, ViewPermission: n.ViewPermission, Description: n.Description,
		ViewOn: n.ViewOn, CreatedBy: n.CreatedBy, CreatedAt: now, ModifiedAt: now, Done: n.Response != nil,
	}
	var err, rerr error
	op.Metadata, err = pack(n.Metadata)
	op.Response, rerr = pack(n.Response)
	if err := errors.Join(err, rerr); err != nil {
		return Operation{}, nil, fmt.Errorf("insert operation: %w", err)
	}
	if op.Metadata == nil {
		return Operation{}, nil, errors.New("insert operation: it has no metadata")
	}
	metadata, response, err := marshal(op.Metadata, op.Response)
	if err != nil {
		return Operation{}, nil, fmt.Errorf("insert operation: %w", err)
	}
	values := []any{
		op.ID, op.Resource.Type, op.Resource.ID, op.ViewOn.Type, op.ViewOn.ID, op.ViewPermission, op.Description, op.CreatedBy,
		sqldb.Micros(now), sqldb.Micros(now), op.Done, metadata, response,
	}
	op.viewed()
	return op, values, nil
}

// Finish makes an operation done with a response. Metadata other than nil takes
// the place of the old, and tells the revision that ctx has noted, if it can. An
// operation that is done already stays as it is, so that a repeated job does no harm.
func (s *Store) Finish(ctx context.Context, tx *sql.Tx, opID string, metadata, response proto.Message) error {
	return s.end(ctx, tx, nil, opID, metadata, response, nil)
}

// FinishIn adds to a batch what Finish does; it reads what it needs by tx.
func (s *Store) FinishIn(ctx context.Context, tx *sql.Tx, b *sqldb.Batch, opID string, metadata, response proto.Message) error {
	return s.end(ctx, tx, b, opID, metadata, response, nil)
}

// Fail makes an operation done with an error, as its edge would show it. An
// operation that is done already stays as it is.
func (s *Store) Fail(ctx context.Context, tx *sql.Tx, opID string, metadata proto.Message, cause error) error {
	return s.end(ctx, tx, nil, opID, metadata, nil, apierr.Edge(cause, "").Proto())
}

// end writes how an operation ended: by a batch, or at once without one.
func (s *Store) end(ctx context.Context, tx *sql.Tx, b *sqldb.Batch, opID string, metadata, response proto.Message, failure *spb.Status) error {
	metadata, err := s.told(ctx, tx, opID, metadata)
	if err != nil {
		return err
	}
	meta, err := pack(metadata)
	resp, rerr := pack(response)
	if err := errors.Join(err, rerr); err != nil {
		return fmt.Errorf("end operation %s: %w", opID, err)
	}
	metaBytes, respBytes, err := marshal(meta, resp)
	if err != nil {
		return fmt.Errorf("end operation %s: %w", opID, err)
	}
	var failBytes []byte
	if failure != nil {
		if failBytes, err = proto.Marshal(failure); err != nil {
			return fmt.Errorf("end operation %s: %w", opID, err)
		}
	}
	query := s.sql(`
		UPDATE {{unit}}_operations
		SET done = TRUE, modified_at = $2, metadata = COALESCE($3, metadata), response = $4, error = $5
		WHERE id = $1 AND NOT done`)
	args := []any{opID, sqldb.Micros(s.now()), metaBytes, respBytes, failBytes}
	if b != nil {
		b.Exec(query, args...)
		return nil
	}
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("end operation %s: %w", opID, err)
	}
	return nil
}

// told is the metadata with which an operation ends, nil for what it has: with the
// revision that its work has come to, when it did and there is a place for it.
func (s *Store) told(ctx context.Context, tx *sql.Tx, opID string, metadata proto.Message) (proto.Message, error) {
	r, ok := revision.Noted(ctx)
	if !ok {
		return metadata, nil
	}
	if metadata == nil {
		op, err := s.GetIn(ctx, tx, opID)
		if err != nil {
			return nil, err
		}
		if metadata, err = op.Metadata.UnmarshalNew(); err != nil {
			return nil, fmt.Errorf("metadata of operation %s: %w", opID, err)
		}
	}
	revision.Tell(metadata, r)
	return metadata, nil
}

const columns = `id, resource_type, resource_id, view_type, view_id, view_permission, description, created_by, created_at, modified_at, done,
	metadata, error, response`

// Get returns an operation; OPERATION_NOT_FOUND when there is none.
func (s *Store) Get(ctx context.Context, opID string) (Operation, error) {
	return s.GetIn(ctx, s.db, opID)
}

// GetIn is Get within a transaction.
func (s *Store) GetIn(ctx context.Context, q sqldb.Querier, opID string) (Operation, error) {
	op, err := scan(q.QueryRowContext(ctx, s.sql(`SELECT `+columns+` FROM {{unit}}_operations WHERE id = $1`), opID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Operation{}, NotFound(opID)
	}
	if err != nil {
		return Operation{}, fmt.Errorf("get operation %s: %w", opID, err)
	}
	return op, nil
}

// NotFound is the refusal for an unknown operation.
func NotFound(opID string) error {
	return apierr.NotFound(ReasonNotFound, "operation %s not found", opID)
}

// List returns at most limit operations on a resource that follow after, newest
// first: by created_at, then id, both descending. The zero Position begins at the
// newest.
func (s *Store) List(ctx context.Context, r Resource, after page.Position, limit int) ([]Operation, error) {
	query := `SELECT ` + columns + ` FROM {{unit}}_operations WHERE resource_type = $1 AND resource_id = $2`
	args := []any{r.Type, r.ID, limit}
	if after != (page.Position{}) {
		query += ` AND (created_at, id) < ($4, $5)`
		args = append(args, after.Time, after.ID)
	}
	rows, err := s.db.QueryContext(ctx, s.sql(query+` ORDER BY created_at DESC, id DESC LIMIT $3`), args...)
	if err != nil {
		return nil, fmt.Errorf("list operations: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var ops []Operation
	for rows.Next() {
		op, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list operations: %w", err)
		}
		ops = append(ops, op)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list operations: %w", err)
	}
	return ops, nil
}

// viewed completes where an operation is viewed: on what it works on, unless said
// otherwise.
func (o *Operation) viewed() {
	if o.ViewOn == (Resource{}) {
		o.ViewOn = o.Resource
	}
}

// Position returns where an operation stands in List.
func (o Operation) Position() page.Position {
	return page.Position{Time: sqldb.Micros(o.CreatedAt), ID: o.ID}
}

func (s *Store) sql(query string) string { return strings.ReplaceAll(query, "{{unit}}", s.unit) }

func scan(scan func(...any) error) (Operation, error) {
	var (
		op                          Operation
		created, modified           int64
		metadata, failure, response []byte
	)
	err := scan(&op.ID, &op.Resource.Type, &op.Resource.ID, &op.ViewOn.Type, &op.ViewOn.ID, &op.ViewPermission, &op.Description, &op.CreatedBy,
		&created, &modified, &op.Done, &metadata, &failure, &response)
	if err != nil {
		return Operation{}, err
	}
	op.viewed()
	op.CreatedAt, op.ModifiedAt = sqldb.Time(created), sqldb.Time(modified)
	if metadata != nil {
		op.Metadata = new(anypb.Any)
		err = errors.Join(err, proto.Unmarshal(metadata, op.Metadata))
	}
	if failure != nil {
		op.Error = new(spb.Status)
		err = errors.Join(err, proto.Unmarshal(failure, op.Error))
	}
	if response != nil {
		op.Response = new(anypb.Any)
		err = errors.Join(err, proto.Unmarshal(response, op.Response))
	}
	return op, err
}

// marshal encodes two Any messages; nil stays nil, which is stored as NULL.
func marshal(a, b *anypb.Any) (ab, bb []byte, err error) {
	var aerr, berr error
	if a != nil {
		ab, aerr = proto.Marshal(a)
	}
	if b != nil {
		bb, berr = proto.Marshal(b)
	}
	return ab, bb, errors.Join(aerr, berr)
}
