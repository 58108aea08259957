package checker

import (
	"cmp"
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

func (g grant) compare(other grant) int {
	return cmp.Or(cmp.Compare(g.subject, other.subject), cmp.Compare(g.role, other.role))
}

// grants are those of one resource, ordered by subject and role. Versions share
// their slices; a change copies the one it falls into.
type grants struct {
	few  []grant
	many *buckets // in place of few on a resource with many
}

// buckets spreads many grants by subject, so that a change copies few of them.
type buckets struct {
	owner uint64 // the draft that made the list
	size  int
	list  [][]grant // their number is a power of two
}

const (
	fewGrants  = 64 // more than these are spread
	bucketFill = 32 // grants in a bucket at which the buckets are doubled
)

// of returns the slice that holds the grants of a subject, among others.
func (g *grants) of(subject uint32) []grant {
	if g.many != nil {
		return g.many.list[g.many.index(subject)]
	}
	return g.few
}

func (b *buckets) index(subject uint32) int { return int(subject) & (len(b.list) - 1) }

// size is how many there are.
func (g *grants) size() int {
	if g.many != nil {
		return g.many.size
	}
	return len(g.few)
}

// first returns where the grants of a subject begin in an ordered slice.
func first(in []grant, subject uint32) int {
	low, high := 0, len(in)
	for low < high {
		if mid := int(uint(low+high) >> 1); in[mid].subject < subject {
			low = mid + 1
		} else {
			high = mid
		}
	}
	return low
}

// set adds a grant or changes the end of it.
func (g *grants) set(one grant, owner uint64) {
	in := g.of(one.subject)
	at, found := slices.BinarySearchFunc(in, one, grant.compare)
	rest := in[at:]
	if found {
		rest = rest[1:]
	}
	g.store(one.subject, slices.Concat(in[:at], []grant{one}, rest), owner)
	if g.many == nil && len(g.few) > fewGrants || g.many != nil && g.many.size > bucketFill*len(g.many.list) {
		g.spread(owner)
	}
}

// drop takes a grant away.
func (g *grants) drop(one grant, owner uint64) {
	in := g.of(one.subject)
	at, found := slices.BinarySearchFunc(in, one, grant.compare)
	if !found {
		return
	}
	g.store(one.subject, slices.Concat(in[:at], in[at+1:]), owner)
}

// store puts a changed slice in the place of the one that of returned.
func (g *grants) store(subject uint32, in []grant, owner uint64) {
	if g.many == nil {
		g.few = in
		return
	}
	if g.many.owner != owner {
		g.many = &buckets{owner: owner, size: g.many.size, list: slices.Clone(g.many.list)}
	}
	slot := &g.many.list[g.many.index(subject)]
	g.many.size += len(in) - len(*slot)
	*slot = in
}

// spread puts the grants into twice the buckets, or into the first two.
func (g *grants) spread(owner uint64) {
	old := [][]grant{g.few}
	if g.many != nil {
		old = g.many.list
	}
	size := g.size()
	g.few, g.many = nil, &buckets{owner: owner, size: size, list: make([][]grant, 2*len(old))}
	for _, in := range old {
		for _, one := range in { // in order, so each bucket is ordered as well
			slot := &g.many.list[g.many.index(one.subject)]
			*slot = append(*slot, one)
		}
	}
}
