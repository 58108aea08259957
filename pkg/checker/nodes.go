package checker

import "slices"

// nodes are 32 resources whose numbers follow one another, with all that is known of
// them. They are one leaf of a vector: nearly free of pointers, so that a million
// costs the garbage collector little, and small, so that a change copies little.
type nodes struct {
	records  [leafSize]node
	children [leafSize]uint32 // how many have each of them for a parent; no decision asks
	grants   grantList        // of all that have few, those of each one after the other
	rare     []rare           // of the few resources that have it
}

// node is what is known of one resource: four of them in one line of the memory, each
// with one grant, so that a step of most walks is one visit there.
type node struct {
	parent   uint32 // 0 for none
	subject  uint32 // of a grant that has no end, kept here in place of the leaf; 0 for none
	role     uint16 // of that grant
	from     uint16 // where the others begin in the grants of the leaf
	few      uint8  // how many they are
	standing standing
	rare     bool // it has a rare
}

// first is the grant that the record holds itself; its subject is 0 for none.
func (n *node) first() grant { return grant{subject: n.subject, role: n.role} }

// rare is what few resources have.
type rare struct {
	slot     uint8     // of the resource in the leaf
	many     *spread   // its grants, in place of few
	policies *policies // nil for none
}

// standing says whether a resource is in its tree.
type standing uint8

const (
	neverPlaced standing = iota
	placed
	removed
)

// own makes the parts of a copied leaf the draft's own.
func (l *nodes) own() {
	l.grants.own()
	l.rare = slices.Clone(l.rare)
}

// of returns the grants of a resource that has few, but for the first.
func (l *nodes) of(n *node) []packed {
	return l.grants.items[n.from : int(n.from)+int(n.few)]
}

// exotic returns what is rare of a resource, nil for none.
func (l *nodes) exotic(n *node, number uint32) *rare {
	if n.rare {
		for i := range l.rare {
			if l.rare[i].slot == uint8(number&leafMask) {
				return &l.rare[i]
			}
		}
	}
	return nil
}

// policies are those of a resource, nil for none.
func (l *nodes) policies(n *node, number uint32) *policies {
	if r := l.exotic(n, number); r != nil {
		return r.policies
	}
	return nil
}

// setRare lets edit write what is rare of a resource, and drops it when nothing is left.
func (l *nodes) setRare(n *node, number uint32, edit func(*rare)) {
	r := l.exotic(n, number)
	if r == nil {
		l.rare = append(l.rare, rare{slot: uint8(number & leafMask)})
		r, n.rare = &l.rare[len(l.rare)-1], true
	}
	edit(r)
	if r.many == nil && r.policies == nil {
		n.rare = false
		l.rare = slices.DeleteFunc(l.rare, func(r rare) bool { return r.slot == uint8(number&leafMask) })
	}
}

// add adds a grant to a resource that has few.
func (l *nodes) add(n *node, g grant) {
	if g.until == 0 && n.subject == 0 {
		n.subject, n.role = g.subject, g.role
		return
	}
	at := uint16(len(l.grants.items)) //nolint:gosec // 32 times 64 at most
	if n.few == 0 {
		n.from = at
	} else {
		at = n.from + uint16(n.few)
	}
	l.shift(n, at, +1)
	l.grants.insert(int(at), g)
	n.few++
}

// remove takes away a grant that a resource has among few.
func (l *nodes) remove(n *node, subject uint32, role uint16) {
	if n.subject == subject && n.role == role {
		n.subject, n.role = 0, 0
		return
	}
	l.removeAt(n, int(n.from)+search(l.of(n), subject, role))
}

// removeAt takes away the grant at a place among those of the leaf.
func (l *nodes) removeAt(n *node, at int) {
	l.grants.remove(at)
	n.few--
	l.shift(n, uint16(at)+1, -1) //nolint:gosec // 32 times 64 at most
	if n.few == 0 {
		n.from = 0
	}
}

// shift moves what the other resources of the leaf have from a place on.
func (l *nodes) shift(but *node, from uint16, by int) {
	for i := range l.records {
		if r := &l.records[i]; r != but && r.few > 0 && r.from >= from {
			r.from = uint16(int(r.from) + by) //nolint:gosec // 32 times 64 at most
		}
	}
}

// drain takes away the few grants of a resource.
func (l *nodes) drain(n *node) {
	n.subject, n.role = 0, 0
	for n.few > 0 {
		l.removeAt(n, int(n.from)+int(n.few)-1)
	}
}

// clear takes away the grants of a resource, and what is rare of it.
func (l *nodes) clear(n *node, number uint32) {
	l.drain(n)
	if n.rare {
		l.setRare(n, number, func(r *rare) { r.many, r.policies = nil, nil })
	}
}
