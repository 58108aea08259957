package accessbindings

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// state is what an intent is planned on: the store as it is locked, with what the
// writes before it in the same transaction change, and the graph of the revision that
// was locked, without that. What asks the graph must be an asker.
type state struct {
	*store
	tx       *sql.Tx
	graph    *graph
	draft    *draft
	line     line
	revision int64
	members  []string // the replicas that a write waits for
	now      int64    // microseconds
}

// take takes up what a write changes, as the next revision.
func (on *state) take(ctx context.Context, p plan, writeID string) error {
	on.revision++
	if len(p.changes) >= maxChanges {
		return errManyChanges(on.revision, len(p.changes))
	}
	if err := on.draft.enter(on.revision, writeID, on.now, p.changes); err != nil {
		return err
	}
	if drafted(p.changes) && !on.draft.beyond {
		for seq, c := range p.changes {
			if g := c.GetGrantEnded(); g != nil {
				on.draft.grants[g.GetId()], on.draft.ended = true, append(on.draft.ended, g.GetId())
				continue
			}
			if err := on.bind(ctx, on.revision*maxChanges+int64(seq), c.GetBindingChanged()); err != nil {
				return err
			}
		}
		return nil
	}
	if err := on.save(ctx); err != nil {
		return err
	}
	d := on.draft
	d.beyond = true
	clear(d.pairs)
	clear(d.counts)
	clear(d.grants)
	return on.change(ctx, on.tx, on.revision, p.changes)
}

// known says which subjects can be given something: accounts and groups that were
// made known and not deleted, public groups, and system groups whose container
// stands in the tree.
func (on *state) known(ctx context.Context, subjects []Subject) (map[Subject]bool, error) {
	states, err := on.states(ctx, on.tx, subjects)
	if err != nil {
		return nil, err
	}
	known := make(map[Subject]bool, len(subjects))
	for _, who := range subjects {
		switch {
		case who.Type != rules.System:
			s := states[who]
			known[who] = s == stateActive || s == stateSuspended
		case rules.Public(who.ID):
			known[who] = true
		default:
			typ, id, _ := rules.Container(who.ID)
			if known[who], err = on.stands(ctx, Ref{typ, id}); err != nil {
				return nil, err
			}
		}
	}
	return known, nil
}

// stands reports whether a resource is in the tree.
func (on *state) stands(ctx context.Context, r Ref) (bool, error) {
	n, found, err := on.node(ctx, on.tx, r)
	return found && !n.Removed, err
}

// above is the path of the store from the graph, which has the same one: a resource
// and all above it.
func (g *graph) above(r Ref) []Ref {
	path := g.View().Path(checker.Resource(r))
	all := make([]Ref, len(path))
	for i, step := range path {
		all[i] = Ref(step)
	}
	return all
}

// knows is known from the graph.
func (g *graph) knows(who Subject) bool {
	switch {
	case who.Type != rules.System:
		is := g.View().State(checker.Subject(who))
		return is == checker.Active || is == checker.Suspended
	case rules.Public(who.ID):
		return true
	default:
		typ, id, _ := rules.Container(who.ID)
		return len(g.above(Ref{typ, id})) > 0
	}
}

// home is the organization in which a service account lives, as a resource of the
// tree with the id of the subject; "" for other subjects.
func (g *graph) home(who Subject) string {
	if who.Type != rules.ServiceAccount {
		return ""
	}
	return organizationOf(g.above(Ref{typeServiceAccount, who.ID}))
}

// identities are the subjects whose roles a subject has.
func (g *graph) identities(who Subject) []Subject {
	found := g.View().Identities(checker.Subject(who))
	all := make([]Subject, len(found))
	for i, s := range found {
		all[i] = Subject(s)
	}
	return all
}

// change stores rows of what is changed, and counts the pairs that come and go.
func (s *store) change(ctx context.Context, tx *sql.Tx, revision int64, changes []*accessv1.Change) error {
	t := newTally()
	for seq, c := range changes {
		if err := s.writeRows(ctx, tx, t, revision, revision*maxChanges+int64(seq), c); err != nil {
			return errRows(revision, c, err)
		}
	}
	return s.close(ctx, tx, t)
}
