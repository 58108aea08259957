package checker

import (
	"math"
	"slices"
)

// View is the facts as they are after one revision. It never changes and may be
// read from many goroutines.
type View struct {
	revision   int64
	rules      *rules
	resources  *names
	subjects   *names
	nodes      vector[nodes]              // by number of the resource
	identities vector[[leafSize]identity] // by number of the subject
	tokens     *tokens
}

// node returns what is known of a resource, and the leaf that holds it; nil for
// nothing.
func (v *View) node(number uint32) (*nodes, *node) {
	l := v.nodes.at(number >> leafBits)
	if l == nil {
		return nil, nil
	}
	return l, &l.records[number&leafMask]
}

// identity returns what is known of a subject, nil for nothing.
func (v *View) identity(number uint32) *identity {
	l := v.identities.at(number >> leafBits)
	if l == nil {
		return nil
	}
	return &l[number&leafMask]
}

// identity is what is known of one subject, two of them in a line of the memory.
type identity struct {
	few   [fewContainers]uint32 // the containers it is directly in, ordered, unless they are many
	count uint8                 // of the few
	kind  kind
	state State
	gone  bool  // the resource that it also is was removed
	more  *more // nil of most
}

// fewContainers are as many as an identity holds itself.
const fewContainers = 4

// more is what is known of few subjects. It is never written again once it is in place.
type more struct {
	in    []uint32 // the containers it is directly in, ordered, when they are many; else nil
	nest  *nest    // of a group that is in a group, or has one in it; else nil
	until int64    // when it ends to act; 0 for never
}

// in are the containers that the subject is directly in, ordered. They are to be read
// before the identity is written again.
func (i *identity) in() []uint32 {
	if i.more != nil && i.more.in != nil {
		return i.more.in
	}
	return i.few[:i.count]
}

// nest is what groups in groups make of a group, nil for nothing.
func (i *identity) nest() *nest {
	if i.more == nil {
		return nil
	}
	return i.more.nest
}

// ended reports whether the subject has come to its end: what ends now has ended.
func (i *identity) ended(now int64) bool {
	return i.more != nil && i.more.until != 0 && i.more.until <= now
}

// setIn puts an ordered list in place of the containers.
func (i *identity) setIn(in []uint32) {
	if len(in) > fewContainers {
		i.count = 0
		i.edit(func(m *more) { m.in = in })
		return
	}
	i.count = uint8(copy(i.few[:], in)) //nolint:gosec // four at most
	if i.more != nil {
		i.edit(func(m *more) { m.in = nil })
	}
}

// setEnd sets when the subject ends to act.
func (i *identity) setEnd(until int64) {
	if until != 0 || i.more != nil {
		i.edit(func(m *more) { m.until = until })
	}
}

// edit writes what few subjects have.
func (i *identity) edit(write func(*more)) {
	var next more
	if i.more != nil {
		next = *i.more
	}
	write(&next)
	i.more = nil
	if next.in != nil || next.nest != nil || next.until != 0 {
		i.more = &next
	}
}

// nest is what groups in groups make of one group.
type nest struct {
	above []uint32 // the groups that a member is in: this one, and all it is in, ordered
	below []uint32 // the groups that are directly in it, ordered
}

// kind says how a subject counts.
type kind uint8

const (
	noKind  kind = iota
	person       // acts, and belongs to system groups
	service      // acts (SU-8)
	group        // has members
	system       // public and system groups: no state of their own
)

// Numbers of the public groups: the first two that a view gives.
const (
	allUsers uint32 = 1 + iota
	allAuthenticatedUsers
)

var kinds = map[string]kind{
	UserAccount: person, FederatedUser: person, ServiceAccount: service, Group: group, System: system,
}

// counts reports whether the subject may act or pass on what it holds.
func (i *identity) counts() bool { return !i.gone && (i.state == Active || i.kind == system) }

// newView returns a view without facts.
func newView(r *rules, revision int64) *View {
	v := &View{revision: revision, rules: r, resources: newNames(), subjects: newNames(), tokens: new(tokens)}
	v.subjects.add(name{System, AllUsers})
	v.subjects.add(name{System, AllAuthenticatedUsers})
	return v
}

// Revision is the revision whose facts the view holds.
func (v *View) Revision() int64 { return v.revision }

// KnownPermission reports whether the catalogue has the permission.
func (v *View) KnownPermission(permission string) bool {
	_, ok := v.rules.permissions[permission]
	return ok
}

// MayAct reports whether a subject may do anything at all at a time: it is known,
// active and not at its end.
func (v *View) MayAct(s Subject, now int64) bool {
	return refusal(v.identity(v.subjects.find(name(s))), now) == Granted
}

// State returns the state of a subject, past its end too; Unknown for one of type
// system. A service account or group whose resource was removed is Deleted.
func (v *View) State(s Subject) State {
	i := v.identity(v.subjects.find(name(s)))
	switch {
	case i == nil || i.state == Unknown:
		return Unknown
	case i.gone:
		return Deleted
	default:
		return i.state
	}
}

// TokenRevoked reports whether the token, or the session with that id, is void; the
// zero id names none.
func (v *View) TokenRevoked(id TokenID) bool { return id != TokenID{} && v.tokens.has(id) }

// Removed reports whether the resource was removed.
func (v *View) Removed(r Resource) bool {
	_, n := v.node(v.resources.find(name(r)))
	return n != nil && n.standing == removed
}

// Path returns the resource (first) and all above it, the root last. It is nil
// for a resource that is removed, or unknown, or below an unknown one.
func (v *View) Path(r Resource) []Resource {
	var path []Resource
	for at := v.resources.find(name(r)); at != 0 || path == nil; {
		_, n := v.node(at)
		if n == nil || n.standing != placed {
			return nil
		}
		path = append(path, Resource(v.resources.at(at)))
		at = n.parent
	}
	return path
}

// leadsThrough reports whether the way up from a resource leads through another.
func (v *View) leadsThrough(from, through uint32) bool {
	for at := from; at != 0; {
		if at == through {
			return true
		}
		_, n := v.node(at)
		if n == nil {
			return false
		}
		at = n.parent
	}
	return false
}

// Identities returns the subjects whose roles the subject has, itself first, the
// others in no order that matters; nil for one that may not act. See the package
// comment for who they are. Its end is not looked at.
func (v *View) Identities(s Subject) []Subject {
	number := v.subjects.find(name(s))
	i := v.identity(number)
	if refusal(i, math.MinInt64) != Granted {
		return nil
	}
	all := []Subject{s}
	for _, other := range v.gather(nil, number, i) {
		if other != number {
			all = append(all, Subject(v.subjects.at(other)))
		}
	}
	return all
}

// refusal says why a subject may not act at all at a time; Granted when it may.
// What ends now has ended.
func refusal(i *identity, now int64) Reason {
	switch {
	case i == nil || i.kind != person && i.kind != service || i.state == Unknown:
		return SubjectUnknown
	case !i.counts(), i.ended(now):
		return SubjectInactive
	default:
		return Granted
	}
}

// fewIdentities are looked through as they are; more are ordered.
const fewIdentities = 16

// gather appends the identities of a subject that may act, each once: the public
// groups (PG-1, PG-2), itself, its system groups unless it is a service account
// (SU-8), and its groups, nested ones included. Many of them are ordered.
func (v *View) gather(ids []uint32, subject uint32, i *identity) []uint32 {
	in := i.in()
	ids = append(slices.Grow(ids, len(in)+3), allUsers, allAuthenticatedUsers, subject)
	nested := false
	for _, c := range in {
		container := v.identity(c)
		switch {
		case !container.counts() || container.kind == system && i.kind != person:
		case container.nest() != nil:
			ids, nested = append(ids, container.nest().above...), true
		default:
			ids = append(ids, c)
		}
	}
	if nested || len(ids) > fewIdentities {
		slices.Sort(ids)
		ids = slices.Compact(ids) // two groups may be in the same third
	}
	return ids
}
