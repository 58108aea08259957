package checker

import (
	"iter"
	mathbits "math/bits"
	"slices"
)

// grant is a pair of role and subject in force on a resource until a time; 0 is
// no end.
type grant struct {
	until   int64
	subject uint32
	role    uint16
}

// current reports whether the grant counts at a time: what ends now has ended.
func (g grant) current(now int64) bool { return g.until == 0 || g.until > now }

// packed is a grant in eight bytes, since nearly all have no end.
type packed struct {
	subject uint32
	role    uint16
	end     uint16 // 0 for none, otherwise 1 + its place in the ends of the list
}

// grantList is grants in no order that matters, with the ends of those that have one.
type grantList struct {
	items []packed
	ends  []int64
}

// grant returns an item as a whole.
func (l *grantList) grant(p packed) grant {
	g := grant{subject: p.subject, role: p.role}
	if p.end != 0 {
		g.until = l.ends[p.end-1]
	}
	return g
}

// own makes the parts of a copied list one's own, with room for one more.
func (l *grantList) own() {
	if l.items != nil {
		l.items = append(make([]packed, 0, len(l.items)+1), l.items...)
	}
	l.ends = slices.Clone(l.ends)
}

func (l *grantList) insert(at int, g grant) {
	p := packed{subject: g.subject, role: g.role}
	if g.until != 0 {
		l.ends = append(l.ends, g.until)
		p.end = uint16(len(l.ends)) //nolint:gosec // a list holds some thousand items
	}
	l.items = slices.Insert(l.items, at, p)
}

// remove takes an item away. The last of the ends takes the place of its own.
func (l *grantList) remove(at int) {
	if end := l.items[at].end; end != 0 {
		last := uint16(len(l.ends)) //nolint:gosec // a list holds some thousand items
		l.ends[end-1] = l.ends[last-1]
		l.ends = l.ends[:last-1]
		if i := slices.IndexFunc(l.items, func(p packed) bool { return p.end == last }); i >= 0 {
			l.items[i].end = end
		}
	}
	l.items = slices.Delete(l.items, at, at+1)
}

// search returns the place of a pair in items, -1 when it is not there.
func search(items []packed, subject uint32, role uint16) int {
	for i := range items {
		if items[i].subject == subject && items[i].role == role {
			return i
		}
	}
	return -1
}

// spread is the grants of a resource that has many, in buckets by subject. It grows
// by one bucket at a time (linear hashing), so that a change touches two at most,
// however many there are.
type spread struct {
	buckets vector[grantList]
	count   uint32 // of the buckets in use
	size    int    // of the grants
}

const (
	fewGrants  = 64 // more than these are spread
	bucketFill = 16 // grants for each bucket
)

// bucket is where the grants of a subject are.
func (s *spread) bucket(subject uint32) uint32 {
	h := subject * 0x9e3779b1 // neighbours, and any stride, go apart
	h ^= h >> 16
	mask := uint32(1)<<mathbits.Len32(s.count-1) - 1
	if i := h & mask; i < s.count {
		return i
	}
	return h & (mask >> 1)
}

// of returns the list that holds the grants of a subject, among others.
func (s *spread) of(subject uint32) *grantList { return s.buckets.at(s.bucket(subject)) }

// edit returns a bucket to write.
func (s *spread) edit(i uint32, owner uint64) *grantList {
	l, copied := s.buckets.edit(i, owner)
	if copied {
		l.own()
	}
	return l
}

// add adds a grant, and a bucket where they are full.
func (s *spread) add(g grant, owner uint64) {
	l := s.edit(s.bucket(g.subject), owner)
	l.insert(len(l.items), g)
	s.size++
	if s.size > bucketFill*int(s.count) {
		s.split(owner)
	}
}

// split adds a bucket and moves into it what belongs there.
func (s *spread) split(owner uint64) {
	s.count++
	added := s.count - 1
	parent := added &^ (1 << (mathbits.Len32(added) - 1))
	from, to := s.edit(parent, owner), s.edit(added, owner)
	for i := 0; i < len(from.items); {
		g := from.grant(from.items[i])
		if s.bucket(g.subject) == parent {
			i++
			continue
		}
		from.remove(i)
		to.insert(len(to.items), g)
	}
}

// grantsOn goes through the grants on a resource, those that have ended included.
func (v *View) grantsOn(number uint32) iter.Seq[grant] {
	return func(yield func(grant) bool) {
		l, n := v.node(number)
		if n == nil {
			return
		}
		each := func(items []packed, list *grantList) bool {
			for _, p := range items {
				if !yield(list.grant(p)) {
					return false
				}
			}
			return true
		}
		r := l.exotic(n, number)
		if r == nil || r.many == nil {
			if n.subject == 0 || yield(n.first()) {
				each(l.of(n), &l.grants)
			}
			return
		}
		for i := range r.many.count {
			if b := r.many.buckets.at(i); b != nil && !each(b.items, b) {
				return
			}
		}
	}
}

// setGrant adds a grant to a resource, or changes the end of it.
func (d *draft) setGrant(number uint32, g grant) {
	d.dropGrant(number, g.subject, g.role)
	l, n := d.node(number)
	r := l.exotic(n, number)
	if r == nil || r.many == nil {
		if n.few < fewGrants {
			l.add(n, g)
			return
		}
		d.spreadOut(l, n, number)
		r = l.exotic(n, number)
	}
	d.ownMany(r).add(g, d.batch)
}

// dropGrant takes a pair away from a resource.
func (d *draft) dropGrant(number, subject uint32, role uint16) {
	if !d.view.holds(number, subject, role) { // most changes of a pair find none: nothing is copied
		return
	}
	l, n := d.node(number)
	if r := l.exotic(n, number); r != nil && r.many != nil {
		many := d.ownMany(r)
		b := many.edit(many.bucket(subject), d.batch)
		b.remove(search(b.items, subject, role))
		many.size--
		return
	}
	l.remove(n, subject, role)
}

// holds reports whether a pair is bound on a resource.
func (v *View) holds(number, subject uint32, role uint16) bool {
	l, n := v.node(number)
	if n == nil {
		return false
	}
	if r := l.exotic(n, number); r != nil && r.many != nil {
		b := r.many.of(subject)
		return b != nil && search(b.items, subject, role) >= 0
	}
	return n.subject == subject && n.role == role || search(l.of(n), subject, role) >= 0
}

// ownMany returns the many grants of a resource to write: their buckets are shared
// still.
func (d *draft) ownMany(r *rare) *spread {
	mine := *r.many
	r.many = &mine
	return r.many
}

// spreadOut gives a resource buckets for its grants.
func (d *draft) spreadOut(l *nodes, n *node, number uint32) {
	many := &spread{count: 1}
	for g := range d.view.grantsOn(number) {
		many.add(g, d.batch)
	}
	l.drain(n)
	l.setRare(n, number, func(r *rare) { r.many = many })
}
