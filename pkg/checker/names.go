package checker

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync/atomic"
)

// name is what a resource or a subject is called.
type name struct{ Type, ID string }

// names numbers what it is given, from 1 on; 0 is no name. Names are only added,
// and say nothing by themselves: a reader that meets one newer than its view
// finds no record under its number. So all views share one names, which readers
// may use while the one writer adds to it: what a slot of the table leads to was
// written before the slot, and is never written again.
type names struct {
	seed   maphash.Seed
	tables [tableCount]atomic.Pointer[nameTable] // by the highest bits of the hash; nil while empty
	pages  list[*namePage]
	types  list[string]
	long   list[string] // ids that do not fit into a record
	count  uint32       // writer's: the last number given
}

// nameTable is an open hash table, at most three quarters full: the upper half of a
// slot is that of the hash, the lower one the number. There are many of them, so that
// the one that must grow is small and no writer is held up for long.
type nameTable struct {
	mask  uint64
	slots []atomic.Uint64
	count int // writer's: the slots in use
}

type namePage [1 << pageBits]nameRecord

// nameRecord holds a name in one place of the memory, so that comparing it costs
// one visit there.
type nameRecord struct {
	typ  uint32 // index in types
	size uint8  // of the id; longID when it is elsewhere
	id   [27]byte
}

const (
	pageBits   = 10
	pageMask   = 1<<pageBits - 1
	firstTable = 8   // slots
	tableCount = 256 // tables
	tableShift = 64 - 8
	upperHalf  = uint64(0xffffffff) << 32
	longID     = 0xff // the first bytes of id are its index in long
)

// list grows at its end while others read it.
type list[T any] struct{ items atomic.Pointer[[]T] }

func (l *list[T]) all() []T {
	if items := l.items.Load(); items != nil {
		return *items
	}
	return nil
}

func (l *list[T]) add(item T) {
	items := append(l.all(), item)
	l.items.Store(&items)
}

func newNames() *names {
	return &names{seed: maphash.MakeSeed()}
}

func newNameTable(slots int) *nameTable {
	return &nameTable{mask: uint64(slots) - 1, slots: make([]atomic.Uint64, slots)} //nolint:gosec // a power of two
}

// find returns the number of a name, 0 if it has none.
func (n *names) find(k name) uint32 {
	h := maphash.String(n.seed, k.ID)
	t := n.tables[h>>tableShift].Load()
	if t == nil {
		return 0
	}
	for i := h & t.mask; ; i = (i + 1) & t.mask {
		slot := t.slots[i].Load()
		if slot == 0 {
			return 0
		}
		if (slot^h)&upperHalf != 0 {
			continue
		}
		number := uint32(slot) //nolint:gosec // the lower half
		if n.is(n.record(number), k) {
			return number
		}
	}
}

func (n *names) record(number uint32) *nameRecord {
	return &n.pages.all()[number>>pageBits][number&pageMask]
}

// is reports whether a record is that of a name.
func (n *names) is(r *nameRecord, k name) bool {
	if r.size == longID {
		return len(k.ID) > len(r.id) && n.of(r) == k
	}
	return string(r.id[:r.size]) == k.ID && n.types.all()[r.typ] == k.Type
}

// at returns the name of a number that find or add returned.
func (n *names) at(number uint32) name { return n.of(n.record(number)) }

// of returns the name that a record holds.
func (n *names) of(r *nameRecord) name {
	typ := n.types.all()[r.typ]
	if r.size == longID {
		return name{typ, n.long.all()[binary.LittleEndian.Uint32(r.id[:])]}
	}
	return name{typ, string(r.id[:r.size])}
}

// add returns the number of a name and gives it one if it has none.
func (n *names) add(k name) uint32 {
	if number := n.find(k); number != 0 {
		return number
	}
	n.count++
	if int(n.count>>pageBits) == len(n.pages.all()) {
		n.pages.add(new(namePage))
	}
	*n.record(n.count) = n.write(k)
	h := maphash.String(n.seed, k.ID)
	at := &n.tables[h>>tableShift]
	t := n.roomy(at.Load())
	t.put(h, n.count)
	at.Store(t)
	return n.count
}

// write makes the record of a name, and what it leads to.
func (n *names) write(k name) (r nameRecord) {
	typ := slices.Index(n.types.all(), k.Type)
	if typ < 0 {
		typ = len(n.types.all())
		n.types.add(k.Type)
	}
	r.typ = uint32(typ) //nolint:gosec // fewer than names
	if len(k.ID) <= len(r.id) {
		r.size = uint8(copy(r.id[:], k.ID)) //nolint:gosec // fits
		return r
	}
	r.size = longID
	binary.LittleEndian.PutUint32(r.id[:], uint32(len(n.long.all()))) //nolint:gosec // numbers are of 32 bits
	n.long.add(k.ID)
	return r
}

// roomy returns a table that has room for one more name: itself, or one of twice the
// slots with the same names.
func (n *names) roomy(t *nameTable) *nameTable {
	if t == nil {
		return newNameTable(firstTable)
	}
	if t.count < len(t.slots)*3/4 {
		return t
	}
	bigger := newNameTable(2 * len(t.slots))
	for i := range t.slots {
		if number := uint32(t.slots[i].Load()); number != 0 { //nolint:gosec // the lower half
			bigger.put(n.hash(number), number)
		}
	}
	return bigger
}

// hash is that of the name of a number.
func (n *names) hash(number uint32) uint64 {
	r := n.record(number)
	if r.size == longID {
		return maphash.String(n.seed, n.of(r).ID)
	}
	return maphash.Bytes(n.seed, r.id[:r.size])
}

func (t *nameTable) put(h uint64, number uint32) {
	i := h & t.mask
	for t.slots[i].Load() != 0 {
		i = (i + 1) & t.mask
	}
	t.slots[i].Store(h&upperHalf | uint64(number))
	t.count++
}
