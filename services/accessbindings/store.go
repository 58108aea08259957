package accessbindings

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

//go:embed migrations
var migrations embed.FS

// Migrations makes the tables of the deciding facts.
func Migrations() sqldb.Migrations {
	return sqldb.Migrations{Name: Name, Unit: Name, FS: migrations}
}

// store reads the deciding facts. Each method takes what it reads from, a
// database or the transaction of a write. Nothing is cached.
type store struct{ db *sqldb.DB }

// EpochTable holds the head of the unit's store in one row, columns revision and
// epoch.
const EpochTable = "access_revision"

// head is the newest revision, the write that made it, and the line of the store that
// it belongs to. A restored backup continues in another epoch.
type head struct {
	line
	Revision int64
	WriteID  string // "" for one from before it was kept
	Timeline string // of the database, in which the line is
	Now      string // the one in which the database is
}

// headQuery reads the head, for head.scan.
func (s *store) headQuery() string {
	return `SELECT revision, epoch, line, write_id, timeline, ` + s.db.Timeline() + ` FROM access_revision WHERE one = 1`
}

func (h *head) scan(row sqldb.Scanner) error {
	return row.Scan(&h.Revision, &h.Epoch, &h.Number, &h.WriteID, &h.Timeline, &h.Now)
}

// head reads the head; lock keeps every other write out until the transaction ends.
func (s *store) head(ctx context.Context, q sqldb.Querier, lock bool) (head, error) {
	query := s.headQuery()
	if lock {
		query += s.db.ForUpdate()
	}
	var h head
	if err := h.scan(q.QueryRowContext(ctx, query)); err != nil {
		return head{}, fmt.Errorf("read revision: %w", err)
	}
	return h, nil
}

// node is a resource in the tree. Removed ones are tombstones.
type node struct {
	Parent  Ref // zero for a root
	Removed bool
}

// node reads a resource; found is false for one that never was.
func (s *store) node(ctx context.Context, q sqldb.Querier, r Ref) (n node, found bool, err error) {
	var removed int64
	err = q.QueryRowContext(ctx, `
		SELECT parent_type, parent_id, removed FROM access_resources WHERE type = $1 AND id = $2`, r.Type, r.ID).
		Scan(&n.Parent.Type, &n.Parent.ID, &removed)
	if errors.Is(err, sql.ErrNoRows) {
		return node{}, false, nil
	}
	if err != nil {
		return node{}, false, fmt.Errorf("read resource: %w", err)
	}
	n.Removed = removed > 0
	return n, true, nil
}

// maxDepth bounds every walk over the tree, so that no damage to it can turn one
// into a loop.
const maxDepth = 64

// path reads the way from a resource to the root of its tree: itself first. It is
// empty for a resource that is unknown or removed.
func (s *store) path(ctx context.Context, q sqldb.Querier, r Ref) ([]Ref, error) {
	var path []Ref
	for r != (Ref{}) {
		n, found, err := s.node(ctx, q, r)
		if err != nil {
			return nil, err
		}
		if !found || n.Removed {
			return nil, nil
		}
		path = append(path, r)
		if len(path) > maxDepth {
			return nil, fmt.Errorf("read path of %s %s: over %d levels", r.Type, r.ID, maxDepth)
		}
		r = n.Parent
	}
	return path, nil
}

// below is a resource of a subtree and how far it stands below the top.
type below struct {
	Ref
	Depth int
}

// subtree reads a resource and all below it, parents before children.
func (s *store) subtree(ctx context.Context, q sqldb.Querier, r Ref) ([]below, error) {
	rows, err := q.QueryContext(ctx, `
		WITH RECURSIVE below (type, id, depth) AS (
			SELECT type, id, 0 FROM access_resources WHERE type = $1 AND id = $2 AND removed = 0
			UNION ALL
			SELECT r.type, r.id, b.depth + 1
			FROM access_resources r JOIN below b ON r.parent_type = b.type AND r.parent_id = b.id
			WHERE r.removed = 0 AND b.depth < $3
		)
		SELECT type, id, depth FROM below ORDER BY depth, type, id`, r.Type, r.ID, maxDepth)
	if err != nil {
		return nil, fmt.Errorf("read subtree: %w", err)
	}
	return collect(rows, "read subtree", func() (b below, err error) {
		return b, rows.Scan(&b.Type, &b.ID, &b.Depth)
	})
}

// removal is a removed resource and the revision at which it was.
type removal struct {
	ID       string
	Revision int64
}

// removedAfter reads at most limit removed resources of a type that follow a place,
// in the order of revision and id.
func (s *store) removedAfter(ctx context.Context, q sqldb.Querier, typ string, revision int64, id string, limit int) ([]removal, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT id, removed FROM access_resources
		WHERE type = $1 AND removed > 0 AND (removed, id) > ($2, $3)
		ORDER BY removed, id LIMIT $4`, typ, revision, id, limit)
	if err != nil {
		return nil, fmt.Errorf("read removed resources: %w", err)
	}
	return collect(rows, "read removed resources", func() (r removal, err error) {
		return r, rows.Scan(&r.ID, &r.Revision)
	})
}

// bindingColumns are those of scanBindings.
const bindingColumns = `role_id, subject_type, subject_id, source_kind, source_id, expires_at, number`

// bindingsOn reads the pairs on a resource that have one of the roles, or all of
// them when roles is nil, in the order of listings.
func (s *store) bindingsOn(ctx context.Context, q sqldb.Querier, r Ref, roles []string) ([]Binding, error) {
	query := `SELECT ` + bindingColumns + ` FROM access_bindings WHERE resource_type = $1 AND resource_id = $2`
	args := []any{r.Type, r.ID}
	if roles != nil {
		query += ` AND role_id IN ` + placeholders(len(roles), len(args))
		for _, role := range roles {
			args = append(args, role)
		}
	}
	return s.scanBindings(ctx, q, query+` ORDER BY number, source_kind, source_id`, args...)
}

// pageOn reads at most limit pairs on a resource that are in force at a time and
// whose number is above after, in the order of listings. changeable leaves out those
// that only grant policies keep in force.
func (s *store) pageOn(ctx context.Context, q sqldb.Querier, r Ref, after, now int64, limit int, changeable bool) ([]Binding, error) {
	hidden := accessv1.Source_KIND_UNSPECIFIED // no row has it
	if changeable {
		hidden = accessv1.Source_POLICY
	}
	return s.scanBindings(ctx, q, `
		SELECT `+bindingColumns+`
		FROM access_bindings
		WHERE resource_type = $1 AND resource_id = $2 AND number IN (
			SELECT DISTINCT number FROM access_bindings
			WHERE resource_type = $1 AND resource_id = $2 AND number > $3 AND (expires_at = 0 OR expires_at > $4) AND source_kind <> $6
			ORDER BY number LIMIT $5
		)
		ORDER BY number, source_kind, source_id`, r.Type, r.ID, after, now, limit, int64(hidden))
}

// scanBindings folds rows that are ordered by pair into bindings.
func (s *store) scanBindings(ctx context.Context, q sqldb.Querier, query string, args ...any) ([]Binding, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read bindings: %w", err)
	}
	flat, err := collect(rows, "read bindings", func() (b Binding, err error) {
		var src Source
		err = rows.Scan(&b.Role, &b.Subject.Type, &b.Subject.ID, &src.Kind, &src.ID, &src.End, &b.Number)
		b.Sources = []Source{src}
		return b, err
	})
	if err != nil {
		return nil, err
	}
	var folded []Binding
	for _, b := range flat {
		if last := len(folded) - 1; last >= 0 && folded[last].Number == b.Number {
			folded[last].Sources = append(folded[last].Sources, b.Sources...)
			continue
		}
		folded = append(folded, b)
	}
	return folded, nil
}

// held is a pair with the resource it is on.
type held struct {
	On   Ref
	Role string
}

// heldBy reads where a subject holds what, in no order that matters.
func (s *store) heldBy(ctx context.Context, q sqldb.Querier, who Subject) ([]held, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT DISTINCT resource_type, resource_id, role_id FROM access_bindings
		WHERE subject_type = $1 AND subject_id = $2
		ORDER BY resource_type, resource_id, role_id`, who.Type, who.ID)
	if err != nil {
		return nil, fmt.Errorf("read bindings of subject: %w", err)
	}
	return collect(rows, "read bindings of subject", func() (h held, err error) {
		return h, rows.Scan(&h.On.Type, &h.On.ID, &h.Role)
	})
}

// states reads the states of subjects; those that nobody made known are absent.
func (s *store) states(ctx context.Context, q sqldb.Querier, subjects []Subject) (map[Subject]State, error) {
	found := make(map[Subject]State, len(subjects))
	for some := range slices.Chunk(subjects, subjectBatch) {
		values, args := pairsOf(some, 0)
		rows, err := q.QueryContext(ctx, `SELECT type, id, state FROM access_subjects WHERE (type, id) IN (VALUES `+values+`)`, args...)
		if err != nil {
			return nil, fmt.Errorf("read subjects: %w", err)
		}
		_, err = collect(rows, "read subjects", func() (struct{}, error) {
			var who Subject
			var state State
			err := rows.Scan(&who.Type, &who.ID, &state)
			found[who] = state
			return struct{}{}, err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

// expired reads the resources and roles of at most limit pairs that have a source
// which ended by a time.
func (s *store) expired(ctx context.Context, q sqldb.Querier, by int64, limit int) ([]held, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT DISTINCT resource_type, resource_id, role_id FROM access_bindings
		WHERE expires_at > 0 AND expires_at <= $1
		ORDER BY resource_type, resource_id, role_id LIMIT $2`, by, limit)
	if err != nil {
		return nil, fmt.Errorf("read expired bindings: %w", err)
	}
	return collect(rows, "read expired bindings", func() (h held, err error) {
		return h, rows.Scan(&h.On.Type, &h.On.ID, &h.Role)
	})
}

// revoked reports whether a token was revoked.
func (s *store) revoked(ctx context.Context, q sqldb.Querier, tokenID []byte) (bool, error) {
	var n int64
	err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM access_revoked_tokens WHERE token_id = $1`, tokenID).Scan(&n)
	if err != nil {
		return false, fmt.Errorf("read revoked token: %w", err)
	}
	return n > 0, nil
}

// checkText refuses what PostgreSQL cannot store, as a fault of the field.
func checkText(field string, texts ...string) error {
	if err := sqldb.CheckText(texts...); err != nil {
		return apierr.InvalidField(field, "must be valid UTF-8 without NUL")
	}
	return nil
}

// placeholders returns ($<from+1>, …) for n values.
func placeholders(n, from int) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = "$" + strconv.Itoa(from+i+1)
	}
	return "(" + strings.Join(parts, ", ") + ")"
}

// collect scans every row with scan and closes rows.
func collect[T any](rows *sql.Rows, what string, scan func() (T, error)) (all []T, err error) {
	defer func() {
		if cerr := rows.Close(); cerr != nil && err == nil {
			err = fmt.Errorf("%s: %w", what, cerr)
		}
	}()
	for rows.Next() {
		row, err := scan()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return all, nil
}
