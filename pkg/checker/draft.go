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

func (d *draft) node(number uint32) *node { return d.view.nodes.edit(number, d.batch) }

func (d *draft) resource(r Resource) uint32 { return d.view.resources.add(name(r)) }

// subject returns the number of a subject and its record to write.
func (d *draft) subject(s Subject) (uint32, *identity) {
	number := d.view.subjects.add(name(s))
	i := d.view.identities.edit(number, d.batch)
	i.kind = kinds[s.Type]
	return number, i
}

func (c Place) apply(d *draft) error {
	self := d.resource(c.Resource)
	n := d.node(self)
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
	if parent != 0 && d.node(parent).standing == removed {
		return fmt.Errorf("place %v below %v, which was removed: %w", c.Resource, c.Parent, ErrRefused)
	}
	if n.parent != 0 {
		d.node(n.parent).children--
	}
	if parent != 0 {
		d.node(parent).children++
	}
	n.standing, n.parent = placed, parent
	return nil
}

func (c Remove) apply(d *draft) error {
	n := d.node(d.resource(c.Resource))
	if n.children != 0 {
		return fmt.Errorf("remove %v: %d resources are below it: %w", c.Resource, n.children, ErrRefused)
	}
	if n.parent != 0 {
		d.node(n.parent).children--
	}
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
	n := d.node(d.resource(c.Resource))
	if !known || n.standing == removed {
		return nil
	}
	subject, _ := d.subject(c.Subject)
	n.grants.set(grant{until: c.Until, subject: subject, role: role}, d.batch)
	return nil
}

func (c Unbind) apply(d *draft) error {
	role, known := d.view.rules.roles[c.Role]
	if known {
		subject, _ := d.subject(c.Subject)
		d.node(d.resource(c.Resource)).grants.drop(grant{subject: subject, role: role}, d.batch)
	}
	return nil
}

func (c SetSubject) apply(d *draft) error {
	number, i := d.subject(c.Subject)
	if i.state == Deleted && c.State != Deleted {
		return fmt.Errorf("set subject %v: it was deleted: %w", c.Subject, ErrRefused)
	}
	i.state = c.State
	d.regroup(number, i)
	return nil
}

func (c Join) apply(d *draft) error {
	container, ok := containerIdentity(c.Container)
	if !ok {
		return nil
	}
	outer, _ := d.subject(container)
	inner, i := d.subject(c.Subject)
	i.in = with(i.in, outer)
	d.nested(outer, inner, with)
	return nil
}

func (c Leave) apply(d *draft) error {
	container, ok := containerIdentity(c.Container)
	if !ok {
		return nil
	}
	outer, _ := d.subject(container)
	inner, i := d.subject(c.Subject)
	i.in = without(i.in, outer)
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
		if g.nest == nil {
			g.nest = &nest{}
		}
	}
	o.nest = &nest{above: o.nest.above, below: edit(o.nest.below, inner)}
	d.regroup(outer, o) // and all that is below it now
	d.regroup(inner, i) // which may be below it no longer
}

func (d *draft) record(number uint32) *identity { return d.view.identities.edit(number, d.batch) }

// regroup computes anew which groups the members of a group are in, for it and
// for every group below it. Only groups that are nested need it.
func (d *draft) regroup(number uint32, i *identity) {
	if i.kind != group || i.nest == nil {
		return
	}
	identities := &d.view.identities
	within := func(g uint32) []uint32 { return identities.at(g).nest.below }
	around := func(g uint32) []uint32 {
		if i := identities.at(g); i.counts() {
			return i.in
		}
		return nil
	}
	passesOn := func(g uint32) bool { return identities.at(g).kind == group && identities.at(g).counts() }
	for _, g := range reach(number, within) {
		above := slices.DeleteFunc(reach(g, around), func(n uint32) bool { return !passesOn(n) })
		r := d.record(g)
		r.nest = &nest{above: above, below: r.nest.below}
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

func (c Deny) apply(d *draft) error {
	n := d.node(d.resource(c.Resource))
	if n.standing == removed {
		return nil
	}
	denied := denial{policy: c.Policy, permissions: newBits(len(d.view.rules.holders))}
	for _, permission := range c.Permissions {
		if p, known := d.view.rules.permissions[permission]; known {
			denied.permissions.add(p)
		}
	}
	kept := append(n.others(c.Policy), denied)
	n.denials = &kept
	return nil
}

func (c Undeny) apply(d *draft) error {
	n := d.node(d.resource(c.Resource))
	kept := n.others(c.Policy)
	n.denials = &kept
	if len(kept) == 0 {
		n.denials = nil
	}
	return nil
}

// others returns a copy of the denials of all policies but one.
func (n *node) others(policy string) []denial {
	if n.denials == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(*n.denials), func(d denial) bool { return d.policy == policy })
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
