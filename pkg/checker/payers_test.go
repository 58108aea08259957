package checker

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"testing"
)

// payingRoles is a catalogue of one thing that is used, and one that is managed.
var payingRoles = Roles{
	Permissions: []string{"thing.use", "thing.manage"},
	Roles:       map[string][]string{"owner": {"thing.use", "thing.manage"}},
}

// ledger is what the facts say, kept by itself.
type ledger struct {
	payer   map[string]string
	stopped map[string]bool
	parent  map[string]string
	gone    map[string]bool
}

// usable is PT-30, read by brute force.
func (l ledger) usable(resource string) bool {
	for at := resource; at != ""; at = l.parent[at] {
		if p := l.payer[at]; p != "" && l.stopped[p] {
			return false
		}
	}
	return true
}

func thing(id string) Resource { return Resource{"a.thing", id} }

// Random facts about paying, in any order: what a stopped payer takes away is refused on
// what it pays for and below that, and nothing else changes. A graph that is loaded from
// the facts as they are answers alike.
func TestPT30_StoppedPayers(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	ann := Subject{UserAccount, "ann"}
	for round := range 60 {
		g, revision := New(payingRoles), int64(0)
		apply := func(c ...Change) {
			t.Helper()
			revision++
			if err := g.Apply(revision, c...); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		l := ledger{map[string]string{}, map[string]bool{}, map[string]string{}, map[string]bool{}}
		apply(SetSubject{Subject: ann, State: Active})
		var things []string
		for i := range 12 {
			id, parent := fmt.Sprint("t", i), ""
			if i > 2 {
				parent = things[r.IntN(i)]
			}
			things, l.parent[id] = append(things, id), parent
			place := Place{Resource: thing(id)}
			if parent != "" {
				place.Parent = thing(parent)
			}
			apply(place, Bind{Resource: thing(id), Subject: ann, Role: "owner"})
		}
		payers := []string{"p0", "p1", "p2"}
		for range 40 {
			id, payer := things[r.IntN(len(things))], payers[r.IntN(len(payers))]
			switch r.IntN(5) {
			case 0:
				l.payer[id] = ""
				apply(Pay{For: thing(id)})
			case 1, 2:
				l.payer[id] = payer
				apply(Pay{For: thing(id), Payer: thing(payer)})
			case 3:
				stopped := r.IntN(2) == 0
				l.stopped[payer] = stopped
				apply(Stop{Payer: thing(payer), Stopped: stopped, Permissions: []string{"thing.use"}})
			case 4: // a policy of somebody, beside it
				apply(Deny{Resource: thing(id), Policy: "other", Permissions: []string{"no.such"}}, Undeny{Resource: thing(id), Policy: "other"})
			}
			compare(t, seed, round, g, l, ann, things)
		}
		loaded := New(payingRoles)
		if err := loaded.Load(revision, l.facts(ann, things)); err != nil {
			t.Fatal(err)
		}
		compare(t, seed, round, loaded, l, ann, things)
	}
}

func compare(t *testing.T, seed uint64, round int, g *Graph, l ledger, who Subject, things []string) {
	t.Helper()
	for _, id := range things {
		use := g.Decide(Query{Subject: who, Permission: "thing.use", Resource: thing(id)})
		if want := l.usable(id); use.Allowed != want || !want && use.Reason != DeniedByPolicy {
			t.Fatalf("seed %d, round %d: use %s: %v, want %t", seed, round, id, use, want)
		}
		if manage := g.Decide(Query{Subject: who, Permission: "thing.manage", Resource: thing(id)}); !manage.Allowed {
			t.Fatalf("seed %d, round %d: manage %s: %v", seed, round, id, manage)
		}
	}
}

// facts are those of a ledger, payers before what they pay for and the tree last.
func (l ledger) facts(who Subject, things []string) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		all := []Change{SetSubject{Subject: who, State: Active}}
		for payer, stopped := range l.stopped {
			if stopped {
				all = append(all, Stop{Payer: thing(payer), Stopped: true, Permissions: []string{"thing.use"}})
			}
		}
		for id, payer := range l.payer {
			if payer != "" {
				all = append(all, Pay{For: thing(id), Payer: thing(payer)})
			}
		}
		for _, id := range things {
			place := Place{Resource: thing(id)}
			if l.parent[id] != "" {
				place.Parent = thing(l.parent[id])
			}
			all = append(all, place, Bind{Resource: thing(id), Subject: who, Role: "owner"})
		}
		for _, c := range all {
			if !yield(c, nil) {
				return
			}
		}
	}
}

// What is removed is paid for by nobody, and its payer may be stopped all the same.
func TestRemovedResourcesAreNotPaidFor(t *testing.T) {
	g := New(payingRoles)
	use := []string{"thing.use"}
	for i, c := range []Change{
		Place{Resource: thing("a")}, Pay{For: thing("a"), Payer: thing("p")}, Remove{Resource: thing("a")},
		Stop{Payer: thing("p"), Stopped: true, Permissions: use}, Stop{Payer: thing("p")}, Remove{Resource: thing("p")},
	} {
		if err := g.Apply(int64(i+1), c); err != nil {
			t.Fatalf("%T: %v", c, err)
		}
	}
}
