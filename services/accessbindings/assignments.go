package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// tally is what one write adds to the number of pairs of organizations (AB-13): by
// the resource while it stands where it is, and by organization for what was
// removed or moved since. A count is read once for each resource of a write, not
// for each pair.
type tally struct {
	resources     map[Ref]int64
	organizations map[string]int64
}

func newTally() *tally {
	return &tally{resources: make(map[Ref]int64), organizations: make(map[string]int64)}
}

// countAssignments reads how many pairs an organization has, with all below it.
func (s *store) countAssignments(ctx context.Context, q sqldb.Querier, organization string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT pairs FROM access_assignments WHERE organization_id = $1`, organization).Scan(&n)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return 0, fmt.Errorf("count assignments: %w", err)
	}
	return n, nil
}

// settle gives what was added on resources to the organizations above them.
func (s *store) settle(ctx context.Context, tx *sql.Tx, t *tally) error {
	for r, n := range t.resources {
		if n == 0 {
			continue
		}
		path, err := s.path(ctx, tx, r)
		if err != nil {
			return err
		}
		t.organizations[organizationOf(path)] += n
	}
	clear(t.resources)
	return nil
}

// close stores what a write has added.
func (s *store) close(ctx context.Context, tx *sql.Tx, t *tally) error {
	if err := s.settle(ctx, tx, t); err != nil {
		return err
	}
	for organization, n := range t.organizations {
		if organization == "" || n == 0 {
			continue
		}
		_, err := tx.ExecContext(ctx, `
			INSERT INTO access_assignments (organization_id, pairs) VALUES ($1, $2)
			ON CONFLICT (organization_id) DO UPDATE SET pairs = access_assignments.pairs + excluded.pairs`, organization, n)
		if err != nil {
			return fmt.Errorf("count assignments: %w", err)
		}
	}
	return nil
}

// uncount takes away the pairs on a resource that is about to be removed.
func (s *store) uncount(ctx context.Context, tx *sql.Tx, t *tally, r Ref) error {
	path, err := s.path(ctx, tx, r)
	if err != nil {
		return err
	}
	n, err := s.countPairs(ctx, tx, r)
	if err != nil {
		return err
	}
	t.organizations[organizationOf(path)] += t.resources[r] - n
	delete(t.resources, r)
	if r.Type != typeOrganization {
		return nil
	}
	delete(t.organizations, r.ID) // nothing is left of it
	_, err = tx.ExecContext(ctx, `DELETE FROM access_assignments WHERE organization_id = $1`, r.ID)
	return err
}

// recount takes the pairs of a tree that is moved by move along to its new
// organization.
func (s *store) recount(ctx context.Context, tx *sql.Tx, t *tally, r Ref, move func() error) error {
	if err := s.settle(ctx, tx, t); err != nil {
		return err
	}
	before, err := s.path(ctx, tx, r)
	if err != nil {
		return err
	}
	if err := move(); err != nil {
		return err
	}
	after, err := s.path(ctx, tx, r)
	if err != nil || organizationOf(before) == organizationOf(after) {
		return err
	}
	tree, err := s.subtree(ctx, tx, r)
	if err != nil {
		return err
	}
	for _, b := range tree {
		n, err := s.countPairs(ctx, tx, b.Ref)
		if err != nil {
			return err
		}
		t.organizations[organizationOf(before)] -= n
		t.organizations[organizationOf(after)] += n
	}
	return nil
}

// countPairs counts the pairs on a resource itself.
func (s *store) countPairs(ctx context.Context, q sqldb.Querier, r Ref) (n int64, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT COUNT(DISTINCT number) FROM access_bindings WHERE resource_type = $1 AND resource_id = $2`, r.Type, r.ID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count pairs: %w", err)
	}
	return n, nil
}

// uncountHeld takes away the pairs of a subject that is about to be deleted.
func (s *store) uncountHeld(ctx context.Context, tx *sql.Tx, t *tally, who Subject) error {
	holdings, err := s.heldBy(ctx, tx, who)
	for _, h := range holdings {
		t.resources[h.On]--
	}
	return err
}
