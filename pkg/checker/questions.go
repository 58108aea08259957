package checker

import (
	"cmp"
	"slices"
	"strings"
	"sync/atomic"
)

// Questions about many subjects, resources or permissions. Each is answered by
// putting the question of Decide for every one that could be a yes, so that no
// answer differs from it (EX-10). They read one View and cost a pass over all subjects, or
// all resources, of it.

// Test returns those of the permissions that the view decides yes for, in their
// order, each once. q.Permission does not count.
func (v *View) Test(q Query, permissions []string) []string {
	var held []string
	seen := make(map[string]bool, len(permissions))
	for _, p := range permissions {
		if seen[p] {
			continue
		}
		seen[p] = true
		if q.Permission = p; v.Decide(q).Allowed {
			held = append(held, p)
		}
	}
	return held
}

// Subjects returns all subjects that the view decides yes for, ordered by type and
// id: those that act, groups expanded. q.Subject does not count.
func (v *View) Subjects(q Query) []Subject {
	permission, ok := v.rules.permissions[q.Permission]
	if !ok {
		return nil
	}
	holders := make(map[uint32]bool)
	for at := v.resources.find(name(q.Resource)); at != 0; {
		_, n := v.node(at)
		if n == nil || n.standing != placed {
			return nil
		}
		for g := range v.grantsOn(at) {
			if v.rules.holders[permission].has(uint32(g.role)) && g.current(q.Now) {
				holders[g.subject] = true
			}
		}
		at = n.parent
	}
	return v.having(holders, func(s Subject) bool {
		q.Subject = s
		return v.Decide(q).Allowed
	})
}

// Having returns the subjects that may act at a time and have one of the identities,
// ordered by type and id.
func (v *View) Having(now int64, identities ...Subject) []Subject {
	holders := make(map[uint32]bool)
	for _, s := range identities {
		if n := v.subjects.find(name(s)); n != 0 {
			holders[n] = true
		}
	}
	return v.having(holders, func(s Subject) bool { return v.MayAct(s, now) })
}

// having returns the subjects that have one of the identities and that are wanted.
func (v *View) having(holders map[uint32]bool, wanted func(Subject) bool) []Subject {
	var found []Subject
	if len(holders) == 0 {
		return nil
	}
	for number := range v.identities.size() * leafSize {
		i := v.identity(number)
		if i == nil || i.kind != person && i.kind != service || !v.belongs(number, i, holders) {
			continue
		}
		if s := Subject(v.subjects.at(number)); wanted(s) {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b Subject) int { return compareNames(name(a), name(b)) })
	return found
}

// belongs reports whether one of a subject's identities is among the holders. It may
// say yes for a group that does not count: whoever is found is decided by itself.
func (v *View) belongs(number uint32, i *identity, holders map[uint32]bool) bool {
	if holders[number] || holders[allUsers] || holders[allAuthenticatedUsers] {
		return true
	}
	for _, c := range i.in() {
		if holders[c] {
			return true
		}
		if container := v.identity(c); container != nil && container.nest() != nil {
			for _, above := range container.nest().above {
				if holders[above] {
					return true
				}
			}
		}
	}
	return false
}

// Resources returns all resources that the view decides yes for, ordered by type
// and id: those of a type, or of any when it is empty, at and below one, or anywhere
// when that is zero. q.Resource does not count.
func (v *View) Resources(q Query, typ string, within Resource) []Resource {
	permission, ok := v.rules.permissions[q.Permission]
	subject := v.subjects.find(name(q.Subject))
	who := v.identity(subject)
	if !ok || refusal(who, q.Now) != Granted {
		return nil
	}
	c := census{
		view: v, seen: make([]place, v.nodes.size()*leafSize),
		walk: walk{permission: permission, holders: v.rules.holders[permission], now: q.Now, holder: newHolder(v.gather(nil, subject, who))},
	}
	if within != (Resource{}) {
		if c.top = v.resources.find(name(within)); c.top == 0 {
			return nil
		}
	}
	var found []Resource
	for number := range v.nodes.size() * leafSize {
		if c.look(number)&(granted|inside) != granted|inside {
			continue
		}
		q.Resource = Resource(v.resources.at(number))
		if (typ == "" || q.Resource.Type == typ) && v.Decide(q).Allowed {
			found = append(found, q.Resource)
		}
	}
	slices.SortFunc(found, func(a, b Resource) int { return compareNames(name(a), name(b)) })
	return found
}

// census looks at every resource once.
type census struct {
	view *View
	walk walk
	top  uint32 // 0 for all
	seen []place
}

// place is what is known of one resource.
type place uint8

const (
	looked  place = 1 << iota
	granted       // something is granted on it or above it
	inside        // it is the top or below it
)

func (c *census) look(number uint32) place {
	l, n := c.view.node(number)
	if n == nil || n.standing != placed {
		return 0
	}
	if c.seen[number]&looked != 0 {
		return c.seen[number]
	}
	found := looked
	if n.parent != 0 {
		found |= c.look(n.parent)
	}
	if c.top == 0 || number == c.top {
		found |= inside
	}
	if found&granted == 0 && c.walk.grantedOn(l, n, l.exotic(n, number), number) {
		found |= granted
	}
	c.seen[number] = found
	return found
}

// RolesOn returns the roles in force that the subject of a question has on its
// resource, bound there or above, ordered, each once: those of all its identities if
// it may act, its own alone if it is a group of any kind, else none. They are found by
// the walk of the decision, which takes every role for one that fits.
func (v *View) RolesOn(q Query) []string {
	number := v.subjects.find(name(q.Subject))
	who := v.identity(number)
	ids := []uint32{number}
	switch {
	case refusal(who, q.Now) == Granted:
		ids = v.gather(nil, number, who)
	case who == nil || who.kind != group && who.kind != system || !who.counts():
		return nil
	}
	every := newBits(len(v.rules.names))
	for i := range every {
		every[i] = ^uint64(0)
	}
	var t trail
	v.ascend(&walk{holders: every, now: q.Now, holder: newHolder(ids), trail: &t}, v.resources.find(name(q.Resource)))
	var roles []string
	for _, g := range t.grants {
		roles = append(roles, v.rules.names[g.role])
	}
	slices.Sort(roles)
	return slices.Compact(roles)
}

// DeniedOn reports whether an access policy denies a permission on a resource, roles
// aside. It takes the walk of the decision without any identity.
func (v *View) DeniedOn(r Resource, permission string) bool {
	p, ok := v.rules.permissions[permission]
	if !ok {
		return false
	}
	var t trail
	v.ascend(&walk{permission: p, holders: v.rules.holders[p], trail: &t}, v.resources.find(name(r)))
	return len(t.denials) > 0
}

// Bound reports whether a pair is in force on the resource itself at a time.
func (v *View) Bound(r Resource, role string, s Subject, now int64) bool {
	number, known := v.rules.roles[role]
	on, who := v.resources.find(name(r)), v.subjects.find(name(s))
	if _, n := v.node(on); !known || n == nil || who == 0 {
		return false
	}
	for g := range v.grantsOn(on) {
		if g.subject == who && g.role == number && g.current(now) {
			return true
		}
	}
	return false
}

// forks numbers the drafts of Rebound, from above the numbers of any graph.
var forks atomic.Uint64

// Rebound returns the view as it would be with some pairs bound or unbound. Nobody
// else sees it. Pairs of a resource or a subject that the view does not know are left
// out: they grant nothing.
func (v *View) Rebound(pairs ...Change) (*View, error) {
	next := *v
	d := &draft{view: &next, batch: 1<<63 | forks.Add(1)}
	for _, c := range pairs {
		var on Resource
		var who Subject
		switch c := c.(type) {
		case Bind:
			on, who = c.Resource, c.Subject
		case Unbind:
			on, who = c.Resource, c.Subject
		default:
			return nil, ErrRefused
		}
		// The names are shared with the graph, whose writer alone may add to them.
		if v.resources.find(name(on)) == 0 || v.subjects.find(name(who)) == 0 {
			continue
		}
		if err := c.apply(d); err != nil {
			return nil, err
		}
	}
	return d.view, nil
}

// Empty returns a graph without facts of the same catalogue.
func (g *Graph) Empty() *Graph {
	e := &Graph{rules: g.rules}
	e.view.Store(newView(g.rules, 0))
	return e
}

func compareNames(a, b name) int {
	return cmp.Or(strings.Compare(a.Type, b.Type), strings.Compare(a.ID, b.ID))
}
