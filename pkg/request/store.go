package request

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables <unit>_requests and _request_votes.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_requests", Unit: unit, FS: files}
}

// Store is the requests of one unit. Methods that take a Querier read from a
// transaction or, outside of one, what is committed.
type Store struct {
	db   *sqldb.DB
	unit string
}

// NewStore returns the store of a unit.
func NewStore(db *sqldb.DB, unit string) *Store { return &Store{db: db, unit: unit} }

const columns = `id, thing_type, thing_id, requester_type, requester_id, reason, state, steps, step, created_at, pending_until, lasts, ends_at,
	decided_by, decided_at, decision, plea_by, plea_at, plea, ended_by, ended_at, end_reason, settled, body,
	aspect, scope, decided_by_type`

// Insert adds a request. Fails: REQUEST_EXISTS.
func (s *Store) Insert(ctx context.Context, tx *sql.Tx, r Request) error {
	steps, err := json.Marshal(r.Steps)
	if err != nil {
		return fmt.Errorf("insert request: %w", err)
	}
	res, err := tx.ExecContext(ctx, s.sql(`
		INSERT INTO {{unit}}_requests (`+columns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27)
		ON CONFLICT DO NOTHING`),
		r.ID, r.Thing.Type, r.Thing.ID, r.Requester.Type, r.Requester.ID, r.Reason, string(r.State), string(steps), r.Step,
		sqldb.Micros(r.CreatedAt), sqldb.Micros(r.PendingUntil), r.Lasts.Microseconds(), sqldb.Micros(r.EndsAt),
		r.DecidedBy.ID, sqldb.Micros(r.DecidedAt), r.Decision, r.PleaBy, sqldb.Micros(r.PleaAt), r.Plea,
		r.EndedBy, sqldb.Micros(r.EndedAt), r.EndReason, r.Settled, append([]byte{}, r.Body...),
		r.Aspect, r.Scope, r.DecidedBy.Type)
	if err != nil {
		return fmt.Errorf("insert request: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return fmt.Errorf("insert request: %w", err)
	} else if n == 0 {
		return errExists
	}
	return nil
}

// Update adds to a batch what writes what can change of a request, which the caller has
// locked.
func (s *Store) Update(b *sqldb.Batch, r Request) {
	b.Exec(s.sql(`
		UPDATE {{unit}}_requests
		SET state = $2, step = $3, ends_at = $4, decided_by = $5, decided_at = $6, decision = $7, plea_by = $8, plea_at = $9, plea = $10,
			ended_by = $11, ended_at = $12, end_reason = $13, settled = $14, decided_by_type = $15
		WHERE id = $1`),
		r.ID, string(r.State), r.Step, sqldb.Micros(r.EndsAt), r.DecidedBy.ID, sqldb.Micros(r.DecidedAt), r.Decision,
		r.PleaBy, sqldb.Micros(r.PleaAt), r.Plea, r.EndedBy, sqldb.Micros(r.EndedAt), r.EndReason, r.Settled, r.DecidedBy.Type)
}

// Get reads a request. Fails: REQUEST_NOT_FOUND.
func (s *Store) Get(ctx context.Context, q sqldb.Querier, requestID string) (Request, error) {
	return s.one(ctx, q, `WHERE id = $1`, requestID)
}

// Lock is Get that keeps other transactions from changing it. Fails: REQUEST_NOT_FOUND.
func (s *Store) Lock(ctx context.Context, tx *sql.Tx, requestID string) (r Request, err error) {
	found := false
	var b sqldb.Batch // in which BEGIN travels with it
	b.Query(func(row sqldb.Scanner) (err error) {
		found = true
		r, err = scan(row.Scan)
		return err
	}, s.sql(`SELECT `+columns+` FROM {{unit}}_requests WHERE id = $1`+s.db.ForUpdate()), requestID)
	if err := b.Run(ctx, s.db, tx); err != nil {
		return Request{}, fmt.Errorf("read request: %w", err)
	}
	if !found {
		return Request{}, errNotFound
	}
	return r, nil
}

// Live reads the live request of a subject for an aspect of a thing. Fails:
// REQUEST_NOT_FOUND.
func (s *Store) Live(ctx context.Context, q sqldb.Querier, thing Ref, aspect string, requester Ref) (Request, error) {
	return s.one(ctx, q, `
		WHERE thing_type = $1 AND thing_id = $2 AND aspect = $3 AND requester_type = $4 AND requester_id = $5 AND state IN ('PENDING', 'APPROVED')`,
		thing.Type, thing.ID, aspect, requester.Type, requester.ID)
}

// CountPending counts the pending requests of a subject.
func (s *Store) CountPending(ctx context.Context, q sqldb.Querier, requester Ref, now time.Time) (n int, err error) {
	err = q.QueryRowContext(ctx, s.sql(`
		SELECT COUNT(*) FROM {{unit}}_requests
		WHERE requester_type = $1 AND requester_id = $2 AND state = 'PENDING' AND (pending_until = 0 OR pending_until > $3)`),
		requester.Type, requester.ID, sqldb.Micros(now)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count requests: %w", err)
	}
	return n, nil
}

func (s *Store) one(ctx context.Context, q sqldb.Querier, where string, args ...any) (Request, error) {
	r, err := scan(q.QueryRowContext(ctx, s.sql(`SELECT `+columns+` FROM {{unit}}_requests `+where), args...).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Request{}, errNotFound
	}
	if err != nil {
		return Request{}, fmt.Errorf("read request: %w", err)
	}
	return r, nil
}

// Query narrows a list. Zero fields narrow nothing.
type Query struct {
	Thing     Ref
	Requester Ref
	Scope     string
	State     State     // as of Now
	Now       time.Time // required beside State
	Pleaded   bool      // only those that somebody asked to revoke
	Oldest    bool      // oldest first; newest first else
}

// List reads at most limit requests that follow after.
func (s *Store) List(ctx context.Context, q sqldb.Querier, query Query, after page.Position, limit int) ([]Request, error) {
	text, args := `WHERE 0 = 0`, []any{limit}
	and := func(condition string, values ...any) {
		marks := make([]any, len(values))
		for i := range values {
			marks[i] = len(args) + 1 + i
		}
		args = append(args, values...)
		text += " AND " + fmt.Sprintf(condition, marks...)
	}
	if query.Thing != (Ref{}) {
		and(`thing_type = $%d AND thing_id = $%d`, query.Thing.Type, query.Thing.ID)
	}
	if query.Requester != (Ref{}) {
		and(`requester_type = $%d AND requester_id = $%d`, query.Requester.Type, query.Requester.ID)
	}
	if query.Scope != "" {
		and(`scope = $%d AND scope <> ''`, query.Scope)
	}
	now := sqldb.Micros(query.Now)
	switch query.State {
	case "":
	case Pending:
		and(`state = 'PENDING' AND (pending_until = 0 OR pending_until > $%d)`, now)
	case Approved:
		and(`state = 'APPROVED' AND (ends_at = 0 OR ends_at > $%d)`, now)
	case Expired:
		and(`(state = 'EXPIRED' OR state = 'PENDING' AND pending_until > 0 AND pending_until <= $%d OR state = 'APPROVED' AND ends_at > 0 AND ends_at <= $%d)`, now, now)
	default:
		and(`state = $%d`, string(query.State))
	}
	if query.Pleaded {
		text += ` AND plea_at > 0 AND state = 'APPROVED'`
	}
	order, beyond := `created_at DESC, id DESC`, `<`
	if query.Oldest {
		order, beyond = `created_at, id`, `>`
	}
	if after != (page.Position{}) {
		and(`(created_at, id) `+beyond+` ($%d, $%d)`, after.Time, after.ID)
	}
	return s.many(ctx, q, text+` ORDER BY `+order+` LIMIT $1`, args...)
}

// Over reads at most limit requests whose time is over and that stand as if it were
// not.
func (s *Store) Over(ctx context.Context, q sqldb.Querier, now time.Time, limit int) ([]Request, error) {
	return s.many(ctx, q, `
		WHERE state = 'PENDING' AND pending_until > 0 AND pending_until <= $1 OR state = 'APPROVED' AND ends_at > 0 AND ends_at <= $1
		LIMIT $2`, sqldb.Micros(now), limit)
}

// LiveAfter reads at most limit live requests of any thing whose ids are above one, in
// the order of ids: for walks over all of them.
func (s *Store) LiveAfter(ctx context.Context, q sqldb.Querier, after string, limit int) ([]Request, error) {
	return s.many(ctx, q, `WHERE state IN ('PENDING', 'APPROVED') AND id > $1 ORDER BY id LIMIT $2`, after, limit)
}

func (s *Store) many(ctx context.Context, q sqldb.Querier, where string, args ...any) (all []Request, err error) {
	rows, err := q.QueryContext(ctx, s.sql(`SELECT `+columns+` FROM {{unit}}_requests `+where), args...)
	if err != nil {
		return nil, fmt.Errorf("list requests: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		r, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list requests: %w", err)
		}
		all = append(all, r)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list requests: %w", err)
	}
	return all, nil
}

func scan(scan func(...any) error) (Request, error) {
	var r Request
	var steps string
	var created, until, lasts, ends, decided, plea, ended int64
	err := scan(&r.ID, &r.Thing.Type, &r.Thing.ID, &r.Requester.Type, &r.Requester.ID, &r.Reason, &r.State, &steps, &r.Step,
		&created, &until, &lasts, &ends, &r.DecidedBy.ID, &decided, &r.Decision, &r.PleaBy, &plea, &r.Plea,
		&r.EndedBy, &ended, &r.EndReason, &r.Settled, &r.Body, &r.Aspect, &r.Scope, &r.DecidedBy.Type)
	if err != nil {
		return Request{}, err
	}
	r.CreatedAt, r.PendingUntil, r.EndsAt = sqldb.Time(created), sqldb.Time(until), sqldb.Time(ends)
	r.DecidedAt, r.PleaAt, r.EndedAt = sqldb.Time(decided), sqldb.Time(plea), sqldb.Time(ended)
	r.Lasts = time.Duration(lasts) * time.Microsecond
	return r, json.Unmarshal([]byte(steps), &r.Steps)
}

// vote notes that somebody approves at a step, and returns how many have by now;
// again says that they had approved before, at whichever step.
func (s *Store) vote(ctx context.Context, tx *sql.Tx, r Request, voter string, at time.Time) (n int, again bool, err error) {
	res, err := tx.ExecContext(ctx, s.sql(`
		INSERT INTO {{unit}}_request_votes (request_id, voter, step, voted_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`),
		r.ID, voter, r.Step, sqldb.Micros(at))
	if err != nil {
		return 0, false, fmt.Errorf("vote: %w", err)
	}
	voted, err := res.RowsAffected()
	if err != nil {
		return 0, false, fmt.Errorf("vote: %w", err)
	}
	err = tx.QueryRowContext(ctx, s.sql(`SELECT COUNT(*) FROM {{unit}}_request_votes WHERE request_id = $1 AND step = $2`), r.ID, r.Step).Scan(&n)
	if err != nil {
		return 0, false, fmt.Errorf("count votes: %w", err)
	}
	return n, voted == 0, nil
}

func (s *Store) sql(query string) string { return strings.ReplaceAll(query, "{{unit}}", s.unit) }
