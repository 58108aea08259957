package accessbindings

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// desk is a store without the service around it.
type desk struct {
	*store
	t        *testing.T
	revision int64
}

// forEachStore runs f over an empty store on each engine.
func forEachStore(t *testing.T, f func(t *testing.T, d *desk)) {
	t.Helper()
	sqldbtest.ForEach(t, Name, migrationsOf(), func(t *testing.T, db *sqldb.DB) {
		f(t, &desk{store: &store{db: db}, t: t})
	})
}

// put writes changes as the next revision.
func (d *desk) put(changes ...*accessv1.Change) {
	d.t.Helper()
	d.revision++
	err := sqldb.InTx(d.t.Context(), d.db, func(ctx context.Context, tx *sql.Tx) error {
		on := &state{store: d.store, tx: tx, graph: newGraph(testCatalog(d.t), line{1, 1}), draft: newDraft(), revision: d.revision - 1, now: 1}
		on.draft.beyond = true // no graph knows where bindings stand
		writeID := fmt.Sprintf("w%d", d.revision)
		if err := on.take(ctx, plan{changes: changes}, writeID); err != nil {
			return err
		}
		var b sqldb.Batch
		on.draft.entries(&b, d.revision, writeID)
		return b.Run(ctx, d.db, tx)
	})
	if err != nil {
		d.t.Fatal(err)
	}
}

func direct(end int64) Source { return Source{Kind: accessv1.Source_DIRECT, End: end} }

func bound(r Ref, role string, who Subject, sources ...Source) *accessv1.Change {
	return bindingChange(r, Binding{Pair: Pair{role, who}, Sources: sources}, 0)
}

// same fails the test when what was read differs from what was wanted.
func same[T any](t *testing.T, what string, want, got T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestStoreTellsCasesApart(t *testing.T) {
	forEachStore(t, func(t *testing.T, d *desk) {
		ctx := t.Context()
		d.put(subjectChange(user("Ann"), stateActive), subjectChange(user("ann"), stateSuspended), placed(Ref{"t.a", "X"}, Ref{}))
		got, err := d.states(ctx, d.db, []Subject{user("ann"), user("Ann"), user("ANN")})
		same(t, "states", map[Subject]State{user("Ann"): stateActive, user("ann"): stateSuspended}, got, err)
		_, known, err := d.node(ctx, d.db, Ref{"t.a", "x"})
		same(t, "another case is another resource", false, known, err)
	})
}

func TestStoreOrdersByBytes(t *testing.T) {
	forEachStore(t, func(t *testing.T, d *desk) {
		var want []Ref
		for _, id := range []string{"a-b", "B", "ab", "é", "a", "Z", "a_b", "1"} {
			want = append(want, Ref{typeGroup, id})
			d.put(memberChange(Ref{typeGroup, id}, vera, true))
		}
		slices.SortFunc(want, func(a, b Ref) int { return strings.Compare(a.ID, b.ID) })
		got, err := d.containersOf(t.Context(), d.db, vera, typeGroup)
		same(t, "containers", want, got, err)
		got, err = d.containersOf(t.Context(), d.db, vera, typeOrganization)
		same(t, "containers of another type", nil, got, err)
	})
}

func TestStoreKeepsThePlaceOfAPair(t *testing.T) {
	forEachStore(t, func(t *testing.T, d *desk) {
		ctx, policy := t.Context(), Source{Kind: accessv1.Source_POLICY, ID: "p1"}
		for i := range 4 {
			d.put(bound(folder1, viewer, user(fmt.Sprint(i)), direct(0)))
		}
		d.put(bound(folder1, viewer, user("1"), direct(50), policy), bound(folder1, viewer, user("3"), direct(20)))
		page := func(after, now int64, limit int) (ids []string, last int64) {
			got, err := d.pageOn(ctx, d.db, folder1, after, now, limit, false)
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range got {
				ids, last = append(ids, fmt.Sprintf("%s/%d", b.Subject.ID, len(b.Sources))), b.Number
			}
			return ids, last
		}
		ids, last := page(0, 10, 2)
		same(t, "first page", []string{"0/1", "1/2"}, ids, nil)
		d.put(bound(folder1, viewer, user("0")), bound(folder1, viewer, user("4"), direct(0)))
		ids, _ = page(last, 10, 10)
		same(t, "the rest, after changes", []string{"2/1", "3/1", "4/1"}, ids, nil)
		ids, _ = page(0, 20, 10)
		same(t, "at the end of 3", []string{"1/2", "2/1", "4/1"}, ids, nil)
		ended, err := d.expired(ctx, d.db, 20, 10)
		same(t, "what has ended", []held{{folder1, viewer}}, ended, err)
	})
}

func TestStoreWalksTheTree(t *testing.T) {
	forEachStore(t, func(t *testing.T, d *desk) {
		ctx := t.Context()
		d.put(placed(org1, Ref{}), placed(cloud1, org1), placed(folder1, cloud1), placed(folder2, cloud1))
		path, err := d.path(ctx, d.db, folder1)
		same(t, "path", []Ref{folder1, cloud1, org1}, path, err)
		tree, err := d.subtree(ctx, d.db, org1)
		same(t, "subtree", []below{{org1, 0}, {cloud1, 1}, {folder1, 2}, {folder2, 2}}, tree, err)
		d.put(bound(folder1, viewer, vera, direct(0)), memberChange(folder1, vera, true))
		d.put(removed(folder1))
		path, err = d.path(ctx, d.db, folder1)
		same(t, "path of a removed folder", nil, path, err)
		left, err := d.bindingsOn(ctx, d.db, folder1, nil)
		same(t, "its bindings", nil, left, err)
		tree, err = d.subtree(ctx, d.db, cloud1)
		same(t, "subtree without it", []below{{cloud1, 0}, {folder2, 1}}, tree, err)
		n, known, err := d.node(ctx, d.db, folder1)
		same(t, "its tombstone", true, known && n.Removed, err)
		path, err = d.path(ctx, d.db, Ref{folder1.Type, "none"})
		same(t, "path of nothing", nil, path, err)
	})
}

func TestStoreReadsManySubjects(t *testing.T) {
	forEachStore(t, func(t *testing.T, d *desk) {
		var all []Subject
		var changes []*accessv1.Change
		want := map[Subject]State{}
		for i := range 250 {
			who := user(fmt.Sprint(i))
			all = append(all, who)
			if i%2 == 0 {
				changes = append(changes, subjectChange(who, stateActive))
				want[who] = stateActive
			}
		}
		d.put(changes...)
		got, err := d.states(t.Context(), d.db, all)
		same(t, "states", want, got, err)
	})
}

func TestStoreLogsWhatItWrites(t *testing.T) {
	forEachStore(t, func(t *testing.T, d *desk) {
		ctx := t.Context()
		d.put(subjectChange(vera, stateActive), memberChange(org1, vera, true))
		d.put()
		d.put(bound(folder1, viewer, vera, direct(0)))
		h, err := d.head(ctx, d.db, false)
		same(t, "head", "3 w3 {1 1}", fmt.Sprint(h.Revision, " ", h.WriteID, " ", h.line), err)
		entries, err := d.since(ctx, d.db, 1)
		var got []string
		for _, e := range entries {
			got = append(got, fmt.Sprintf("%d %s %s", e.Revision, e.WriteID, kindOf(e.Change)))
		}
		same(t, "log", []string{"2 w2 nothing", "3 w3 binding_changed"}, got, err)
		d.put(subjectChange(vera, stateDeleted))
		holdings, err := d.heldBy(ctx, d.db, vera)
		same(t, "what a deleted subject holds", nil, holdings, err)
		members, err := d.membersOf(ctx, d.db, org1)
		same(t, "members without it", nil, members, err)
	})
}

func TestStoreKeepsGroups(t *testing.T) {
	forEachStore(t, func(t *testing.T, d *desk) {
		ctx := t.Context()
		g := Group{ID: "grp1", OrganizationID: "org1", CreatedAt: 7, Name: "Ops", Description: "é", Labels: map[string]string{"a": "b"}}
		other := Group{ID: "grp2", OrganizationID: "org1", CreatedAt: 8, Name: "ops", ContainerID: "fed", ExternalID: "x", Labels: map[string]string{}}
		d.put(placed(org1, Ref{}), placed(g.ref(), org1), groupChange(g), groupChange(other))
		got, err := d.groups(ctx, d.db, []string{"grp1", "none", "grp1"})
		same(t, "a group", []Group{g}, got, err)
		g.Name, g.Labels = "Dev", map[string]string{}
		d.put(groupChange(g))
		got, err = d.groups(ctx, d.db, []string{"grp1"})
		same(t, "a changed group", []Group{g}, got, err)
		d.put(removed(g.ref()))
		got, err = d.groups(ctx, d.db, []string{"grp1", "grp2"})
		same(t, "what is left", []Group{other}, got, err)
	})
}
