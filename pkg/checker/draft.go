package checker

import (
	"fmt"
	"slices"
	"strings"
)

// draft is the next state of a graph while one writer makes it. Nobody reads it
// before it is complete; if a change is refused it is dropped as a whole.
type draft struct {
	view  *View
	batch uint64 // owns the parts that the draft has copied
}

// Containers of subjects that are no groups: the types of those that stand for a
// system group, by the word in its id (SU-3).
var systemContainers = map[string]string{
	"organization-manager.organization": "organization",
	"organization-manager.federation":   "federation",
	"organization-manager.userpool":     "userpool",
}

const (
	groupContainer   = "organization-manager.group"
	accountsResource = "iam.serviceAccount"
)

// containerIdentity returns the subject that stands for the members of a container.
func containerIdentity(r Resource) (Subject, bool) {
	if r.Type == groupContainer {
		return Subject{Group, r.ID}, true
	}
	word, ok := systemContainers[r.Type]
	return Subject{System, strings.Join([]string{"group", word, r.ID, "users"}, ":")}, ok
}

// resourceIdentity returns the subject that a resource also is.
func resourceIdentity(r Resource) (Subject, bool) {
	if r.Type == accountsResource {
		return Subject{ServiceAccount, r.ID}, true
	}
	return containerIdentity(r)
}

// node returns what is known of a resource to write, and its leaf.
func (d *draft) node(number uint32) (*nodes, *node) {
	l, copied := d.view.nodes.edit(number>>leafBits, d.batch)
	if copied {
		l.own()
	}
	return l, &l.records[number&leafMask]
}

// record returns what is known of a subject to write.
func (d *draft) record(number uint32) *identity {
	l, _ := d.view.identities.edit(number>>leafBits, d.batch)
	return &l[number&leafMask]
}

func (d *draft) resource(r Resource) uint32 { return d.view.resources.add(name(r)) }

// number returns the number of a subject, which then has a kind.
func (d *draft) number(s Subject) uint32 {
	number := d.view.subjects.add(name(s))
	kind := kinds[s.Type]
	if i := d.view.identity(number); i == nil || i.kind != kind {
		d.record(number).kind = kind
	}
	return number
}

// subject returns the number of a subject and its record to write.
func (d *draft) subject(s Subject) (uint32, *identity) {
	number := d.number(s)
	return number, d.record(number)
}

func (c Place) apply(d *draft) error {
	self := d.resource(c.Resource)
	l, n := d.node(self)
	if n.standing == removed {
		return fmt.Errorf("place %v: it was removed: %w", c.Resource, ErrRefused)
	}
	var parent uint32
	if c.Parent != (Resource{}) {
		parent = d.resource(c.Parent)
	}
	if d.view.leadsThrough(parent, self) {
		return fmt.Errorf("place %v below %v, which is below it: %w", c.Resource, c.Parent, ErrRefused)
	}
	if parent != 0 {
		if _, p := d.view.node(parent); p != nil && p.standing == removed {
			return fmt.Errorf("place %v below %v, which was removed: %w", c.Resource, c.Parent, ErrRefused)
		}
	}
	d.sink(self, l, n)
	d.countChild(n.parent, -1)
	d.countChild(parent, +1)
	n.standing, n.parent = placed, parent
	d.lift(self, l, n)
	return nil
}

// countChild notes that a resource has come to have one more below it, or one fewer.
func (d *draft) countChild(parent uint32, by int) {
	if parent != 0 {
		l, _ := d.node(parent)
		children := &l.children[parent&leafMask]
		*children = uint32(int(*children) + by) //nolint:gosec // as many as there are
	}
}

func (c Remove) apply(d *draft) error {
	self := d.resource(c.Resource)
	l, n := d.node(self)
	if below := l.children[self&leafMask]; below != 0 {
		return fmt.Errorf("remove %v: %d resources are below it: %w", c.Resource, below, ErrRefused)
	}
	d.sink(self, l, n)
	d.countChild(n.parent, -1)
	l.clear(n, self)
	*n = node{standing: removed}
	if s, ok := resourceIdentity(c.Resource); ok {
		number, i := d.subject(s)
		i.gone = true
		d.regroup(number, i)
	}
	return nil
}

func (c Bind) apply(d *draft) error {
	role, known := d.view.rules.roles[c.Role]
	self := d.resource(c.Resource)
	if _, n := d.view.node(self); !known || n != nil && n.standing == removed {
		return nil
	}
	d.setGrant(self, grant{until: c.Until, subject: d.number(c.Subject), role: role})
	return nil
}

func (c Unbind) apply(d *draft) error {
	role, known := d.view.rules.roles[c.Role]
	on, who := d.view.resources.find(name(c.Resource)), d.view.subjects.find(name(c.Subject))
	if known && on != 0 && who != 0 {
		d.dropGrant(on, who, role)
	}
	return nil
}

func (c SetSubject) apply(d *draft) error {
	number, i := d.subject(c.Subject)
	if i.state == Deleted && c.State != Deleted {
		return fmt.Errorf("set subject %v: it was deleted: %w", c.Subject, ErrRefused)
	}
	i.state = c.State
	i.setEnd(c.Until)
	d.regroup(number, i)
	return nil
}

func (c Join) apply(d *draft) error {
	container, ok := containerIdentity(c.Container)
	if !ok {
		return nil
	}
	outer := d.number(container)
	inner, i := d.subject(c.Subject)
	i.setIn(with(i.in(), outer))
	d.nested(outer, inner, with)
	return nil
}

func (c Leave) apply(d *draft) error {
	container, ok := containerIdentity(c.Container)
	if !ok {
		return nil
	}
	outer := d.number(container)
	inner, i := d.subject(c.Subject)
	i.setIn(without(i.in(), outer))
	d.nested(outer, inner, without)
	return nil
}

// nested notes that a subject has come to or gone from a container, when both are
// groups.
func (d *draft) nested(outer, inner uint32, edit func([]uint32, uint32) []uint32) {
	o, i := d.record(outer), d.record(inner)
	if o.kind != group || i.kind != group {
		return
	}
	for _, g := range []*identity{o, i} {
		if g.nest() == nil {
			g.edit(func(m *more) { m.nest = &nest{} })
		}
	}
	was := o.nest()
	o.edit(func(m *more) { m.nest = &nest{above: was.above, below: edit(was.below, inner)} })
	d.regroup(outer, o) // and all that is below it now
	d.regroup(inner, i) // which may be below it no longer
}

// regroup computes anew which groups the members of a group are in, for it and
// for every group below it. Only groups that are nested need it.
func (d *draft) regroup(number uint32, i *identity) {
	if i.kind != group || i.nest() == nil {
		return
	}
	identity := d.view.identity
	within := func(g uint32) []uint32 { return identity(g).nest().below }
	around := func(g uint32) []uint32 {
		if i := identity(g); i.counts() {
			return i.in()
		}
		return nil
	}
	passesOn := func(g uint32) bool { return identity(g).kind == group && identity(g).counts() }
	for _, g := range reach(number, within) {
		above := slices.DeleteFunc(reach(g, around), func(n uint32) bool { return !passesOn(n) })
		r := d.record(g)
		below := r.nest().below
		r.edit(func(m *more) { m.nest = &nest{above: above, below: below} })
	}
}

// reach returns a number and all that can be reached from it, ordered.
func reach(from uint32, next func(uint32) []uint32) []uint32 {
	found := []uint32{from}
	seen := map[uint32]bool{from: true}
	for at := 0; at < len(found); at++ {
		for _, n := range next(found[at]) {
			if !seen[n] {
				seen[n] = true
				found = append(found, n)
			}
		}
	}
	slices.Sort(found)
	return found
}

// with returns an ordered copy of a list that has the number.
func with(in []uint32, number uint32) []uint32 {
	at, found := slices.BinarySearch(in, number)
	if found {
		return in
	}
	return slices.Concat(in[:at], []uint32{number}, in[at:])
}

// without returns an ordered copy of a list that lacks the number.
func without(in []uint32, number uint32) []uint32 {
	at, found := slices.BinarySearch(in, number)
	if !found {
		return in
	}
	return slices.Concat(in[:at], in[at+1:])
}
