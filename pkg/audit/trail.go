package audit

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Trail reads the records of one unit, and removes them when they are too old.
type Trail struct {
	db   *sqldb.DB
	unit string
}

// NewTrail returns the trail of a unit that has the table of Migrations.
func NewTrail(db *sqldb.DB, unit string) *Trail { return &Trail{db: db, unit: unit} }

// Kept reports whether a unit with these migrations keeps records.
func Kept(unit string, migrations []sqldb.Migrations) bool {
	return slices.ContainsFunc(migrations, func(m sqldb.Migrations) bool { return m.Name == Migrations(unit).Name })
}

// Query narrows a trail. The zero Query is everything.
type Query struct {
	On        Resource // a record is about each step of its path; Name is not looked at
	SubjectID string
	Types     []string  // full types of events, any of them
	From      time.Time // inclusive
	To        time.Time // exclusive
}

// Entry is one record as it is stored.
type Entry struct {
	ID   string
	Time time.Time
	Text string // JSON of a Record
}

// Position is where e stands in a list.
func (e Entry) Position() page.Position {
	return page.Position{Time: sqldb.Micros(e.Time), ID: e.ID}
}

// List reads at most limit records that follow after, newest first: by time, then
// id, both descending. The zero Position begins at the newest.
func (t *Trail) List(ctx context.Context, query Query, after page.Position, limit int) ([]Entry, error) {
	var args []any
	arg := func(v any) string {
		args = append(args, v)
		return fmt.Sprintf("$%d", len(args))
	}
	var where []string
	from := `{{unit}}_audit x`
	if query.On != (Resource{}) {
		from = `{{unit}}_audit_resources x JOIN {{unit}}_audit a ON a.id = x.id`
		where = append(where, `x.resource_type = `+arg(query.On.Type), `x.resource_id = `+arg(query.On.ID))
	}
	if query.SubjectID != "" {
		where = append(where, `x.subject_id = `+arg(query.SubjectID))
	}
	if len(query.Types) > 0 {
		var types []string
		for _, typ := range query.Types {
			types = append(types, arg(typ))
		}
		where = append(where, `x.event_type IN (`+strings.Join(types, ", ")+`)`)
	}
	if !query.From.IsZero() {
		where = append(where, `x.event_time >= `+arg(sqldb.Micros(query.From)))
	}
	if !query.To.IsZero() {
		where = append(where, `x.event_time < `+arg(sqldb.Micros(query.To)))
	}
	if after != (page.Position{}) {
		where = append(where, `(x.event_time, x.id) < (`+arg(after.Time)+`, `+arg(after.ID)+`)`)
	}
	text := `SELECT x.id, x.event_time, record FROM ` + from
	if len(where) > 0 {
		text += ` WHERE ` + strings.Join(where, ` AND `)
	}
	return t.read(ctx, text+` ORDER BY x.event_time DESC, x.id DESC LIMIT `+arg(limit), args)
}

func (t *Trail) read(ctx context.Context, text string, args []any) ([]Entry, error) {
	rows, err := t.db.QueryContext(ctx, t.sql(text), args...)
	if err != nil {
		return nil, fmt.Errorf("list audit records: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var all []Entry
	for rows.Next() {
		var e Entry
		var at int64
		if err := rows.Scan(&e.ID, &at, &e.Text); err != nil {
			return nil, fmt.Errorf("list audit records: %w", err)
		}
		e.Time = sqldb.Time(at)
		all = append(all, e)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list audit records: %w", err)
	}
	return all, nil
}

// sweepBatch is how many rows one transaction removes.
const sweepBatch = 1000

// Sweep removes the records before a time and returns how many there were. It does
// so in small transactions, so that it may be interrupted and does not stand in the
// way of writes.
func (t *Trail) Sweep(ctx context.Context, before time.Time) (removed int64, err error) {
	for _, text := range []string{
		`DELETE FROM {{unit}}_audit_resources WHERE (resource_type, resource_id, event_time, id) IN (
			SELECT resource_type, resource_id, event_time, id FROM {{unit}}_audit_resources WHERE event_time < $1 LIMIT $2)`,
		`DELETE FROM {{unit}}_audit WHERE number IN (SELECT number FROM {{unit}}_audit WHERE event_time < $1 LIMIT $2)`,
	} {
		removed = 0
		for {
			var n int64
			err := sqldb.InTx(ctx, t.db, func(ctx context.Context, tx *sql.Tx) error {
				res, err := tx.ExecContext(ctx, t.sql(text), sqldb.Micros(before), sweepBatch)
				if err == nil {
					n, err = res.RowsAffected()
				}
				return err
			})
			if err != nil {
				return removed, fmt.Errorf("remove old audit records: %w", err)
			}
			if removed += n; n < sweepBatch {
				break
			}
		}
	}
	return removed, nil
}

func (t *Trail) sql(text string) string { return strings.ReplaceAll(text, "{{unit}}", t.unit) }
