package checker_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
)

// TestEX10_QuestionsEqualTheRules compares who can, what can and which of these with
// the second reading of the rules, put for every subject, resource and permission of
// random worlds.
func TestEX10_QuestionsEqualTheRules(t *testing.T) {
	seed := seed()
	t.Logf("seed %d", seed)
	compared, yes := 0, 0
	for n := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, n))
		gen := checkertest.Generate(rng, checkertest.Simple())
		g := checker.New(roles(gen.World))
		apply(t, g, gen.World.Steps())
		for range 4 {
			for range 5 {
				apply(t, g, gen.Step())
			}
			for range 8 {
				c, y := compareQuestions(t, g.View(), gen)
				compared, yes = compared+c, yes+y
			}
			if t.Failed() {
				t.Fatalf("world %d of seed %d", n, seed)
			}
		}
	}
	t.Logf("%d comparisons, %d of them yes", compared, yes)
	if compared < 20_000 || yes < 1000 {
		t.Errorf("%d comparisons with %d yes, too few to tell", compared, yes)
	}
}

func compareQuestions(t *testing.T, v *checker.View, gen *checkertest.Generator) (compared, yes int) {
	t.Helper()
	w, q := gen.World, gen.Query()
	q.Token, q.Session = "", ""
	asked := func(change func(*checkertest.Query)) bool {
		one := q
		change(&one)
		compared++
		if w.Answer(one) == checkertest.Yes {
			yes++
			return true
		}
		return false
	}
	var subjects, resources, below, permissions []string
	for _, s := range w.Subjects {
		if asked(func(q *checkertest.Query) { q.Subject = s.Name }) {
			subjects = append(subjects, string(s.Name))
		}
	}
	for _, r := range w.Resources {
		if asked(func(q *checkertest.Query) { q.Resource = r.Name }) {
			resources = append(resources, string(r.Name))
			if stands(w, r.Name, q.Resource) {
				below = append(below, string(r.Name))
			}
		}
	}
	every := slices.Concat(w.Permissions, []string{"no.such.permission"})
	for _, held := range w.Roles {
		every = append(every, held...)
	}
	for _, p := range every {
		if !slices.Contains(permissions, p) && asked(func(q *checkertest.Query) { q.Permission = p }) {
			permissions = append(permissions, p)
		}
	}
	cq := query(q)
	for what, pair := range map[string][2][]string{
		"who can":           {subjects, refs(v.Subjects(cq))},
		"what can":          {resources, refs(v.Resources(cq, "", checker.Resource{}))},
		"what can below":    {below, refs(v.Resources(cq, "", cq.Resource))},
		"which permissions": {permissions, v.Test(cq, every)},
	} {
		if what != "which permissions" {
			slices.Sort(pair[0])
			slices.Sort(pair[1])
		}
		if d := cmp.Diff(pair[0], pair[1]); d != "" {
			t.Errorf("%s: %s (-want +got):\n%s\nthe world:\n%s", q, what, d, scenario(w, q, w.Answer(q)))
		}
	}
	return compared, yes
}

// stands reports whether a resource is another one or below it.
func stands(w *checkertest.World, r, top checkertest.Ref) bool {
	for r != "" && r != top {
		at := slices.IndexFunc(w.Resources, func(x checkertest.Resource) bool { return x.Name == r })
		if at < 0 {
			return false
		}
		r = w.Resources[at].Parent
	}
	return r == top
}

func refs[T checker.Subject | checker.Resource](all []T) []string {
	var out []string
	for _, one := range all {
		out = append(out, string(ref(checker.Subject(one))))
	}
	return out
}

// TestEX10_ReboundIsWhatApplyWouldMake compares views with pairs bound or unbound
// beside the graph with a graph that applies the same, and sees that the graph's own
// view stays what it was.
func TestEX10_ReboundIsWhatApplyWouldMake(t *testing.T) {
	seed := seed()
	t.Logf("seed %d", seed)
	changed := 0
	for n := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, n))
		gen := checkertest.Generate(rng, checkertest.Simple())
		g := checker.New(roles(gen.World))
		apply(t, g, gen.World.Steps())
		for range 10 {
			var pairs []checker.Change
			for _, s := range gen.Step() {
				switch c := change(s).(type) {
				case checker.Bind, checker.Unbind:
					pairs = append(pairs, c)
				default:
					apply(t, g, []checkertest.Step{s})
				}
			}
			before := g.View()
			next, err := before.Rebound(pairs...)
			if err != nil {
				t.Fatal(err)
			}
			queries := make([]checker.Query, 30)
			was := make([]checker.Decision, len(queries))
			for i := range queries {
				queries[i] = query(gen.Query())
				was[i] = before.Decide(queries[i])
			}
			if err := g.Apply(g.Revision()+1, pairs...); err != nil {
				t.Fatal(err)
			}
			for i, q := range queries {
				got, want := next.Decide(q).Reason, g.Decide(q).Reason
				if got != want {
					t.Errorf("world %d: %+v after %+v: %s, applied it is %s", n, q, pairs, got, want)
				}
				if again := before.Decide(q); again != was[i] {
					t.Errorf("world %d: the former view says %+v, and said %+v", n, again, was[i])
				}
				if want != was[i].Reason {
					changed++
				}
			}
		}
	}
	if changed < 50 {
		t.Errorf("%d answers changed, too few to tell", changed)
	}
}

func TestRebound_TakesPairsAlone(t *testing.T) {
	g := checker.New(checker.Roles{})
	if _, err := g.View().Rebound(checker.Revoke{}); err == nil {
		t.Error("a revoked token was taken for a pair")
	}
	v, err := g.View().Rebound(checker.Bind{Resource: checker.Resource{Type: "a", ID: "b"}, Subject: checker.Subject{Type: "c", ID: "d"}})
	if err != nil || v.Revision() != 0 {
		t.Errorf("a pair of strangers: %v", err)
	}
}
