package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"iter"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// load fills a graph with one moment of the store, row by row, and returns it.
func (s *store) load(ctx context.Context, c *catalog.Catalog) (g *graph, err error) {
	err = sqldb.Snapshot(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
		h, err := s.head(ctx, tx, false)
		if err != nil {
			return err
		}
		g = newGraph(c, h.line)
		g.writeID = h.WriteID
		return g.strand.Load().Load(h.Revision, s.facts(ctx, tx, c))
	})
	if err != nil {
		return nil, fmt.Errorf("load the graph: %w", err)
	}
	return g, nil
}

// facts reads all deciding facts, in no order that matters. It ends with the first
// error. Rows are read and decoded while the caller takes those before them.
func (s *store) facts(ctx context.Context, q sqldb.Querier, c *catalog.Catalog) iter.Seq2[checker.Change, error] {
	return ahead(s.rows(ctx, q, c))
}

// Facts that are read ahead: at most so many batches of so many.
const (
	aheadBatches = 4
	aheadBatch   = 1024
)

// ahead goes through a sequence in a goroutine of its own, some batches ahead of its
// caller. It has ended when the returned sequence ends.
func ahead(of iter.Seq2[checker.Change, error]) iter.Seq2[checker.Change, error] {
	return func(yield func(checker.Change, error) bool) {
		batches, enough := make(chan []checker.Change, aheadBatches), make(chan struct{})
		var failure error
		go func() {
			defer close(batches)
			batch := make([]checker.Change, 0, aheadBatch)
			for c, err := range of {
				if err != nil {
					failure = err
					break
				}
				if batch = append(batch, c); len(batch) < aheadBatch {
					continue
				}
				select {
				case batches <- batch:
					batch = make([]checker.Change, 0, aheadBatch)
				case <-enough:
					return
				}
			}
			select {
			case batches <- batch:
			case <-enough:
			}
		}()
		defer func() {
			close(enough)
			for range batches { // until the goroutine has ended
			}
		}()
		for batch := range batches {
			for _, c := range batch {
				if !yield(c, nil) {
					return
				}
			}
		}
		if failure != nil {
			yield(nil, failure)
		}
	}
}

// rows reads all deciding facts, row by row.
func (s *store) rows(ctx context.Context, q sqldb.Querier, c *catalog.Catalog) iter.Seq2[checker.Change, error] {
	return func(yield func(checker.Change, error) bool) {
		for _, read := range []func(context.Context, sqldb.Querier, func(checker.Change) error) error{
			s.resourceFacts, s.subjectFacts, s.memberFacts, s.bindingFacts, s.policyFacts(c), s.payerFacts(c), s.tokenFacts,
		} {
			err := read(ctx, q, func(c checker.Change) error {
				if !yield(c, nil) {
					return errEnough
				}
				return nil
			})
			if errors.Is(err, errEnough) {
				return
			}
			if err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// errEnough says that the reader of facts wants no more.
var errEnough = errors.New("no more facts are wanted")

func (s *store) resourceFacts(ctx context.Context, q sqldb.Querier, put func(checker.Change) error) error {
	var r, parent checker.Resource
	var removed int64
	return each(ctx, q, "resources", `SELECT type, id, parent_type, parent_id, removed FROM access_resources`,
		[]any{&r.Type, &r.ID, &parent.Type, &parent.ID, &removed}, func() error {
			if removed > 0 {
				return put(checker.Remove{Resource: r})
			}
			return put(checker.Place{Resource: r, Parent: parent})
		})
}

func (s *store) subjectFacts(ctx context.Context, q sqldb.Querier, put func(checker.Change) error) error {
	var who checker.Subject
	var state State
	var end int64
	return each(ctx, q, "subjects", `SELECT type, id, state, expires_at FROM access_subjects`,
		[]any{&who.Type, &who.ID, &state, &end}, func() error {
			return put(checker.SetSubject{Subject: who, State: stateFact(state), Until: end})
		})
}

func (s *store) memberFacts(ctx context.Context, q sqldb.Querier, put func(checker.Change) error) error {
	var container checker.Resource
	var who checker.Subject
	return each(ctx, q, "members", `SELECT container_type, container_id, subject_type, subject_id FROM access_members`,
		[]any{&container.Type, &container.ID, &who.Type, &who.ID}, func() error {
			return put(checker.Join{Container: container, Subject: who})
		})
}

// bindingFacts folds the sources of each pair: an end of 0 is later than any.
func (s *store) bindingFacts(ctx context.Context, q sqldb.Querier, put func(checker.Change) error) error {
	var b checker.Bind
	return each(ctx, q, "bindings", `
		SELECT resource_type, resource_id, role_id, subject_type, subject_id,
			CASE WHEN MIN(expires_at) = 0 THEN 0 ELSE MAX(expires_at) END
		FROM access_bindings
		GROUP BY resource_type, resource_id, role_id, subject_type, subject_id`,
		[]any{&b.Resource.Type, &b.Resource.ID, &b.Role, &b.Subject.Type, &b.Subject.ID, &b.Until}, func() error {
			return put(b)
		})
}

func (s *store) tokenFacts(ctx context.Context, q sqldb.Querier, put func(checker.Change) error) error {
	var id []byte
	var end int64
	return each(ctx, q, "revoked tokens", `SELECT token_id, expires_at FROM access_revoked_tokens`,
		[]any{&id, &end}, func() error {
			if len(id) != len(checker.TokenID{}) {
				return fmt.Errorf("a token id of %d bytes", len(id))
			}
			return put(checker.Revoke{Token: checker.TokenID(id), Until: end})
		})
}

// each scans every row of a query into dest and calls put.
func each(ctx context.Context, q sqldb.Querier, what, query string, dest []any, put func() error) (err error) {
	rows, err := q.QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return fmt.Errorf("read %s: %w", what, err)
		}
		if err := put(); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}
