package checker

const (
	leafBits = 5 // 32 records in a leaf
	twigBits = 8 // 256 leaves on a twig
	leafMask = 1<<leafBits - 1
	twigMask = 1<<twigBits - 1
)

// vector is an array of records that grows, as a shallow tree: versions of it
// share the leaves in which they do not differ. Records that were never set are
// zero. Reading is safe beside a writer, since a writer changes only leaves that
// it has made itself and that no reader has yet.
type vector[T any] struct{ twigs []*twig[T] }

type twig[T any] struct {
	owner  uint64 // the draft that made it
	leaves [1 << twigBits]*leaf[T]
}

type leaf[T any] struct {
	owner   uint64
	records [1 << leafBits]T
}

// at returns the record to read, nil if none was ever set near it.
func (v *vector[T]) at(i uint32) *T {
	if t := int(i >> (leafBits + twigBits)); t < len(v.twigs) && v.twigs[t] != nil {
		if l := v.twigs[t].leaves[i>>leafBits&twigMask]; l != nil {
			return &l.records[i&leafMask]
		}
	}
	return nil
}

// edit returns the record to write, in leaves of the draft's own. The pointer
// stays good as long as the draft.
func (v *vector[T]) edit(i uint32, owner uint64) *T {
	n := int(i >> (leafBits + twigBits))
	if n >= len(v.twigs) || v.twigs[n] == nil || v.twigs[n].owner != owner {
		v.own(n, owner)
	}
	slot := &v.twigs[n].leaves[i>>leafBits&twigMask]
	if *slot == nil || (*slot).owner != owner {
		mine := new(leaf[T])
		if *slot != nil {
			*mine = **slot
		}
		mine.owner = owner
		*slot = mine
	}
	return &(*slot).records[i&leafMask]
}

// own puts a copy of a twig in place; the list of twigs is copied too, since
// versions share it.
func (v *vector[T]) own(n int, owner uint64) {
	twigs := make([]*twig[T], max(len(v.twigs), n+1))
	copy(twigs, v.twigs)
	mine := new(twig[T])
	if twigs[n] != nil {
		*mine = *twigs[n]
	}
	mine.owner = owner
	twigs[n] = mine
	v.twigs = twigs
}
