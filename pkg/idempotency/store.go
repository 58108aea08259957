package idempotency

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Kept is how long a key is kept from its write on.
const Kept = 24 * time.Hour

//go:embed migrations
var files embed.FS

// Migrations makes the table <unit>_idempotency.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_idempotency", Unit: unit, FS: files}
}

// Store is the keys of the writes of one unit.
type Store struct {
	db   *sqldb.DB
	unit string
	now  func() time.Time
}

// NewStore returns the store of a unit.
func NewStore(db *sqldb.DB, unit string, now func() time.Time) *Store {
	return &Store{db: db, unit: unit, now: now}
}

// Operation runs a write whose answer is an operation, within its transaction:
// first of all, before any lock is taken and any rule asked. write returns the id
// of the operation that it made. When the key of ctx has been used for the same
// request, write is not run, and the id is that of the operation made then (again).
// Without a key it just runs. Fails: IDEMPOTENCY_KEY_REUSED, and as write does;
// then the transaction must be rolled back.
func (s *Store) Operation(ctx context.Context, tx *sql.Tx, write func() (string, error)) (opID string, again bool, err error) {
	k := FromContext(ctx)
	if k == nil {
		opID, err = write()
		return opID, false, err
	}
	earlier, err := s.claim(ctx, tx, k)
	if err != nil {
		return "", false, err
	}
	if earlier != nil {
		return earlier.operation, true, nil
	}
	if opID, err = write(); err != nil {
		return "", false, err
	}
	return opID, false, s.fill(ctx, tx, k, opID, nil)
}

// Answer runs a write whose answer is a message, as Operation does for operations.
// write fills in answer, which is kept sealed; a replay gets it filled in the same.
func (s *Store) Answer(ctx context.Context, tx *sql.Tx, answer proto.Message, write func() error) (again bool, err error) {
	k := FromContext(ctx)
	if k == nil {
		return false, write()
	}
	earlier, err := s.claim(ctx, tx, k)
	if err != nil {
		return false, err
	}
	if earlier != nil {
		return true, k.open(earlier.answer, answer)
	}
	if err := write(); err != nil {
		return false, err
	}
	sealed, err := k.seal(answer)
	if err != nil {
		return false, err
	}
	return false, s.fill(ctx, tx, k, "", sealed)
}

// Answered fills in the answer that was made by the key and the request of ctx, and
// reports whether there is one: for a write that needs work before its transaction,
// which Answer judges again. Fails: IDEMPOTENCY_KEY_REUSED.
func (s *Store) Answered(ctx context.Context, answer proto.Message) (bool, error) {
	k := FromContext(ctx)
	if k == nil {
		return false, nil
	}
	earlier, err := s.row(ctx, s.db, k, s.horizon())
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, k.open(earlier.answer, answer)
}

// Forget drops the key of ctx, in the transaction that takes its write back.
func (s *Store) Forget(ctx context.Context, tx *sql.Tx) error {
	k := FromContext(ctx)
	if k == nil {
		return nil
	}
	if _, err := tx.ExecContext(ctx, s.sql(`DELETE FROM {{unit}}_idempotency WHERE ref = $1`), k.ref[:]); err != nil {
		return fmt.Errorf("forget idempotency key: %w", err)
	}
	return nil
}

// Find returns the operation that was made by the key and the request of ctx, ""
// when there is none.
func (s *Store) Find(ctx context.Context) (opID string, err error) {
	k := FromContext(ctx)
	if k == nil {
		return "", nil
	}
	err = s.db.QueryRowContext(ctx, s.sql(`
		SELECT operation FROM {{unit}}_idempotency WHERE ref = $1 AND request = $2 AND created_at > $3`),
		k.ref[:], k.request[:], s.horizon()).Scan(&opID)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return "", fmt.Errorf("find idempotency key: %w", err)
	}
	return opID, nil
}

// Earlier adds to a batch what finds the operations that were made by some keys, and
// puts them into found: for a unit all of whose writes with keys take one lock first.
// A key that has made nothing is absent.
func (s *Store) Earlier(b *sqldb.Batch, keys []*Key, found map[*Key]Earlier) {
	of := make(map[Ref][]*Key, len(keys))
	refs := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Blobs}}
	for _, k := range keys {
		of[k.ref] = append(of[k.ref], k)
		refs.Add(k.ref[:])
	}
	horizon := s.horizon()
	b.QueryRows(func(row sqldb.Scanner) error {
		var ref, request []byte
		var e Earlier
		var at int64
		if err := row.Scan(&ref, &request, &e.Operation, &at); err != nil {
			return fmt.Errorf("read idempotency keys: %w", err)
		}
		for _, k := range of[Ref(ref)] {
			if at <= horizon {
				continue
			}
			e.Err = nil
			if string(request) != string(k.request[:]) {
				e.Err = errReused
			}
			found[k] = e
		}
		return nil
	}, s.sql(`SELECT ref, request, operation, created_at FROM {{unit}}_idempotency WHERE ref IN (`), refs, `)`)
}

// Earlier is what a key was used for before.
type Earlier struct {
	Operation string // its id
	Err       error  // IDEMPOTENCY_KEY_REUSED when the request was another one
}

// Made is keys and the operations that they have made.
type Made struct{ list []made }

type made struct {
	key       *Key
	operation string
}

// Add notes what a key has made; nil is no key.
func (m *Made) Add(k *Key, opID string) {
	if k != nil {
		m.list = append(m.list, made{k, opID})
	}
}

// Keep stores what keys have made, of which Earlier has found nothing under the same
// lock.
func (s *Store) Keep(b *sqldb.Batch, m *Made) {
	rows := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Blobs, sqldb.Blobs, sqldb.Texts, sqldb.Blobs, sqldb.Ints}}
	now := sqldb.Micros(s.now())
	for _, one := range m.list {
		rows.Add(one.key.ref[:], one.key.request[:], one.operation, []byte(nil), now)
	}
	b.ExecRows(s.sql(`INSERT INTO {{unit}}_idempotency (ref, request, operation, answer, created_at)`), rows, `
		ON CONFLICT (ref) DO UPDATE
		SET request = excluded.request, operation = excluded.operation, answer = NULL, created_at = excluded.created_at`)
}

// row is what is kept of a write.
type row struct {
	request   []byte
	operation string
	answer    []byte
}

// claim makes the row of a key, or returns the one that is there. Another
// transaction that has claimed the same key is waited for.
func (s *Store) claim(ctx context.Context, tx *sql.Tx, k *Key) (*row, error) {
	res, err := tx.ExecContext(ctx, s.sql(`
		INSERT INTO {{unit}}_idempotency (ref, request, operation, answer, created_at) VALUES ($1, $2, '', NULL, $3)
		ON CONFLICT (ref) DO UPDATE
		SET request = excluded.request, operation = '', answer = NULL, created_at = excluded.created_at
		WHERE {{unit}}_idempotency.created_at <= $4`),
		k.ref[:], k.request[:], sqldb.Micros(s.now()), s.horizon())
	if err != nil {
		return nil, fmt.Errorf("claim idempotency key: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return nil, err
	}
	return s.row(ctx, tx, k, 0)
}

// row reads what is kept of a key that was claimed after a time. Fails: sql.ErrNoRows,
// IDEMPOTENCY_KEY_REUSED.
func (s *Store) row(ctx context.Context, q sqldb.Querier, k *Key, after int64) (*row, error) {
	earlier := new(row)
	err := q.QueryRowContext(ctx, s.sql(`
		SELECT request, operation, answer FROM {{unit}}_idempotency WHERE ref = $1 AND created_at > $2`), k.ref[:], after).
		Scan(&earlier.request, &earlier.operation, &earlier.answer)
	if err != nil {
		return nil, fmt.Errorf("read idempotency key: %w", err)
	}
	if string(earlier.request) != string(k.request[:]) {
		return nil, errReused
	}
	return earlier, nil
}

// fill completes a claimed row with what the write answers.
func (s *Store) fill(ctx context.Context, tx *sql.Tx, k *Key, opID string, sealed []byte) error {
	_, err := tx.ExecContext(ctx, s.sql(`UPDATE {{unit}}_idempotency SET operation = $2, answer = $3 WHERE ref = $1`), k.ref[:], opID, sealed)
	if err != nil {
		return fmt.Errorf("fill idempotency key: %w", err)
	}
	return nil
}

// horizon is the time at and before which keys count no more.
func (s *Store) horizon() int64 { return sqldb.Micros(s.now().Add(-Kept)) }

func (s *Store) sql(query string) string { return strings.ReplaceAll(query, "{{unit}}", s.unit) }
