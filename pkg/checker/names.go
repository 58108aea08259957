package checker

import (
	"hash/maphash"
	"sync/atomic"
)

// name is what a resource or a subject is called.
type name struct{ Type, ID string }

// names numbers what it is given, from 1 on; 0 is no name. Names are only added,
// and say nothing by themselves: a reader that meets one newer than its view
// finds no record under its number. So all views share one names, which readers
// may use while the one writer adds to it.
type names struct {
	seed  maphash.Seed
	table atomic.Pointer[nameTable]
	pages atomic.Pointer[[]*namePage]
	count uint32            // writer's: the last number given
	types map[string]string // writer's: one copy of each type
}

// nameTable is an open hash table of at most half-full slots: the upper half of a
// slot is that of the hash, the lower one the number.
type nameTable struct {
	mask  uint64
	slots []atomic.Uint64
}

type namePage [1 << pageBits]name

const (
	pageBits   = 10
	pageMask   = 1<<pageBits - 1
	firstTable = 64 // slots
	upperHalf  = uint64(0xffffffff) << 32
)

func newNames() *names {
	n := &names{seed: maphash.MakeSeed(), types: map[string]string{}}
	n.table.Store(newNameTable(firstTable))
	n.pages.Store(&[]*namePage{})
	return n
}

func newNameTable(slots int) *nameTable {
	return &nameTable{mask: uint64(slots) - 1, slots: make([]atomic.Uint64, slots)} //nolint:gosec // a power of two
}

// find returns the number of a name, 0 if it has none.
func (n *names) find(k name) uint32 {
	h := maphash.String(n.seed, k.ID)
	t := n.table.Load()
	for i := h & t.mask; ; i = (i + 1) & t.mask {
		slot := t.slots[i].Load()
		if slot == 0 {
			return 0
		}
		if (slot^h)&upperHalf == 0 && *n.at(uint32(slot)) == k { //nolint:gosec // the lower half
			return uint32(slot) //nolint:gosec // the lower half
		}
	}
}

// at returns the name of a number that find or add returned.
func (n *names) at(number uint32) *name {
	return &(*n.pages.Load())[number>>pageBits][number&pageMask]
}

// add returns the number of a name and gives it one if it has none.
func (n *names) add(k name) uint32 {
	if number := n.find(k); number != 0 {
		return number
	}
	n.count++
	if typ, ok := n.types[k.Type]; ok {
		k.Type = typ
	} else {
		n.types[k.Type] = k.Type
	}
	pages := *n.pages.Load()
	if int(n.count>>pageBits) == len(pages) {
		pages = append(pages[:len(pages):len(pages)], new(namePage))
		n.pages.Store(&pages)
	}
	pages[n.count>>pageBits][n.count&pageMask] = k
	t := n.table.Load()
	if uint64(n.count)*2 > t.mask {
		t = n.grown(t)
	}
	t.put(maphash.String(n.seed, k.ID), n.count) // after the name: who finds the slot finds the name
	n.table.Store(t)
	return n.count
}

// grown returns a table of twice the slots with the same names.
func (n *names) grown(t *nameTable) *nameTable {
	bigger := newNameTable(2 * len(t.slots))
	for i := range t.slots {
		if number := uint32(t.slots[i].Load()); number != 0 { //nolint:gosec // the lower half
			bigger.put(maphash.String(n.seed, n.at(number).ID), number)
		}
	}
	return bigger
}

func (t *nameTable) put(h uint64, number uint32) {
	i := h & t.mask
	for t.slots[i].Load() != 0 {
		i = (i + 1) & t.mask
	}
	t.slots[i].Store(h&upperHalf | uint64(number))
}
