package checker

// Resource names a resource of any service. The zero value names none.
type Resource struct{ Type, ID string }

// Subject names who can hold a role (SU-1): its type is userAccount,
// serviceAccount, federatedUser, group or system. Only the first three act.
type Subject struct{ Type, ID string }

// Types of subjects (SU-1).
const (
	UserAccount    = "userAccount"
	ServiceAccount = "serviceAccount"
	FederatedUser  = "federatedUser"
	Group          = "group"
	System         = "system"
)

// Ids of the public groups, subjects of type system (SU-3, PG-1, PG-2).
const (
	AllUsers              = "allUsers"
	AllAuthenticatedUsers = "allAuthenticatedUsers"
)

// State is the state of a subject.
type State uint8

// States of a subject. Deleted is for good.
const (
	Unknown State = iota // nobody made it known
	Active
	Suspended
	Deleted
)

// TokenID is the id of a token, or of a login session from which tokens come. The
// zero value names none.
type TokenID [16]byte

// Change is a fact as it is from some revision on: Place, Remove, Bind, Unbind,
// SetSubject, Join, Leave, Revoke, Deny, Undeny, Pay or Stop. Applying one twice is the same
// as applying it once. The order among changes about different things does not
// matter: a resource may be placed below one that is placed later, a role may be
// bound to a subject that is made known later. Until both are known, nothing is
// granted.
type Change interface{ apply(*draft) error }

// Place puts a resource below a parent, with all that is below it; the zero
// Parent makes it a root. It refuses a place below itself, and the placing of, or
// below, a removed resource.
type Place struct{ Resource, Parent Resource }

// Remove removes a resource with its bindings, its policies and, if it is a
// container of subjects or a service account, the identity that it stood for. It
// is for good. It refuses a resource that has others below it: of a subtree, each
// resource is removed, children first.
type Remove struct{ Resource Resource }

// Bind makes a pair of role and subject hold on a resource until a time, in
// microseconds; 0 is no end. A pair with several sources holds until the end of
// the last of them (see Last): Bind says what is in force when all are taken
// together, in place of what an earlier Bind of the pair said. A role that the
// catalogue does not name grants nothing (AS-16).
type Bind struct {
	Resource Resource
	Subject  Subject
	Role     string
	Until    int64
}

// Unbind takes a pair away: no source of it remains.
type Unbind struct {
	Resource Resource
	Subject  Subject
	Role     string
}

// SetSubject makes a subject known or changes its state. One that acts does so until
// a time, in microseconds; 0 is no end (SK-1). Of a deleted subject nothing counts
// any more, its memberships and the bindings to it included. It refuses to bring one
// back.
type SetSubject struct {
	Subject Subject
	State   State
	Until   int64 // of users and service accounts; groups have no end
}

// Join makes a subject a direct member of a container: an organization, a
// federation, a user pool or a group. A group may be a member of a group.
// Membership of anything else gives no identity.
type Join struct {
	Container Resource
	Subject   Subject
}

// Leave ends a direct membership.
type Leave struct {
	Container Resource
	Subject   Subject
}

// Revoke makes a token void, or all tokens of a login session (TK-5). Until is its
// own end, in microseconds, for a session that of its last token: once that has
// passed, Forget may drop the fact; 0 is no end.
type Revoke struct {
	Token TokenID
	Until int64
}

// Deny binds an access policy: on the resource and all below it, nobody has these
// permissions (AP-1, AP-2); on the direct parent of the resource, and on nothing
// else, nobody has those of OnParent (AP-8). A resource has at most one binding of
// a policy (AP-3). A permission that the catalogue does not name denies nothing.
type Deny struct {
	Resource    Resource
	Policy      string
	Permissions []string
	OnParent    []string
}

// Undeny takes the binding of an access policy away.
type Undeny struct {
	Resource Resource
	Policy   string
}

// Last returns the end of a pair whose sources end at these times, 0 standing for
// no end: the latest of them, or 0 when one has none.
func Last(ends ...int64) int64 {
	var last int64
	for _, end := range ends {
		if end == 0 {
			return 0
		}
		last = max(last, end)
	}
	return last
}
