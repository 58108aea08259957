package checker_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
)

// bigWorld is a world of the given number of resources, three bindings on each,
// one user for ten resources, each user in its organization and in two groups; of
// the roles of the catalogue.
func bigWorld(tb testing.TB, resources int) (*checker.Graph, []checker.Query) {
	tb.Helper()
	c, err := catalog.Load()
	if err != nil {
		tb.Fatal(err)
	}
	held, permissions := c.Matrix()
	roleIDs := []string{"viewer", "editor", "resource-manager.viewer", "kms.keys.user", "iam.viewer"}
	rng := rand.New(rand.NewPCG(1, 2))
	facts, subjects, below := bigFacts(rng, resources, roleIDs)
	g := checker.New(checker.Roles{Permissions: permissions, Roles: held})
	if err := g.Load(1, stream(facts)); err != nil {
		tb.Fatal(err)
	}
	asked := []string{"resource-manager.folders.get", "kms.keys.get", "resource-manager.folders.delete", "iam.serviceAccounts.get"}
	queries := make([]checker.Query, 1<<14)
	ids := new(strings.Builder) // in the order of the questions: those of a request are at hand when it is decided
	ids.Grow(len(queries) * 40)
	copied := func(id string) string {
		from := ids.Len()
		ids.WriteString(id)
		return ids.String()[from:]
	}
	for i := range queries {
		who, on := subjects[rng.IntN(len(subjects))], below[rng.IntN(len(below))]
		queries[i] = checker.Query{
			Subject: checker.Subject{Type: who.Type, ID: copied(who.ID)}, Permission: asked[rng.IntN(len(asked))],
			Resource: checker.Resource{Type: on.Type, ID: copied(on.ID)}, Now: 1,
		}
	}
	return g, queries
}

// bigFacts makes organizations of 10 clouds of 10 folders of 10 keys.
func bigFacts(rng *rand.Rand, resources int, roleIDs []string) (facts []checker.Change, subjects []checker.Subject, below []checker.Resource) {
	type typed struct{ prefix, typ string }
	levels := []typed{
		{"org", "organization-manager.organization"}, {"cld", "resource-manager.cloud"}, {"fld", "resource-manager.folder"}, {"key", "kms.key"},
	}
	for n := range max(1, resources/10) {
		s := checker.Subject{Type: checker.UserAccount, ID: fmt.Sprintf("usr%017d", n)}
		subjects = append(subjects, s)
		facts = append(facts, checker.SetSubject{Subject: s, State: checker.Active},
			checker.Join{Container: checker.Resource{Type: levels[0].typ, ID: fmt.Sprintf("org%017d", rng.IntN(max(1, resources/1111)))}, Subject: s},
			checker.Join{Container: checker.Resource{Type: "organization-manager.group", ID: fmt.Sprintf("grp%017d", rng.IntN(100))}, Subject: s},
			checker.Join{Container: checker.Resource{Type: "organization-manager.group", ID: fmt.Sprintf("grp%017d", rng.IntN(100))}, Subject: s})
	}
	for n := range 100 {
		facts = append(facts, checker.SetSubject{Subject: checker.Subject{Type: checker.Group, ID: fmt.Sprintf("grp%017d", n)}, State: checker.Active})
	}
	count := 0
	var grow func(parent checker.Resource, level int)
	grow = func(parent checker.Resource, level int) {
		for range 10 {
			if count >= resources || level >= len(levels) {
				return
			}
			r := checker.Resource{Type: levels[level].typ, ID: fmt.Sprintf("%s%017d", levels[level].prefix, count)}
			count++
			facts = append(facts, checker.Place{Resource: r, Parent: parent})
			for range 3 {
				who := subjects[rng.IntN(len(subjects))]
				if rng.IntN(4) == 0 {
					who = checker.Subject{Type: checker.Group, ID: fmt.Sprintf("grp%017d", rng.IntN(100))}
				}
				facts = append(facts, checker.Bind{Resource: r, Subject: who, Role: roleIDs[rng.IntN(len(roleIDs))]})
			}
			if level == len(levels)-1 {
				below = append(below, r)
			}
			grow(r, level+1)
		}
	}
	for count < resources {
		grow(checker.Resource{}, 0)
	}
	return facts, subjects, below
}

// BenchmarkDecide asks random questions about the lowest resources: four levels,
// six identities. The aim is less than a microsecond and no allocation.
func BenchmarkDecide(b *testing.B) {
	for _, size := range []int{1_000, 100_000} {
		b.Run(fmt.Sprintf("resources=%d", size), func(b *testing.B) {
			g, queries := bigWorld(b, size)
			b.ReportAllocs()
			granted, n := 0, 0
			for b.Loop() {
				if g.Decide(queries[n&(len(queries)-1)]).Allowed {
					granted++
				}
				n++
			}
			b.ReportMetric(100*float64(granted)/float64(n), "%granted")
		})
	}
}

// BenchmarkApply binds and unbinds beside 100,000 resources.
func BenchmarkApply(b *testing.B) {
	g, queries := bigWorld(b, 100_000)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		q := queries[n/2&(len(queries)-1)]
		var c checker.Change = checker.Bind{Resource: q.Resource, Subject: q.Subject, Role: "admin"}
		if n%2 == 1 {
			c = checker.Unbind{Resource: q.Resource, Subject: q.Subject, Role: "admin"}
		}
		if err := g.Apply(g.Revision()+1, c); err != nil {
			b.Fatal(err)
		}
		n++
	}
}

// BenchmarkLoad loads 100,000 resources with 300,000 bindings, and reports what
// one binding weighs, with its share of resources, subjects and names.
func BenchmarkLoad(b *testing.B) {
	const size = 100_000
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		g, queries := bigWorld(b, size)
		queries = queries[:1]
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(3*size), "B/binding")
		if g.Decide(queries[0]).Reason == checker.SubjectUnknown {
			b.Fatal("nothing was loaded")
		}
	}
}

// TestDecideDoesNotAllocate holds for subjects of few identities.
func TestDecideDoesNotAllocate(t *testing.T) {
	g, queries := bigWorld(t, 2_000)
	n := 0
	if allocs := testing.AllocsPerRun(1000, func() { g.Decide(queries[n]); n++ }); allocs != 0 {
		t.Errorf("%v allocations in a decision, want none", allocs)
	}
}
