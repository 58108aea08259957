package accessbindings

import (
	"context"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

// noted notes the order in which intents are planned: that in which they take effect.
type noted struct {
	in    intent
	n     int
	order *[]int
}

func (in noted) plan(ctx context.Context, on *state) (plan, error) {
	*in.order = append(*in.order, in.n)
	return in.in.plan(ctx, on)
}

// note has an intent noted, which says of itself what it said before.
func note(in intent, n int, order *[]int) intent {
	plain := noted{in, n, order}
	asks, isAsker := in.(asker)
	reads, isNarrow := in.(narrow)
	switch {
	case isAsker && isNarrow:
		return struct {
			noted
			asker
			narrow
		}{plain, asks, reads}
	case isAsker:
		return struct {
			noted
			asker
		}{plain, asks}
	case isNarrow:
		return struct {
			noted
			narrow
		}{plain, reads}
	default:
		return plain
	}
}

// What a batch does is what its writes do one after the other, each in a transaction
// of its own: the same answers, the same log, the same rows. Time goes by between the
// batches, and what has ended goes.
func TestABatchIsItsWritesOneAfterTheOther(t *testing.T) {
	for _, engine := range []sqldb.Engine{sqldb.SQLite, sqldb.PostgreSQL} {
		t.Run(string(engine), func(t *testing.T) {
			seed := seedOf(t)
			random := rand.New(rand.NewPCG(seed, 0))
			refusals, done := map[string]int{}, map[string]int{}
			// What is denied to everybody, or used up, stays so: rare writes come in another world.
			for n := 0; n < 1 || n < 20 && len(missing(done)) > 0; n++ {
				at := time.Now()
				worlds := make([]*world, 2)
				for i := range worlds {
					worlds[i] = serve(t, sqldbtest.Open(t, engine, Name, migrationsOf()))
					worlds[i].clock.set(at)
					worlds[i].populate()
					worlds[i].crowd()
				}
				for round := range 60 {
					for _, w := range worlds {
						w.clock.set(at.Add(time.Duration(round) * time.Minute))
					}
					worlds[0].oneAfterTheOther(worlds[1], random, 2+random.IntN(14), refusals, done)
					if t.Failed() {
						t.Fatalf("round %d in world %d of seed %d", round, n, seed)
					}
				}
				worlds[0].sameAsStore()
			}
			if len(refusals) < 6 {
				t.Errorf("hardly anything was refused: %v", refusals)
			}
			if none := missing(done); len(none) > 0 {
				t.Errorf("no writes of the kinds %v changed anything: %v", none, done)
			}
			t.Logf("refusals: %v; made: %v", refusals, done)
		})
	}
}

// missing are the kinds of writes of which none changed anything.
func missing(done map[string]int) (kinds []string) {
	for _, in := range []intent{
		new(changeBindings), new(setSubject), new(updateMembers), new(registerResource), new(removeResource), new(changePolicy),
		new(createGroup), new(updateGroup), new(deleteGroup), new(updateGroupMembers), new(changeGrantPolicy), new(setPayer), new(stopPayer),
	} {
		if kind := fmt.Sprintf("%T", in); done[kind] == 0 {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// crowd adds to the world of populate what random writes are about: groups that stand in
// groups, people who may be deleted, and who pays.
func (w *world) crowd() {
	w.t.Helper()
	record := recordOf(w.t.Context(), "test", "Test")
	make := func(in intent) {
		w.t.Helper()
		_, err := w.service.committer.submit(w.t.Context(), in)
		w.must(err)
	}
	for _, id := range []string{"g1", "g2"} {
		make(w.createGroupAs(olga, id, "the "+id))
	}
	for _, id := range []string{"b1", "b2"} {
		make(&registerResource{resource: Ref{typeBillingAccount, id}, catalog: w.service.bindings.catalog, record: record})
	}
	for _, who := range temps {
		w.know(who)
	}
}

// temps are people whom the random writes may delete.
var temps = []Subject{user("t0"), user("t1"), user("t2"), user("t3"), user("t4"), user("t5")}

// oneAfterTheOther makes random writes in a batch here, and alone in the other world.
func (w *world) oneAfterTheOther(alone *world, random *rand.Rand, n int, refusals, done map[string]int) {
	w.t.Helper()
	var order []int
	batched, single := make([]intent, n), make([]intent, n)
	for i := range n {
		seed := random.Uint64()
		batched[i] = note(w.randomIntent(rand.New(rand.NewPCG(seed, 1))), i, &order)
		single[i] = alone.randomIntent(rand.New(rand.NewPCG(seed, 1)))
	}
	w.must(alone.service.committer.expire(w.t.Context())) // so does the one that a batch begins with
	ends, _ := w.together(nil, batched...)
	if len(order) != n {
		w.t.Fatalf("%d writes were planned %d times", n, len(order))
	}
	revision := int64(0)
	for _, i := range order {
		r, err := alone.service.committer.submit(w.t.Context(), single[i])
		if got, want := apierr.ReasonOf(ends[i].err), apierr.ReasonOf(err); got != want || (err == nil) != (ends[i].err == nil) {
			w.t.Errorf("%T: in the batch %v, alone %v", single[i], ends[i].err, err)
		}
		refusals[apierr.ReasonOf(err)]++
		if err == nil && (ends[i].changed != r.changed || ends[i].revision != r.revision || ends[i].revision < revision) {
			w.t.Errorf("%T: in the batch revision %d (%t), alone %d (%t)", single[i], ends[i].revision, ends[i].changed, r.revision, r.changed)
		}
		if err == nil && r.changed {
			done[fmt.Sprintf("%T", single[i])]++
		}
		revision = max(revision, ends[i].revision)
	}
	for _, query := range []string{
		`SELECT revision || ' ' || seq || ' ' || kind, payload FROM access_changes ORDER BY revision, seq`,
		`SELECT resource_id || ' ' || role_id || ' ' || subject_id || ' ' || source_kind || ' ' || source_id || ' ' || expires_at || ' ' || number, '' FROM access_bindings`,
		`SELECT organization_id || ' ' || pairs, '' FROM access_assignments`,
		`SELECT container_id || ' ' || subject_id || ' ' || number, '' FROM access_members`,
		`SELECT type || ' ' || id || ' ' || state, '' FROM access_subjects`,
		`SELECT type || ' ' || id || ' ' || parent_id || ' ' || removed, '' FROM access_resources`,
		`SELECT id || ' ' || organization_id || ' ' || name, '' FROM access_groups`,
		`SELECT id || ' ' || name || ' ' || principal_id, '' FROM access_grant_policies`,
		`SELECT cloud_id || ' ' || account_id || ' ' || version, '' FROM access_payers`,
		`SELECT account_id || ' ' || stopped || ' ' || version, '' FROM access_stopped_payers`,
		`SELECT event_type || ' ' || COUNT(*), '' FROM accessbindings_audit GROUP BY event_type`,
		`SELECT resource_id || ' ' || COUNT(*), '' FROM accessbindings_operations GROUP BY resource_id`,
	} {
		if diff := cmp.Diff(alone.rows(query), w.rows(query)); diff != "" {
			w.t.Errorf("%s (-alone +batch):\n%s", query, diff)
		}
	}
	w.counted(org1)
	w.counted(org2)
}

// rows reads rows, ordered unless the query orders them. The ids of the groups that
// organizations begin with (SC-2) are of chance: each stands as what it is, in as many
// letters.
func (w *world) rows(query string) (all []string) {
	w.t.Helper()
	names := make(map[string]string)
	var id, organization, name string
	w.must(each(w.t.Context(), w.db, "rows", `SELECT id, organization_id, name FROM access_groups`, []any{&id, &organization, &name}, func() error {
		names[id] = fmt.Sprintf("%-20.20s", organization+" "+name)
		return nil
	}))
	var text string
	var more []byte
	w.must(each(w.t.Context(), w.db, "rows", query, []any{&text, &more}, func() error {
		all = append(all, idOfChance.ReplaceAllStringFunc(text+" "+string(more), func(id string) string { return names[id] }))
		return nil
	}))
	if !strings.Contains(query, "ORDER BY") {
		slices.Sort(all)
	}
	return all
}

// idOfChance is one that the unit made; those of randomIntent begin with made.
var idOfChance = regexp.MustCompile(`grp[0-9a-z]{17}`)

// createGroupAs is the intent of GroupService.Create.
func (w *world) createGroupAs(as Subject, id, name string) *createGroup {
	return &createGroup{
		groupCall: w.groupCallAs(as), group: Group{ID: id, OrganizationID: org1.ID, Name: name, CreatedAt: nowMicros(w.clock.now)},
		limits: limits{organizationBound(catalog.QuotaGroups, org1.ID): 8},
	}
}

func (w *world) groupCallAs(as Subject) groupCall {
	return groupCall{
		caller: checker.Query{Subject: checker.Subject(as)}, catalog: w.service.bindings.catalog, record: w.someRecord(), metadata: new(accesspb.UpdateAccessBindingsMetadata),
	}
}

func (w *world) someRecord() *audit.Record {
	return recordOf(authn.NewContext(w.t.Context(), authn.Principal{Unit: "test"}), "test", "Test")
}

// dice makes random writes for a world: the same for the same seed and state.
type dice struct {
	*rand.Rand
	w *world
}

func oneOf[T any](d dice, all ...T) T { return all[d.IntN(len(all))] }

// acting are those who ask for writes, places what these are about.
var (
	acting  = []Subject{olga, carl, adam, vera, nick}
	folder3 = Ref{typeFolder, "folder3"}
	places  = []Ref{org1, cloud1, folder1, folder2, folder3}
)

// anybody is whom a write is about.
func (d dice) anybody() Subject {
	if d.IntN(4) == 0 {
		return oneOf(d, temps...)
	}
	return oneOf(d, append(slices.Clone(acting), group("g1"), group("g2"), Subject{"system", "group:organization:org1:users"})...)
}

// stored is one of the ids that a query finds, which is ordered; none when there are none.
func (d dice) stored(query string) string {
	var ids []string
	var id string
	d.w.must(each(d.w.t.Context(), d.w.db, "ids", query, []any{&id}, func() error { ids = append(ids, id); return nil }))
	return oneOf(d, append(ids, "none")...)
}

// randomIntent is a write that may touch, or be touched by, any other of them.
func (w *world) randomIntent(random *rand.Rand) intent {
	d := dice{random, w}
	switch n := d.IntN(40); {
	case n < 16:
		return d.bindings()
	case n < 19:
		return d.subject()
	case n < 22:
		return d.members()
	case n < 28:
		return d.group()
	case n < 33:
		return d.grantPolicy()
	case n < 36:
		return d.payer()
	case n < 38:
		return d.place()
	default:
		return &changePolicy{
			verb: oneOf(d, bindPolicy, unbindPolicy), resource: folder1, binding: PolicyBinding{Template: catalog.DenyGrantAboveOwn}, permission: getFolder,
			caller: checker.Query{Subject: checker.Subject(d.anybody())}, record: w.someRecord(), metadata: new(accesspb.UpdateAccessBindingsMetadata),
		}
	}
}

// bindings are those of a resource, for a time or for ever.
func (d dice) bindings() intent {
	r := oneOf(d, places...)
	roles := []string{viewer, editor, admin, map[bool]string{true: orgOwner, false: cloudOwner}[r == org1]}
	var wishes []wish
	for range 1 + d.IntN(3) {
		one := wish{Pair: Pair{oneOf(d, roles...), d.anybody()}, Add: d.IntN(3) > 0}
		if one.Add && d.IntN(3) == 0 {
			one.End = nowMicros(d.w.clock.now) + (time.Duration(1+d.IntN(5)) * time.Minute).Microseconds()
		}
		if !slices.ContainsFunc(wishes, func(o wish) bool { return o.Pair == one.Pair }) {
			wishes = append(wishes, one)
		}
	}
	in := d.w.wishing(oneOf(d, acting...), r, wishes...)
	in.limits[organizationBound(catalog.QuotaAccessBindings, org1.ID)] = int64(12 + d.IntN(20))
	if d.IntN(5) == 0 {
		in.replace = true
		in.wishes = slices.DeleteFunc(in.wishes, func(o wish) bool { return !o.Add })
	}
	return in
}

func (d dice) subject() intent {
	in := &setSubject{subject: oneOf(d, acting...), catalog: d.w.service.bindings.catalog, record: d.w.someRecord(),
		standing: standing{State: oneOf(d, stateActive, stateSuspended)}}
	if d.IntN(3) == 0 {
		in.subject, in.State = oneOf(d, temps...), oneOf(d, stateActive, stateDeleted)
	}
	return in
}

// members of a group, as the platform changes them, or of the organization.
func (d dice) members() intent {
	in := &updateMembers{container: oneOf(d, Ref{typeGroup, "g1"}, Ref{typeGroup, "g2"}, org1), catalog: d.w.service.bindings.catalog, record: d.w.someRecord()}
	who := oneOf(d, append(slices.Clone(acting[2:]), temps...)...)
	if in.container != org1 && d.IntN(4) == 0 {
		who = group(oneOf(d, "g1", "g2"))
	}
	if d.IntN(3) > 0 {
		in.add = []Subject{who}
	} else {
		in.remove = []Subject{who}
	}
	in.limits = limits{}
	for _, quota := range []string{catalog.QuotaMemberships} {
		in.limits[organizationBound(quota, org1.ID)] = 100
	}
	return in
}

func (d dice) group() intent {
	call := d.w.groupCallAs(oneOf(d, append(acting, olga, olga, olga)...))
	id := oneOf(d, "g1", "g2", d.stored(`SELECT id FROM access_groups WHERE organization_id = 'org1' AND id LIKE 'made%' ORDER BY id`))
	switch d.IntN(7) {
	case 0, 1:
		return d.w.createGroupAs(Subject(call.caller.Subject), fmt.Sprintf("made%016x", d.Uint64()), oneOf(d, "red", "green", "blue"))
	case 2:
		return &updateGroup{groupCall: call, id: id, fields: []string{"name", "description"}, to: Group{Name: oneOf(d, "red", "green", "blue", "grey"), Description: "it was changed"}}
	case 3:
		if strings.HasPrefix(id, "g") {
			id = "none" // what others are about stays
		}
		return &deleteGroup{groupCall: call, id: id}
	default:
		in := &updateGroupMembers{groupCall: call, id: id, fields: map[string]string{}, limits: limits{groupBound(id): int64(1 + d.IntN(6))}}
		for range 1 + d.IntN(2) {
			who := oneOf(d, "adam", "vera", "nick", "t0", "t1", "t2", "g1", "g2")
			if slices.Contains(in.add, who) || slices.Contains(in.remove, who) {
				continue
			}
			in.limits[groupsOfBound(who)] = 3
			if d.IntN(3) > 0 {
				in.add = append(in.add, who)
			} else {
				in.remove = append(in.remove, who)
			}
		}
		return in
	}
}

// grantPolicy makes, changes or deletes a policy that gives (SC).
func (d dice) grantPolicy() intent {
	in := &changeGrantPolicy{
		caller: checker.Query{Subject: checker.Subject(oneOf(d, append(acting, olga, olga, olga)...))}, catalog: d.w.service.bindings.catalog, record: d.w.someRecord(),
		metadata: new(accesspb.UpdateAccessBindingsMetadata),
		limits: limits{
			organizationBound(catalog.QuotaAccessBindings, org1.ID): int64(20 + d.IntN(60)), organizationBound(catalog.QuotaGrantPolicies, org1.ID): 6,
		},
	}
	name, principal := oneOf(d, "one", "two", "three", "four"), oneOf(d, Subject{}, vera, nick, temps[0], group("g1"), group("g2"))
	given := []GrantRule{{Sets: []string{useProjects}, Places: []Ref{oneOf(d, cloud1, folder1, folder2, folder3)}}}
	if d.IntN(3) == 0 {
		given = append(given, GrantRule{Sets: []string{oneOf(d, openPortal)}, Organization: true})
	}
	in.edit = func(_ context.Context, _ *state, p *GrantPolicy) error {
		p.Name, p.Principal, p.Rules = name, principal, given
		return nil
	}
	if d.IntN(2) == 0 {
		in.verb, in.made = createGrant, GrantPolicy{ID: fmt.Sprintf("made%016x", d.Uint64()), OrganizationID: org1.ID}
		return in
	}
	in.verb, in.policy = oneOf(d, updateGrant, updateGrant, deleteGrant), d.stored(`SELECT id FROM access_grant_policies ORDER BY id`)
	return in
}

func (d dice) payer() intent {
	account, version := &accessv1.Resource{Type: typeBillingAccount, Id: oneOf(d, "b1", "b2")}, int64(1+d.IntN(1000))
	if d.IntN(2) == 0 {
		return &stopPayer{set: &accessv1.PayerStopped{Payer: account, Stopped: d.IntN(2) == 0, Version: version}, record: d.w.someRecord()}
	}
	set := &accessv1.PayerSet{Resource: cloud1.proto(), Version: version}
	if d.IntN(3) > 0 {
		set.Payer = account
	}
	return &setPayer{set: set, record: d.w.someRecord()}
}

func (d dice) place() intent {
	more := Ref{typeFolder, fmt.Sprintf("folder%d", 3+d.IntN(6))}
	if d.IntN(3) == 0 {
		return &removeResource{resource: more, catalog: d.w.service.bindings.catalog, record: d.w.someRecord()}
	}
	return &registerResource{resource: oneOf(d, folder2, folder3, more), parent: cloud1, catalog: d.w.service.bindings.catalog, record: d.w.someRecord()}
}
