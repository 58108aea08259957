package checker_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
)

// bigWorld is a world of the given number of resources, with so many bindings on each,
// one user for ten resources, each user in its organization and in two groups; of
// the roles of the catalogue.
func bigWorld(tb testing.TB, resources, bindings int) (*checker.Graph, []checker.Query) {
	tb.Helper()
	c, err := catalog.Load()
	if err != nil {
		tb.Fatal(err)
	}
	held, permissions := c.Matrix()
	roleIDs := []string{"viewer", "editor", "resource-manager.viewer", "kms.keys.user", "iam.viewer"}
	rng := rand.New(rand.NewPCG(1, 2))
	facts, subjects, below := bigFacts(rng, resources, bindings, roleIDs)
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
func bigFacts(rng *rand.Rand, resources, bindings int, roleIDs []string) (facts []checker.Change, subjects []checker.Subject, below []checker.Resource) {
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
			for range bindings {
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

// processor measures the time that this thread runs, so that others on the machine
// count less: lock the thread before.
func processor() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_THREAD, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs a benchmark and reports the time that its thread ran, too.
func measure(b *testing.B, do func()) {
	b.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.ReportAllocs()
	runtime.GC()
	from := processor()
	for b.Loop() {
		do()
	}
	b.ReportMetric(float64((processor()-from).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// BenchmarkDecide asks random questions about the lowest resources: four levels, six
// identities. It reports what a binding weighs as well, with its share of resources,
// subjects and names. The aims: 450 ns in the smaller world and 1 µs in the larger one,
// no allocation, 100 bytes.
func BenchmarkDecide(b *testing.B) {
	for _, size := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("bindings=%d", size), func(b *testing.B) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			g, queries := bigWorld(b, size, 1)
			runtime.GC()
			runtime.ReadMemStats(&after)
			questions := uint64(len(queries)) * uint64(unsafe.Sizeof(queries[0])+40)
			granted, n := 0, 0
			measure(b, func() {
				if g.Decide(queries[n&(len(queries)-1)]).Allowed {
					granted++
				}
				n++
			})
			b.ReportMetric(100*float64(granted)/float64(n), "%granted")
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc-questions)/float64(size), "B/binding")
		})
	}
}

// extreme is a world that somebody might make to slow the checker down, and the worst
// question to it.
type extreme struct {
	name  string
	facts []checker.Change
	ask   checker.Query
}

// The actors of the extremes.
var (
	root    = checker.Resource{Type: "organization-manager.organization", ID: "root"}
	somehow = "resource-manager.folders.get"
)

func userN(n int) checker.Subject {
	return checker.Subject{Type: checker.UserAccount, ID: fmt.Sprintf("usr%017d", n)}
}

func groupN(n int) checker.Subject {
	return checker.Subject{Type: checker.Group, ID: fmt.Sprintf("grp%017d", n)}
}

func within(g, member checker.Subject) checker.Change {
	return checker.Join{Container: checker.Resource{Type: "organization-manager.group", ID: g.ID}, Subject: member}
}

func known(who checker.Subject) checker.Change {
	return checker.SetSubject{Subject: who, State: checker.Active}
}

// extremes are worlds with n bindings on one resource, n members of one group, and so on.
func extremes(n int) []extreme {
	base := []checker.Change{checker.Place{Resource: root}, known(userN(0))}
	ask := checker.Query{Subject: userN(0), Permission: somehow, Resource: root, Now: 1}
	var groups, diamonds, bindings, members, deep []checker.Change
	for i := range 1000 { // one subject in all of them
		groups = append(groups, known(groupN(i)), within(groupN(i), userN(0)))
		diamonds = append(diamonds, known(groupN(i)))
	}
	for level := range 15 { // each of 16 groups of a level is in each of the next
		for i := range 256 {
			diamonds = append(diamonds, within(groupN((level+1)*16+i%16), groupN(level*16+i/16)))
		}
	}
	for i := range 16 {
		diamonds = append(diamonds, within(groupN(i), userN(0)))
		deep = append(deep, known(groupN(i)), within(groupN(i+1), groupN(i)))
	}
	deep = append(deep, known(groupN(16)), within(groupN(0), userN(0)))
	at, long := root, ask
	for i := range 16 {
		below := checker.Resource{Type: "resource-manager.folder", ID: fmt.Sprintf("deep%d", i)}
		deep = append(deep, checker.Place{Resource: below, Parent: at})
		at = below
	}
	long.Resource = at
	for i := range n {
		bindings = append(bindings, checker.Bind{Resource: root, Subject: userN(i + 1), Role: "viewer"})
		members = append(members, within(groupN(0), userN(i+1)))
	}
	both := slices.Concat(groups, bindings)
	members = append(members, known(groupN(0)), within(groupN(0), userN(0)))
	return []extreme{
		{"diamonds", slices.Concat(base, diamonds), ask},
		{"deepest", slices.Concat(base, deep), long},
		{"groups=1000", slices.Concat(base, groups), ask},
		{fmt.Sprintf("bindings=%d", n), slices.Concat(base, bindings), ask},
		{fmt.Sprintf("groups=1000,bindings=%d", n), slices.Concat(base, both), ask},
		{fmt.Sprintf("members=%d", n), slices.Concat(base, members), ask},
	}
}

func (x extreme) graph(tb testing.TB) *checker.Graph {
	tb.Helper()
	c, err := catalog.Load()
	if err != nil {
		tb.Fatal(err)
	}
	held, permissions := c.Matrix()
	g := checker.New(checker.Roles{Permissions: permissions, Roles: held})
	if err := g.Load(1, stream(x.facts)); err != nil {
		tb.Fatal(err)
	}
	return g
}

// BenchmarkExtremes asks in worlds that are made to slow the checker down.
func BenchmarkExtremes(b *testing.B) {
	for _, x := range extremes(100_000) {
		b.Run(x.name, func(b *testing.B) {
			g := x.graph(b)
			if got := g.Decide(x.ask).Reason; got != checker.NoGrant {
				b.Fatalf("answered %s, want NO_GRANT, which is the longest way", got)
			}
			measure(b, func() { g.Decide(x.ask) })
		})
	}
}

// updates are pairs of changes that undo one another.
func updates(queries []checker.Query) map[string][2]checker.Change {
	who := userN(0)
	folder := queries[0].Resource
	return map[string][2]checker.Change{
		"bind":   {checker.Bind{Resource: folder, Subject: who, Role: "admin"}, checker.Unbind{Resource: folder, Subject: who, Role: "admin"}},
		"ending": {checker.Bind{Resource: folder, Subject: who, Role: "admin", Until: 9}, checker.Unbind{Resource: folder, Subject: who, Role: "admin"}},
		"join":   {within(groupN(0), who), checker.Leave{Container: checker.Resource{Type: "organization-manager.group", ID: groupN(0).ID}, Subject: who}},
		"place":  {checker.Place{Resource: folder}, checker.Place{Resource: folder, Parent: queries[1].Resource}},
	}
}

// BenchmarkApply makes changes in a world of a million bindings, and in the extremes.
func BenchmarkApply(b *testing.B) {
	apply := func(b *testing.B, g *checker.Graph, pair [2]checker.Change) {
		n := 0
		measure(b, func() {
			if err := g.Apply(g.Revision()+1, pair[n&1]); err != nil {
				b.Fatal(err)
			}
			n++
		})
	}
	g, queries := bigWorld(b, 1_000_000, 1)
	for name, pair := range updates(queries) {
		b.Run(name, func(b *testing.B) { apply(b, g, pair) })
	}
	one := [2]checker.Change{checker.Bind{Resource: root, Subject: userN(0), Role: "admin"}, checker.Unbind{Resource: root, Subject: userN(0), Role: "admin"}}
	for _, x := range extremes(100_000)[3:] {
		pair := one
		if strings.HasPrefix(x.name, "members") {
			pair = updates(queries)["join"]
		}
		b.Run(x.name, func(b *testing.B) { apply(b, x.graph(b), pair) })
	}
}

// BenchmarkLoad loads a million bindings.
func BenchmarkLoad(b *testing.B) {
	for b.Loop() {
		bigWorld(b, 1_000_000, 1)
	}
}

// TestDecideDoesNotAllocate holds for subjects of few identities.
func TestDecideDoesNotAllocate(t *testing.T) {
	g, queries := bigWorld(t, 2_000, 3)
	n := 0
	if allocs := testing.AllocsPerRun(1000, func() { g.Decide(queries[n]); n++ }); allocs != 0 {
		t.Errorf("%v allocations in a decision, want none", allocs)
	}
}

// TestApplyCostsTheSame: what a change copies does not depend on how large the world is,
// how many bindings a resource has or how many members a group.
func TestApplyCostsTheSame(t *testing.T) {
	copied := func(g *checker.Graph, pair [2]checker.Change) float64 {
		const changes = 200
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for n := range changes {
			if err := g.Apply(g.Revision()+1, pair[n&1]); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		return float64(after.TotalAlloc-before.TotalAlloc) / changes
	}
	compare := func(name string, small, large float64) {
		t.Logf("%s: %.0f bytes in the small world, %.0f in the large one", name, small, large)
		if large > 2*small+4096 {
			t.Errorf("%s: copies %.0f bytes, and %.0f in a world a hundred times smaller", name, large, small)
		}
	}
	small, few := bigWorld(t, 2_000, 1)
	large, many := bigWorld(t, 200_000, 1)
	for name := range updates(few) {
		compare(name, copied(small, updates(few)[name]), copied(large, updates(many)[name]))
	}
	one := [2]checker.Change{checker.Bind{Resource: root, Subject: userN(0), Role: "admin"}, checker.Unbind{Resource: root, Subject: userN(0), Role: "admin"}}
	lesser, greater := extremes(100), extremes(10_000)
	for i := 3; i < len(greater); i++ {
		pair := one
		if strings.HasPrefix(greater[i].name, "members") {
			pair = updates(few)["join"]
		}
		compare(greater[i].name, copied(lesser[i].graph(t), pair), copied(greater[i].graph(t), pair))
	}
}
