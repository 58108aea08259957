package checker

import "slices"

// View is the facts as they are after one revision. It never changes and may be
// read from many goroutines.
type View struct {
	revision   int64
	rules      *rules
	resources  *names
	subjects   *names
	nodes      vector[node]     // by number of the resource
	identities vector[identity] // by number of the subject
	tokens     *tokens
}

// node is what is known of one resource.
type node struct {
	grants   grants
	denials  *[]denial // nil for none
	parent   uint32    // 0 for none
	children uint32    // how many have it for a parent
	standing standing
}

// standing says whether a resource is in its tree.
type standing uint8

const (
	neverPlaced standing = iota
	placed
	removed
)

// denial is the binding of an access policy.
type denial struct {
	policy      string
	permissions bits
}

// identity is what is known of one subject.
type identity struct {
	in    []uint32 // containers it is directly in, ordered
	nest  *nest    // of a group that is in a group, or has one in it; else nil
	kind  kind
	state State
	gone  bool // the resource that it also is was removed
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

// State returns the state of a subject; Unknown for one of type system. A service
// account or group whose resource was removed is Deleted.
func (v *View) State(s Subject) State {
	i := v.identities.at(v.subjects.find(name(s)))
	switch {
	case i == nil || i.state == Unknown:
		return Unknown
	case i.gone:
		return Deleted
	default:
		return i.state
	}
}

// TokenRevoked reports whether the token is void.
func (v *View) TokenRevoked(id TokenID) bool { return v.tokens.has(id) }

// Removed reports whether the resource was removed.
func (v *View) Removed(r Resource) bool {
	n := v.nodes.at(v.resources.find(name(r)))
	return n != nil && n.standing == removed
}

// Path returns the resource (first) and all above it, the root last. It is nil
// for a resource that is removed, or unknown, or below an unknown one.
func (v *View) Path(r Resource) []Resource {
	var path []Resource
	for at := v.resources.find(name(r)); at != 0 || path == nil; {
		n := v.nodes.at(at)
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
		n := v.nodes.at(at)
		if n == nil {
			return false
		}
		at = n.parent
	}
	return false
}

// Identities returns the subjects whose roles the subject has, itself first, the
// others in no order that matters; nil for one that may not act. See the package
// comment for who they are.
func (v *View) Identities(s Subject) []Subject {
	number := v.subjects.find(name(s))
	i := v.identities.at(number)
	if refusal(i) != Granted {
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

// refusal says why a subject may not act at all; Granted when it may.
func refusal(i *identity) Reason {
	switch {
	case i == nil || i.kind != person && i.kind != service || i.state == Unknown:
		return SubjectUnknown
	case !i.counts():
		return SubjectInactive
	default:
		return Granted
	}
}

// gather appends the identities of a subject that may act: the public groups
// (PG-1, PG-2), itself, its system groups unless it is a service account (SU-8),
// and its groups, nested ones included. They are ordered, each once.
func (v *View) gather(ids []uint32, subject uint32, i *identity) []uint32 {
	ids = append(ids, allUsers, allAuthenticatedUsers, subject)
	for _, c := range i.in {
		container := v.identities.at(c)
		switch {
		case !container.counts() || container.kind == system && i.kind != person:
		case container.nest != nil:
			ids = append(ids, container.nest.above...)
		default:
			ids = append(ids, c)
		}
	}
	if !slices.IsSorted(ids) {
		slices.Sort(ids)
	}
	return slices.Compact(ids) // two groups may be in the same third
}
