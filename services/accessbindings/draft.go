package accessbindings

import (
	"context"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// draft is what the writes of one transaction change so far. Rows of bindings, and the
// ids of ended grants, are kept here until they are stored together, and each later
// write of the transaction sees them (state.bindingsOn, state.countAssignments,
// state.grantEnded); so are entries of the log, operations and records, at which no
// write looks. Whatever else changes is stored at
// once (state.take), and seen where it is stored.
type draft struct {
	pairs  map[place]*row
	more   map[string]int64 // pairs that organizations have more than is stored (AB-13)
	counts map[string]int64 // what is stored, as it was read
	grants map[string]bool  // ids that are used up, and those that are not
	ended  []string         // of them what is not stored yet

	// What the graph does not know yet.
	subjects map[Subject]bool // who got or lost a role
	beyond   bool             // something else than bindings changed

	changes    int
	log        sqldb.Rows
	operations operation.Made
	records    audit.Records
	keys       idempotency.Made
}

// place is where a pair stands.
type place struct {
	On Ref
	Pair
}

// row is a pair as the transaction has it; without sources it is not there.
type row struct {
	Binding
	stored bool // the store has rows of it
	dirty  bool // and they are others
}

func newDraft() *draft {
	return &draft{
		pairs: make(map[place]*row), more: make(map[string]int64), counts: make(map[string]int64), grants: make(map[string]bool),
		subjects: make(map[Subject]bool),
	}
}

// want adds to a batch what reads pairs that are not known yet.
func (d *draft) want(b *sqldb.Batch, places []place) {
	wanted := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Texts}}
	for _, at := range places {
		if d.pairs[at] == nil {
			d.pairs[at] = &row{Binding: Binding{Pair: at.Pair}}
			wanted.Add(at.On.Type, at.On.ID, at.Role, at.Subject.Type, at.Subject.ID)
		}
	}
	b.QueryRows(func(found sqldb.Scanner) error {
		var at place
		var kind int64
		var src Source
		var number int64
		err := found.Scan(&at.On.Type, &at.On.ID, &at.Role, &at.Subject.Type, &at.Subject.ID, &kind, &src.ID, &src.End, &number)
		src.Kind = accessv1.Source_Kind(kind) //nolint:gosec // what was stored
		if p := d.pairs[at]; p != nil {
			p.Number, p.stored, p.Sources = number, true, append(p.Sources, src)
		}
		return err
	}, `
		SELECT resource_type, resource_id, `+bindingColumns+` FROM access_bindings
		WHERE (resource_type, resource_id, role_id, subject_type, subject_id) IN (`, wanted, `)
		ORDER BY source_kind, source_id`)
}

// wantCounts adds to a batch what reads how many pairs organizations have.
func (d *draft) wantCounts(b *sqldb.Batch, organizations map[string]bool) {
	wanted := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts}}
	for id := range organizations {
		if _, known := d.counts[id]; !known {
			d.counts[id] = 0
			wanted.Add(id)
		}
	}
	b.QueryRows(func(found sqldb.Scanner) error {
		var id string
		var n int64
		err := found.Scan(&id, &n)
		d.counts[id] = n
		return err
	}, `SELECT organization_id, pairs FROM access_assignments WHERE organization_id IN (`, wanted, `)`)
}

// wantGrants adds to a batch what reads which grants have ended, of those that are not
// known yet.
func (d *draft) wantGrants(b *sqldb.Batch, ids []string) {
	wanted := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts}}
	for _, id := range ids {
		if _, known := d.grants[id]; !known {
			d.grants[id] = false
			wanted.Add(id)
		}
	}
	b.QueryRows(func(found sqldb.Scanner) error {
		var id string
		err := found.Scan(&id)
		d.grants[id] = true
		return err
	}, `SELECT id FROM access_ended_grants WHERE id IN (`, wanted, `)`)
}

// grantEnded reports whether the id of a grant is used up.
func (on *state) grantEnded(ctx context.Context, id string) (bool, error) {
	var b sqldb.Batch
	on.draft.wantGrants(&b, []string{id})
	err := b.Run(ctx, on.db, on.tx)
	return on.draft.grants[id], err
}

// fetch reads pairs that are not known yet.
func (on *state) fetch(ctx context.Context, places []place) error {
	var b sqldb.Batch
	on.draft.want(&b, places)
	return b.Run(ctx, on.db, on.tx)
}

// pairsAt are those of the places at which there is a pair.
func (on *state) pairsAt(ctx context.Context, places []place) ([]Binding, error) {
	if err := on.fetch(ctx, places); err != nil {
		return nil, err
	}
	var all []Binding
	for _, at := range places {
		if b := on.draft.pairs[at]; len(b.Sources) > 0 {
			all = append(all, b.Binding)
		}
	}
	return all, nil
}

// bindingsOn is that of the store, with what the transaction has changed.
func (on *state) bindingsOn(ctx context.Context, q sqldb.Querier, r Ref, roles []string) ([]Binding, error) {
	stored, err := on.store.bindingsOn(ctx, q, r, roles)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(stored, func(b Binding) bool {
		changed := on.draft.pairs[place{r, b.Pair}]
		return changed != nil && changed.dirty
	})
	for at, b := range on.draft.pairs {
		if at.On == r && b.dirty && len(b.Sources) > 0 && (roles == nil || slices.Contains(roles, at.Role)) {
			all = append(all, b.Binding)
		}
	}
	slices.SortFunc(all, func(a, b Binding) int { return int(min(1, max(-1, a.Number-b.Number))) })
	return all, nil
}

// countAssignments is that of the store, with what the transaction has changed.
func (on *state) countAssignments(ctx context.Context, q sqldb.Querier, organization string) (int64, error) {
	n, known := on.draft.counts[organization]
	if !known {
		var err error
		if n, err = on.store.countAssignments(ctx, q, organization); err != nil {
			return 0, err
		}
		on.draft.counts[organization] = n
	}
	return n + on.draft.more[organization], nil
}

// bind takes up a change of a pair. A pair that is there keeps its number.
func (on *state) bind(ctx context.Context, number int64, c *accessv1.BindingChanged) error {
	at := place{refOf(c.GetResource()), Pair{c.GetBinding().GetRoleId(), subjectOf(c.GetBinding().GetSubject())}}
	if err := on.fetch(ctx, []place{at}); err != nil {
		return err
	}
	b := on.draft.pairs[at]
	before := len(b.Sources) > 0
	if !before {
		b.Number = number
	}
	b.Sources, b.dirty = nil, true
	for _, src := range c.GetBinding().GetSources() {
		b.Sources = append(b.Sources, Source{Kind: src.GetKind(), ID: src.GetId(), End: micros(src.GetExpiresAt())})
	}
	on.draft.subjects[at.Subject] = true
	if after := len(b.Sources) > 0; after != before {
		organization := organizationOf(on.graph.above(at.On))
		if after {
			on.draft.more[organization]++
		} else {
			on.draft.more[organization]--
		}
	}
	return nil
}

// save stores the rows of what the draft holds, so that every reading sees them.
func (on *state) save(ctx context.Context) error {
	var b sqldb.Batch
	on.draft.rows(&b)
	return b.Run(ctx, on.db, on.tx)
}

// rows adds to a batch what stores the bindings.
func (d *draft) rows(b *sqldb.Batch) {
	text := []sqldb.Type{sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Texts, sqldb.Texts}
	gone := &sqldb.Rows{Columns: text}
	come := &sqldb.Rows{Columns: append(text[:5:5], sqldb.Ints, sqldb.Texts, sqldb.Ints, sqldb.Ints)}
	for at, p := range d.pairs {
		if !p.dirty {
			continue
		}
		if p.stored {
			gone.Add(at.On.Type, at.On.ID, at.Role, at.Subject.Type, at.Subject.ID)
		}
		for _, src := range p.Sources {
			come.Add(at.On.Type, at.On.ID, at.Role, at.Subject.Type, at.Subject.ID, int64(src.Kind), src.ID, src.End, p.Number)
		}
		p.stored, p.dirty = len(p.Sources) > 0, false
	}
	b.ExecRows(`DELETE FROM access_bindings WHERE (resource_type, resource_id, role_id, subject_type, subject_id) IN (`, gone, `)`)
	b.ExecRows(`
		INSERT INTO access_bindings
			(resource_type, resource_id, role_id, subject_type, subject_id, source_kind, source_id, expires_at, number)`, come, ``)
	ended := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts}}
	for _, id := range d.ended {
		ended.Add(id)
	}
	d.ended = nil
	b.ExecRows(`INSERT INTO access_ended_grants (id)`, ended, `ON CONFLICT (id) DO NOTHING`)
	counts := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts, sqldb.Ints}}
	for organization, n := range d.more {
		if organization != "" && n != 0 {
			counts.Add(organization, n)
		}
		if known, there := d.counts[organization]; there {
			d.counts[organization] = known + n
		}
	}
	clear(d.more)
	b.ExecRows(`INSERT INTO access_assignments (organization_id, pairs)`, counts, `
		ON CONFLICT (organization_id) DO UPDATE SET pairs = access_assignments.pairs + excluded.pairs`)
}

// enter adds the entries of the log for a revision.
func (d *draft) enter(revision int64, writeID string, now int64, changes []*accessv1.Change) error {
	if len(changes) == 0 { // a write that changed no fact has its entry as well
		changes = []*accessv1.Change{{}}
	}
	for seq, c := range changes {
		payload, err := proto.MarshalOptions{Deterministic: true}.Marshal(c)
		if err != nil {
			return err
		}
		d.log.Add(revision, int64(seq), kindOf(c), payload, writeID, now)
	}
	d.changes += len(changes)
	return nil
}

// entries adds to a batch what stores the log up to a revision, which becomes the head.
func (d *draft) entries(b *sqldb.Batch, revision int64, writeID string) {
	d.log.Columns = []sqldb.Type{sqldb.Ints, sqldb.Ints, sqldb.Texts, sqldb.Blobs, sqldb.Texts, sqldb.Ints}
	b.ExecRows(`INSERT INTO access_changes (revision, seq, kind, payload, write_id, changed_at)`, &d.log, ``)
	b.Exec(`UPDATE access_revision SET revision = $1, write_id = $2 WHERE one = 1`, revision, writeID)
}

// concerns reports whether an answer of the graph about somebody's rights may be
// another one with what it does not know yet. Roles are held by the subject itself or
// by a group that it is in; what else changes may change anything.
func (d *draft) concerns(g *graph, who Subject) bool {
	if d.beyond || d.subjects[who] {
		return true
	}
	for _, holder := range g.identities(who) {
		if d.subjects[holder] {
			return true
		}
	}
	return false
}

// drafted reports whether all of the changes are kept in a draft: those of bindings,
// and of grants, which decide nothing by themselves.
func drafted(changes []*accessv1.Change) bool {
	return !slices.ContainsFunc(changes, func(c *accessv1.Change) bool { return c.GetBindingChanged() == nil && c.GetGrantEnded() == nil })
}
