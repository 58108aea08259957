package checker

import "slices"

// Decide answers a question. It allocates nothing as long as the subject has at
// most 64 identities.
func (v *View) Decide(q Query) Decision {
	reason := v.decide(&q, nil)
	return Decision{Allowed: reason == Granted, Reason: reason, Revision: v.revision}
}

// Explain answers a question and shows what the answer rests on. It takes the same
// walk as Decide, so that it cannot differ from it.
func (v *View) Explain(q Query) Explanation {
	var t trail
	reason := v.decide(&q, &t)
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
	denials []foundDenial
}

type foundGrant struct {
	grant
	on uint32
}

type foundDenial struct {
	policy string
	on     uint32
}

// walk is one decision under way: who holds the roles that hold the permission.
type walk struct {
	permission uint32
	holders    bits // roles that hold the permission
	now        int64
	ids        []uint32 // identities of the subject, ordered
	trail      *trail   // nil: only the answer matters
}

// decide is the decision of the package comment; Granted is its only yes.
func (v *View) decide(q *Query, t *trail) Reason {
	permission, ok := v.rules.permissions[q.Permission]
	if !ok {
		return PermissionUnknown
	}
	if q.Token != (TokenID{}) && v.tokens.has(q.Token) {
		return TokenRevoked
	}
	subject := v.subjects.find(name(q.Subject))
	who := v.identities.at(subject)
	if reason := refusal(who); reason != Granted {
		return reason
	}
	var room [64]uint32
	w := walk{
		permission: permission, holders: v.rules.holders[permission], now: q.Now,
		ids: v.gather(room[:0], subject, who), trail: t,
	}
	return v.ascend(&w, v.resources.find(name(q.Resource)))
}

// ascend walks from the resource to the root: a grant anywhere on the way grants
// (RH-3, RH-4), a denial anywhere denies (AP-1), and the way must be whole.
func (v *View) ascend(w *walk, at uint32) Reason {
	granted, denied := false, false
	for {
		n := v.nodes.at(at)
		switch {
		case n == nil || n.standing == neverPlaced:
			return ResourceUnknown
		case n.standing == removed:
			return ResourceDeleted
		}
		if !granted || w.trail != nil {
			granted = w.grantedOn(n, at) || granted
		}
		if n.denials != nil {
			denied = w.deniedOn(*n.denials, at) || denied
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

// grantedOn looks for a grant on one resource: by going through its grants or
// through the identities, whichever are fewer.
func (w *walk) grantedOn(n *node, at uint32) bool {
	granted := false
	if n.grants.size() <= len(w.ids) {
		if n.grants.many == nil {
			return w.scan(n.grants.few, at)
		}
		for _, in := range n.grants.many.list {
			granted = w.scan(in, at) || granted
		}
		return granted
	}
	for _, id := range w.ids {
		in := n.grants.of(id)
		for _, g := range in[first(in, id):] {
			if g.subject != id {
				break
			}
			if w.holders.has(uint32(g.role)) && w.take(g, at) {
				granted = true
			}
		}
		if granted && w.trail == nil {
			return true
		}
	}
	return granted
}

// scan looks for grants among all those of a slice.
func (w *walk) scan(in []grant, at uint32) bool {
	granted := false
	for i := range in {
		if w.holders.has(uint32(in[i].role)) && w.has(in[i].subject) && w.take(in[i], at) {
			granted = true
		}
	}
	return granted
}

// has reports whether a subject is one of the identities.
func (w *walk) has(subject uint32) bool {
	if len(w.ids) > 16 {
		_, ok := slices.BinarySearch(w.ids, subject)
		return ok
	}
	return slices.Contains(w.ids, subject)
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

// deniedOn reports whether an access policy on one resource denies the permission.
func (w *walk) deniedOn(denials []denial, at uint32) bool {
	denied := false
	for _, d := range denials {
		if d.permissions.has(w.permission) {
			denied = true
			if w.trail != nil {
				w.trail.denials = append(w.trail.denials, foundDenial{d.policy, at})
			}
		}
	}
	return denied
}

// chain leads from a subject by its memberships to one of its identities, by the
// shortest way.
func (v *View) chain(subject, identity uint32) []Subject {
	from := map[uint32]uint32{subject: 0}
	queue := []uint32{subject}
	for len(queue) > 0 && from[identity] == 0 && identity != subject {
		at := queue[0]
		queue = queue[1:]
		for _, c := range v.identities.at(at).in {
			if _, seen := from[c]; !seen && v.identities.at(c).counts() {
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
