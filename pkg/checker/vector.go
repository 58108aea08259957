package checker

const (
	leafBits = 5 // 32 records in a leaf
	leafSize = 1 << leafBits
	leafMask = leafSize - 1
	twigBits = 8 // 256 leaves on a twig
	twigMask = 1<<twigBits - 1
)

// vector is an array of leaves that grows, as a shallow tree: versions of it share
// the leaves in which they do not differ. Leaves that were never written are nil.
// Reading is safe beside a writer, since a writer changes only leaves that it has
// made itself and that no reader has yet.
type vector[L any] struct{ twigs []*twig[L] }

type twig[L any] struct {
	owner  uint64 // the draft that made it
	leaves [1 << twigBits]*leaf[L]
}

// leaf begins with its data, so that records of 16 or 32 bytes lie within the lines of
// the memory.
type leaf[L any] struct {
	data  L
	owner uint64
}

// at returns a leaf to read, nil if it was never written.
func (v *vector[L]) at(i uint32) *L {
	if t := int(i >> twigBits); t < len(v.twigs) && v.twigs[t] != nil {
		if l := v.twigs[t].leaves[i&twigMask]; l != nil {
			return &l.data
		}
	}
	return nil
}

// edit returns a leaf to write, the draft's own; copied says that it has just become
// so, and that what its data leads to is shared still. The pointer stays good as long
// as the draft.
func (v *vector[L]) edit(i uint32, owner uint64) (data *L, copied bool) {
	n := int(i >> twigBits)
	if n >= len(v.twigs) || v.twigs[n] == nil || v.twigs[n].owner != owner {
		v.own(n, owner)
	}
	slot := &v.twigs[n].leaves[i&twigMask]
	if *slot != nil && (*slot).owner == owner {
		return &(*slot).data, false
	}
	mine := new(leaf[L])
	if *slot != nil {
		*mine = **slot
	}
	mine.owner = owner
	*slot = mine
	return &mine.data, true
}

// own puts a copy of a twig in place; the list of twigs is copied too, since
// versions share it.
func (v *vector[L]) own(n int, owner uint64) {
	twigs := make([]*twig[L], max(len(v.twigs), n+1))
	copy(twigs, v.twigs)
	mine := new(twig[L])
	if twigs[n] != nil {
		*mine = *twigs[n]
	}
	mine.owner = owner
	twigs[n] = mine
	v.twigs = twigs
}

// size is above the number of every leaf that was written.
func (v *vector[L]) size() uint32 {
	return uint32(len(v.twigs)) << twigBits //nolint:gosec // numbers are of 32 bits
}
