package checker

import (
	"maps"
	"slices"
)

// rules is the catalogue compiled to bits. It never changes.
type rules struct {
	permissions map[string]uint32 // number of a permission
	roles       map[string]uint16 // number of a role
	names       []string          // of the roles, by number
	holders     []bits            // by permission: the roles that hold it
}

// bits is a set of small numbers.
type bits []uint64

func newBits(size int) bits { return make(bits, size/64+1) }

func (b bits) has(n uint32) bool { return b[n>>6]&(1<<(n&63)) != 0 }

func (b bits) add(n uint32) { b[n>>6] |= 1 << (n & 63) }

// compile numbers the permissions and the roles. A permission that a role holds
// but the catalogue does not list is known all the same.
func compile(c Roles) *rules {
	r := &rules{permissions: map[string]uint32{}, roles: map[string]uint16{}}
	r.names = slices.Sorted(maps.Keys(c.Roles))
	number := func(permission string) uint32 {
		p, ok := r.permissions[permission]
		if !ok {
			p = uint32(len(r.holders)) //nolint:gosec // a catalogue has few permissions
			r.permissions[permission] = p
			r.holders = append(r.holders, newBits(len(r.names)))
		}
		return p
	}
	for _, permission := range c.Permissions {
		number(permission)
	}
	for n, role := range r.names {
		r.roles[role] = uint16(n)
		for _, permission := range c.Roles[role] {
			r.holders[number(permission)].add(uint32(n))
		}
	}
	return r
}
