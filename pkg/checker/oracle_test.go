package checker_test

import (
	"flag"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
)

var fixedSeed = flag.Uint64("seed", 0, "make the random worlds of this seed again")

// seed is another one in each run, unless the flag says which.
func seed() uint64 {
	if *fixedSeed != 0 {
		return *fixedSeed
	}
	return uint64(time.Now().UnixNano())
}

// TestOracle compares the engine with the second reading of the rules, on random
// worlds that change, along the way. A difference prints the seed and the world.
func TestOracle(t *testing.T) {
	const worlds, rounds, questions = 300, 10, 50 // 150,000 questions
	seed := seed()
	t.Logf("seed %d", seed)
	answers := map[string]int{}
	for n := range uint64(worlds) {
		runOracle(t, rand.New(rand.NewPCG(seed, n)), rounds, questions, answers)
		if t.Failed() {
			t.Fatalf("world %d of seed %d", n, seed)
		}
	}
	total := 0
	for _, count := range answers {
		total += count
	}
	t.Logf("%d questions: %v", total, answers)
	if total < 100_000 {
		t.Errorf("%d questions, want 100,000", total)
	}
	for r := checker.NoGrant; r <= checker.PermissionUnknown; r++ {
		if answers[r.String()] < 100 {
			t.Errorf("%d questions ended with %s, too few to tell", answers[r.String()], r)
		}
	}
}

func runOracle(t *testing.T, rng *rand.Rand, rounds, questions int, answers map[string]int) {
	t.Helper()
	gen := checkertest.Generate(rng, checkertest.Simple())
	followed := checker.New(roles(gen.World))
	apply(t, followed, gen.World.Steps())
	for range rounds {
		for range 5 {
			apply(t, followed, gen.Step())
		}
		loaded := load(t, gen.World, rng)
		for range questions {
			q := gen.Query()
			want := gen.World.Answer(q)
			answers[want]++
			agree(t, "followed", followed, gen.World, q, want)
			agree(t, "loaded", loaded, gen.World, q, want)
		}
		if t.Failed() {
			return
		}
	}
}

// agree fails the test when a graph answers a question unlike the rules, or
// explains it unlike them.
func agree(t *testing.T, how string, g *checker.Graph, w *checkertest.World, q checkertest.Query, want string) {
	t.Helper()
	got := g.Decide(query(q))
	if got.Reason.String() != want || got.Allowed != (want == checkertest.Yes) {
		t.Errorf("%s: %s (token %q, session %q): got %+v, want %s; the world:\n%s", how, q, q.Token, q.Session, got, want, scenario(w, q, want))
		return
	}
	e := g.View().Explain(query(q))
	if e.Decision != got {
		t.Errorf("%s: %s: explained as %+v, decided as %+v", how, q, e.Decision, got)
	}
	if want != checkertest.Yes && want != checkertest.NoGrant && want != checkertest.DeniedByPolicy {
		return
	}
	var grants, wantGrants []string
	for _, x := range e.Grants {
		holder := x.By[len(x.By)-1]
		grants = append(grants, fmt.Sprintf("%s for %s on %s", x.Role, ref(holder), ref(checker.Subject(x.Resource))))
	}
	for _, b := range w.Grants(q) {
		wantGrants = append(wantGrants, fmt.Sprintf("%s for %s on %s", b.Role, b.Subject, b.Resource))
	}
	slices.Sort(grants)
	slices.Sort(wantGrants)
	if d := cmp.Diff(wantGrants, grants); d != "" {
		t.Errorf("%s: %s: explained grants (-want +got):\n%s\nthe world:\n%s", how, q, d, scenario(w, q, want))
	}
	agreeOnPolicies(t, how, g, w, q, e)
}

// agreeOnPolicies compares the policies that an explanation names with those that
// deny by the rules, and where each of them is bound nearest.
func agreeOnPolicies(t *testing.T, how string, g *checker.Graph, w *checkertest.World, q checkertest.Query, e checker.Explanation) {
	t.Helper()
	var denials, wantDenials []string
	for _, x := range e.Denials {
		denials = append(denials, x.Policy+" on "+string(ref(checker.Subject(x.Resource))))
	}
	for _, p := range w.Denials(q) {
		wantDenials = append(wantDenials, p.Name+" on "+string(p.Resource))
	}
	slices.Sort(denials)
	slices.Sort(wantDenials)
	if d := cmp.Diff(wantDenials, denials); d != "" {
		t.Errorf("%s: %s: explained denials (-want +got):\n%s\nthe world:\n%s", how, q, d, scenario(w, q, w.Answer(q)))
	}
	for _, policy := range []string{"denyGet", "denyNothing"} {
		var nearest checker.Resource
		for _, r := range slices.Backward(e.Path) {
			on := ref(checker.Subject(r))
			if slices.ContainsFunc(w.Policies, func(p checkertest.Policy) bool { return p.Name == policy && p.Resource == on }) {
				nearest = r
			}
		}
		if got, found := g.View().PolicyAbove(policy, resource(q.Resource)); got != nearest || found != (nearest != checker.Resource{}) {
			t.Errorf("%s: %s above %s: got %v, want %v", how, policy, q.Resource, got, nearest)
		}
	}
}

// scenario prints a world that was answered wrongly, to be kept in testdata.
func scenario(w *checkertest.World, q checkertest.Query, want string) string {
	s := checkertest.Scenario{World: *w}
	if want == checkertest.Yes {
		s.Allow = []string{q.String()}
	} else {
		s.Deny = []string{q.String()}
	}
	return s.YAML()
}

// apply applies steps as the changes of one revision.
func apply(t *testing.T, g *checker.Graph, steps []checkertest.Step) {
	t.Helper()
	if err := g.Apply(g.Revision()+1, changes(steps)...); err != nil {
		t.Fatal(err)
	}
}

// load makes a graph of a world from its facts in a random order.
func load(t *testing.T, w *checkertest.World, rng *rand.Rand) *checker.Graph {
	t.Helper()
	facts := changes(w.Steps())
	rng.Shuffle(len(facts), func(i, j int) { facts[i], facts[j] = facts[j], facts[i] })
	g := checker.New(roles(w))
	if err := g.Load(1, stream(facts)); err != nil {
		t.Fatal(err)
	}
	return g
}

func stream(facts []checker.Change) iter.Seq2[checker.Change, error] {
	return func(yield func(checker.Change, error) bool) {
		for _, f := range facts {
			if !yield(f, nil) {
				return
			}
		}
	}
}

func roles(w *checkertest.World) checker.Roles {
	return checker.Roles{Permissions: w.Permissions, Roles: w.Roles}
}

func query(q checkertest.Query) checker.Query {
	return checker.Query{
		Subject: subject(q.Subject), Permission: q.Permission, Resource: resource(q.Resource), Now: q.Now, Token: token(q.Token), Session: token(q.Session),
	}
}

func resource(r checkertest.Ref) checker.Resource {
	return checker.Resource{Type: r.Type(), ID: r.ID()}
}

func subject(r checkertest.Ref) checker.Subject {
	return checker.Subject{Type: r.Type(), ID: r.ID()}
}

func ref(s checker.Subject) checkertest.Ref { return checkertest.Ref(s.Type + ":" + s.ID) }

func token(s string) (id checker.TokenID) { copy(id[:], s); return id }

// changes says in the engine's words what the steps say.
func changes(steps []checkertest.Step) []checker.Change {
	var all []checker.Change
	for _, s := range steps {
		all = append(all, change(s))
	}
	return all
}

func change(s checkertest.Step) checker.Change {
	on, who := resource(s.Resource), subject(s.Subject)
	switch s.Kind {
	case checkertest.Place:
		return checker.Place{Resource: on, Parent: resource(s.Parent)}
	case checkertest.Remove:
		return checker.Remove{Resource: on}
	case checkertest.Bind:
		var ends []int64
		for _, source := range s.Sources {
			ends = append(ends, source.Until)
		}
		return checker.Bind{Resource: on, Subject: who, Role: s.Role, Until: checker.Last(ends...)}
	case checkertest.Unbind:
		return checker.Unbind{Resource: on, Subject: who, Role: s.Role}
	case checkertest.Set:
		return checker.SetSubject{Subject: who, State: states[s.State], Until: s.Until}
	case checkertest.Join:
		return checker.Join{Container: on, Subject: who}
	case checkertest.Leave:
		return checker.Leave{Container: on, Subject: who}
	case checkertest.Revoke:
		return checker.Revoke{Token: token(s.Token)}
	case checkertest.Pay:
		return checker.Pay{For: on, Payer: resource(s.Payer)}
	case checkertest.Stop, checkertest.Go:
		return checker.Stop{Payer: resource(s.Payer), Stopped: s.Kind == checkertest.Stop, Permissions: s.Permissions}
	case checkertest.Deny:
		return checker.Deny{Resource: on, Policy: s.Policy, Permissions: s.Permissions, OnParent: s.OnParent}
	default:
		return checker.Undeny{Resource: on, Policy: s.Policy}
	}
}

var states = map[string]checker.State{"active": checker.Active, "suspended": checker.Suspended, "deleted": checker.Deleted}
