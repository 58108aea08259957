package checker

import (
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
)

// Errors of a writer. In both cases nothing has changed.
var (
	// ErrGap says that changes between the graph's revision and the one to be
	// applied are missing.
	ErrGap = errors.New("revisions are missing")

	// ErrRefused says that a change contradicts the facts: whoever keeps them has
	// lost their order or is damaged.
	ErrRefused = errors.New("the change contradicts the facts")
)

// Roles is what the engine needs of a catalogue: every permission there is, and
// what each role holds, inclusions expanded.
type Roles struct {
	Permissions []string
	Roles       map[string][]string
}

// Graph holds the deciding facts. All methods may be called from many goroutines
// at once: readers never wait, writers wait for one another.
type Graph struct {
	rules *rules
	view  atomic.Pointer[View]

	mu    sync.Mutex // held by the writer
	batch uint64     // number of the last draft; every draft has its own
}

// New returns an empty graph at revision 0. Nothing is granted in it.
func New(roles Roles) *Graph {
	g := &Graph{rules: compile(roles)}
	g.view.Store(newView(g.rules, 0))
	return g
}

// View returns the state after the newest revision. It never changes; hold it no
// longer than the questions that should see one and the same state.
func (g *Graph) View() *View { return g.view.Load() }

// Revision is the newest revision applied.
func (g *Graph) Revision() int64 { return g.View().revision }

// Decide answers a question from the newest revision.
func (g *Graph) Decide(q Query) Decision { return g.View().Decide(q) }

// Apply makes the changes of the next revision visible, all at once. A revision
// that the graph already has is ignored. Fails: ErrGap when it is not the next
// one, ErrRefused when a change contradicts the facts.
func (g *Graph) Apply(revision int64, changes ...Change) error {
	return g.ApplyAll(revision, changes)
}

// ApplyAll makes the changes of several revisions in a row visible, all at once, which
// is cheaper than one after the other: the first of them is revision, and those that
// the graph already has are ignored. Fails as Apply does.
func (g *Graph) ApplyAll(revision int64, changes ...[]Change) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.View()
	if known := now.revision + 1 - revision; known > 0 {
		changes = changes[min(known, int64(len(changes))):]
		revision += known
	}
	if len(changes) == 0 {
		return nil
	}
	if revision != now.revision+1 {
		return fmt.Errorf("apply revision %d to %d: %w", revision, now.revision, ErrGap)
	}
	d := g.draft(now)
	for i, one := range changes {
		for _, c := range one {
			if err := c.apply(d); err != nil {
				return fmt.Errorf("apply revision %d: %w", revision+int64(i), err)
			}
		}
	}
	d.view.revision = revision + int64(len(changes)) - 1
	g.view.Store(d.view)
	return nil
}

// Load puts the facts of a snapshot, in any order, in place of all that the graph
// held, as the state after a revision. Readers see the former state until it is
// complete. Fails with the error of the sequence, or with ErrRefused.
func (g *Graph) Load(revision int64, facts iter.Seq2[Change, error]) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.draft(newView(g.rules, revision))
	for c, err := range facts {
		if err == nil {
			err = c.apply(d)
		}
		if err != nil {
			return fmt.Errorf("load revision %d: %w", revision, err)
		}
	}
	g.view.Store(d.view)
	return nil
}

// Forget drops revoked tokens whose own end has passed at a time in microseconds:
// no verifier accepts them any more. It changes no answer and takes no revision.
func (g *Graph) Forget(now int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.draft(g.View())
	d.forget(now)
	g.view.Store(d.view)
}

// draft starts the successor of a state, which shares all its parts. The caller
// holds the lock.
func (g *Graph) draft(of *View) *draft {
	g.batch++
	next := *of
	return &draft{view: &next, batch: g.batch}
}
