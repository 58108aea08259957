package checker

import (
	"cmp"
	"slices"
)

// Decide answers a question. It allocates nothing as long as the subject has at
// most 64 identities.
func (v *View) Decide(q Query) Decision {
	reason := v.decide(&q, v.resources.find(name(q.Resource)), nil)
	return Decision{Allowed: reason == Granted, Reason: reason, Revision: v.revision}
}

// Explain answers a question and shows what the answer rests on. It takes the same
// walk as Decide, so that it cannot differ from it.
func (v *View) Explain(q Query) Explanation {
	var t trail
	reason := v.decide(&q, v.resources.find(name(q.Resource)), &t)
	e := Explanation{
		Decision: Decision{Allowed: reason == Granted, Reason: reason, Revision: v.revision},
		Path:     v.Path(q.Resource),
	}
	for _, g := range t.grants {
		e.Grants = append(e.Grants, Grant{
			Role: v.rules.names[g.role], Until: g.until,
			Resource: Resource(v.resources.at(g.on)), By: v.chain(v.subjects.find(name(q.Subject)), g.subject),
		})
	}
	for _, d := range t.denials {
		e.Denials = append(e.Denials, Denial{Policy: d.policy, Resource: Resource(v.resources.at(d.on))})
	}
	return e
}

// trail is what a walk has found. A walk without one stops looking for grants at
// the first.
type trail struct {
	grants  []foundGrant
	denials []*denial
}

type foundGrant struct {
	grant
	on uint32
}

// order orders what was found on a resource, the last one walked over, by subject.
func (t *trail) order(on uint32) {
	if t == nil {
		return
	}
	from := len(t.grants)
	for from > 0 && t.grants[from-1].on == on {
		from--
	}
	slices.SortFunc(t.grants[from:], func(a, b foundGrant) int {
		return cmp.Or(cmp.Compare(a.subject, b.subject), cmp.Compare(a.role, b.role))
	})
}

// walk is one decision under way: who holds the roles that hold the permission.
type walk struct {
	holders    bits // roles that hold the permission
	permission uint32
	now        int64
	holder            // who asks
	trail      *trail // nil: only the answer matters
}

// holder is a subject that may act, with its identities: ordered when they are more
// than fewIdentities.
type holder struct {
	ids   []uint32
	among uint64 // bit n is set when an identity ends with the six bits n
}

// newHolder is the holder with these identities.
func newHolder(ids []uint32) holder {
	h := holder{ids: ids}
	for _, id := range ids {
		h.among |= 1 << (id & 63)
	}
	return h
}

// is reports whether a subject is one of the identities.
func (h *holder) is(subject uint32) bool {
	if h.among&(1<<(subject&63)) == 0 {
		return false
	}
	if len(h.ids) > fewIdentities {
		_, ok := slices.BinarySearch(h.ids, subject)
		return ok
	}
	return slices.Contains(h.ids, subject)
}

// decide is the decision of the package comment, about the resource of a number;
// Granted is its only yes.
func (v *View) decide(q *Query, on uint32, t *trail) Reason {
	permission, ok := v.rules.permissions[q.Permission]
	if !ok {
		return PermissionUnknown
	}
	if v.TokenRevoked(q.Token) || v.TokenRevoked(q.Session) {
		return TokenRevoked
	}
	subject := v.subjects.find(name(q.Subject))
	i := v.identity(subject)
	if reason := refusal(i, q.Now); reason != Granted {
		return reason
	}
	var room [64]uint32
	w := walk{
		permission: permission, holders: v.rules.holders[permission], now: q.Now,
		holder: newHolder(v.gather(room[:0], subject, i)), trail: t,
	}
	return v.ascend(&w, on)
}

// ascend walks from the resource to the root: a grant anywhere on the way grants
// (RH-3, RH-4), a denial anywhere denies (AP-1), so does one below that protects the
// resource itself (AP-8), and the way must be whole.
func (v *View) ascend(w *walk, from uint32) Reason {
	granted, denied := false, false
	at := from
	for {
		l, n := v.node(at)
		switch {
		case n == nil || n.standing == neverPlaced:
			return ResourceUnknown
		case n.standing == removed:
			return ResourceDeleted
		}
		r := l.exotic(n, at)
		if !granted || w.trail != nil {
			granted = w.grantedOn(l, n, r, at) || granted
			w.trail.order(at)
		}
		if r != nil && r.policies != nil {
			denied = w.deniedBy(r.policies.own) || denied
			if at == from {
				denied = w.deniedBy(r.policies.below) || denied
			}
		}
		if n.parent == 0 {
			break
		}
		at = n.parent
	}
	switch {
	case granted && denied:
		return DeniedByPolicy
	case granted:
		return Granted
	default:
		return NoGrant
	}
}

// grantedOn looks for a grant on one resource. Few grants are gone through; of many
// only the buckets of the identities are, or all where those are fewer.
func (w *walk) grantedOn(l *nodes, n *node, r *rare, at uint32) bool {
	if r == nil || r.many == nil {
		first := n.subject != 0 && w.holders.has(uint32(n.role)) && w.is(n.subject) && w.take(n.first(), at)
		if n.few == 0 || first && w.trail == nil {
			return first
		}
		return w.scan(l.of(n), &l.grants, at) || first
	}
	granted, many := false, r.many
	if int(many.count) <= len(w.ids) {
		for i := range many.count {
			if b := many.buckets.at(i); b != nil {
				granted = w.scan(b.items, b, at) || granted
			}
		}
		return granted
	}
	for _, id := range w.ids {
		b := many.of(id)
		if b == nil {
			continue
		}
		for i := range b.items {
			p := &b.items[i]
			if p.subject == id && w.holders.has(uint32(p.role)) && w.take(b.grant(*p), at) {
				granted = true
			}
		}
		if granted && w.trail == nil {
			return true
		}
	}
	return granted
}

// scan looks for grants among all those of a list.
func (w *walk) scan(items []packed, in *grantList, at uint32) bool {
	granted := false
	for i := range items {
		p := &items[i]
		if w.holders.has(uint32(p.role)) && w.is(p.subject) && w.take(in.grant(*p), at) {
			granted = true
		}
	}
	return granted
}

// take reports whether a grant that fits counts now, and notes it if it does.
func (w *walk) take(g grant, at uint32) bool {
	if !g.current(w.now) {
		return false
	}
	if w.trail != nil {
		w.trail.grants = append(w.trail.grants, foundGrant{g, at})
	}
	return true
}

// chain leads from a subject by its memberships to one of its identities, by the
// shortest way.
func (v *View) chain(subject, identity uint32) []Subject {
	from := map[uint32]uint32{subject: 0}
	queue := []uint32{subject}
	for len(queue) > 0 && from[identity] == 0 && identity != subject {
		at := queue[0]
		queue = queue[1:]
		for _, c := range v.identity(at).in() {
			if _, seen := from[c]; !seen && v.identity(c).counts() {
				from[c] = at
				queue = append(queue, c)
			}
		}
	}
	chain := []Subject{Subject(v.subjects.at(identity))}
	for at := identity; at != subject; {
		if at = from[at]; at == 0 { // the public groups have no list of members
			at = subject
		}
		chain = append(chain, Subject(v.subjects.at(at)))
	}
	slices.Reverse(chain)
	return chain
}
