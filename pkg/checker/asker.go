package checker

// Spot is a resource of a view. It is for who walks the tree many times a second:
// nothing of it allocates.
type Spot struct {
	view   *View
	number uint32
}

// Find returns a resource that is in its tree; false for one that is unknown or
// removed.
func (v *View) Find(r Resource) (Spot, bool) {
	number := v.resources.find(name(r))
	_, n := v.node(number)
	return Spot{v, number}, n != nil && n.standing == placed
}

// Up returns the resource above; false at the root, and where the one above is not
// placed.
func (s Spot) Up() (Spot, bool) {
	_, n := s.view.node(s.number)
	if n.parent == 0 {
		return Spot{}, false
	}
	_, p := s.view.node(n.parent)
	return Spot{s.view, n.parent}, p != nil && p.standing == placed
}

// Is reports whether the resource has a name.
func (s Spot) Is(r Resource) bool {
	return s.view.resources.is(s.view.resources.record(s.number), name(r))
}

// Type is the type of the resource.
func (s Spot) Type() string {
	return s.view.resources.types.all()[s.view.resources.record(s.number).typ]
}

// AppendID appends the id of the resource.
func (s Spot) AppendID(to []byte) []byte {
	r := s.view.resources.record(s.number)
	if r.size == longID {
		return append(to, s.view.resources.of(r).ID...)
	}
	return append(to, r.id[:r.size]...)
}

// IDLen is how many bytes AppendID appends.
func (s Spot) IDLen() int {
	r := s.view.resources.record(s.number)
	if r.size == longID {
		return len(s.view.resources.of(r).ID)
	}
	return int(r.size)
}

// DecideAt answers a question about a resource that was found in the view; the one
// that the query names does not count.
func (v *View) DecideAt(q *Query, at Spot) Reason { return v.decide(q, at.number, nil) }

// Asker answers many questions about one subject: who it is and what its identities
// are is looked up once. Its answers are those of Decide of the same view. It is for
// one goroutine.
type Asker struct {
	view       *View
	permission string // that the walk is for; known says whether there is such a one
	known      bool
	refused    Reason // Granted when the subject may act
	walk       walk
}

// Ask begins with the questions of a subject, at a time, by a token. What an earlier
// use of the Asker has gathered room for is used again.
func (a *Asker) Ask(v *View, who Subject, now int64, token, session TokenID) {
	a.Drop()
	a.view = v
	if v.TokenRevoked(token) || v.TokenRevoked(session) {
		a.refused = TokenRevoked
		return
	}
	number := v.subjects.find(name(who))
	i := v.identity(number)
	if a.refused = refusal(i, now); a.refused == Granted {
		a.walk = walk{now: now, holder: newHolder(v.gather(a.walk.ids, number, i))}
	}
}

// Drop forgets the view and the subject.
func (a *Asker) Drop() { *a = Asker{walk: walk{holder: holder{ids: a.walk.ids[:0]}}} }

// Decide answers one question.
func (a *Asker) Decide(permission string, at Spot) Reason {
	if permission != a.permission || a.permission == "" {
		a.permission = permission
		if a.walk.permission, a.known = a.view.rules.permissions[permission]; a.known {
			a.walk.holders = a.view.rules.holders[a.walk.permission]
		}
	}
	switch {
	case !a.known:
		return PermissionUnknown
	case a.refused != Granted:
		return a.refused
	default:
		return a.view.ascend(&a.walk, at.number)
	}
}
