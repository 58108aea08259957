package rules

import (
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// Types of subjects (SU-1).
const (
	UserAccount    = "userAccount"
	ServiceAccount = "serviceAccount"
	FederatedUser  = "federatedUser"
	Group          = "group"
	System         = "system"
)

// Types of the resources that rules name.
const (
	Organization = "organization-manager.organization"
	Federation   = "organization-manager.federation"
	UserPool     = "organization-manager.userpool"
	Cloud        = "resource-manager.cloud"
	Account      = "billing.account"
)

// Member is the role that puts a user on the Users list of a billing account (AS-20).
const Member = "billing.accounts.member"

// Role is what the rules need to know of a role of the catalogue.
type Role struct {
	ID           string
	Withdrawn    bool     // deprecated: may be taken away, not given
	ByPlatform   bool     // given and taken by the platform alone
	AssignableOn []string // types of resources that may carry it
	Permissions  []string // all that it holds, inclusions expanded
	Assign       string   // permission to give or take it, on the resource; "" is the common one
	Owns         string   // type whose resources keep the holder that they have; "" for a common role
	Holders      Holders
}

// Holders narrows which subjects may hold a role.
type Holders int

// Who may hold a role.
const (
	Anybody        Holders = iota
	NoSystemGroups         // not the public and system groups (PG-3)
	NoGroups               // no group of any kind (PG-5)
)

// Subject is who is to hold a role. Home is the organization in which a service
// account lives, "" when it is not known to live in one.
type Subject struct {
	Type, ID string
	Home     string
}

// Resource is what a role is held on. Organization is the root of its path when
// that is an organization.
type Resource struct {
	Type, ID     string
	Organization string
}

// Delta is one pair of role and subject that would begin or cease to be in force
// on a resource, or change its end.
type Delta struct {
	Add      bool
	Role     Role
	Subject  Subject
	Resource Resource
	Limit    *Limit // nil where granting is not strict (AS-3)
	Listed   bool   // the subject is on the Users list of the billing account (AS-20)
}

// Holds tells whether whoever asks holds a permission on the resource of the
// call, by the state that the change is made on.
type Holds func(permission string) bool

// May runs the rules that one delta must pass, cheapest first; nil means that
// all of them allow it.
func May(d Delta, holds Holds) error {
	if err := byHand(d.Role); err != nil {
		return err
	}
	if err := mayAssign(d.Role, holds); err != nil || !d.Add {
		return err
	}
	for _, rule := range []func(Delta) error{notWithdrawn, fitsType, mayHold, atHome, onUsersList, withinOwn} {
		if err := rule(d); err != nil {
			return err
		}
	}
	return nil
}

// MayGain runs the rules on a role that a subject gets by way of a group, by joining it
// or by being in it when the group is given the role: SU-9, and AS-3 where granting is
// strict.
func MayGain(d Delta) error {
	if err := atHome(d); err != nil {
		return err
	}
	return withinOwn(d)
}

// MayManage is AS-1, AS-2, AS-8: giving and taking roles needs the permission to
// update the access bindings of the resource, on it or above. The call's door asks
// for it before; it is asked again on the state that the change is made on, so
// that nobody grants anything after the end of their own grant was acknowledged.
func MayManage(permission string, holds Holds) error {
	if !holds(permission) {
		return errManage
	}
	return nil
}

// AS-15: what the platform gives and takes, nobody gives or takes by hand.
func byHand(r Role) error {
	if r.ByPlatform {
		return errByHand.Withf("the role %s is given and taken by the platform alone", r.ID)
	}
	return nil
}

// AS-3, AS-4, AS-5, AS-6, AS-7, OW-6: an owner role is given and taken only by
// who holds its own assign permission, that is by owners: of the resource, or of
// the organization above it.
func mayAssign(r Role, holds Holds) error {
	if r.Assign != "" && !holds(r.Assign) {
		return errAssign.Withf("the role %s is given and taken by owners only", r.ID)
	}
	return nil
}

// AS-16: a withdrawn role is not given any more; removing it stays possible.
func notWithdrawn(d Delta) error {
	if d.Role.Withdrawn {
		return errWithdrawn.Withf("the role %s is withdrawn and cannot be given", d.Role.ID)
	}
	return nil
}

// AS-9, AS-10, AS-11, AS-12, AS-13, AS-14: a role is set on the types the
// catalogue lists for it: the type it is made for and the ancestors named there.
func fitsType(d Delta) error {
	if !slices.Contains(d.Role.AssignableOn, d.Resource.Type) {
		return errType.Withf("the role %s cannot be set on a %s", d.Role.ID, d.Resource.Type)
	}
	return nil
}

// PG-3, PG-5: public and system groups own no cloud and are no member of one; no
// group of any kind owns an organization or a billing account.
func mayHold(d Delta) error {
	system := d.Subject.Type == System
	if system && d.Role.Holders >= NoSystemGroups || d.Subject.Type == Group && d.Role.Holders >= NoGroups {
		return errGroup.Withf("the role %s cannot be given to %s:%s", d.Role.ID, d.Subject.Type, d.Subject.ID)
	}
	return nil
}

// SU-9: a service account holds roles on its own organization and below it,
// nowhere else.
func atHome(d Delta) error {
	if d.Subject.Type != ServiceAccount {
		return nil
	}
	if d.Subject.Home == "" || d.Subject.Home != d.Resource.Organization {
		return errForeign.Withf("the service account %s may hold roles in its own organization only", d.Subject.ID)
	}
	return nil
}

// AS-20: on a billing account outside of organizations roles go to those on its Users
// list: to who holds a role there, or is given Member, which only users are. Below an
// organization the account's users are those of the organization.
func onUsersList(d Delta) error {
	if d.Resource.Type != Account || d.Resource.Organization != "" || d.Listed {
		return nil
	}
	if d.Role.ID == Member && (d.Subject.Type == UserAccount || d.Subject.Type == FederatedUser) {
		return nil
	}
	return errNotListed.Withf("%s:%s is no user of the billing account %s: give %s first", d.Subject.Type, d.Subject.ID, d.Resource.ID, Member)
}

// OwnerRemains is OW-1, OW-2, OW-3, OW-4: a resource that has an owner keeps one.
// before and after count the owners that stay, which leaves out those whose ownership
// ends by itself, and those who are suspended or end themselves. A resource that had none is not held up, nor one that an owner
// role is only set on for what is below it (AS-14).
func OwnerRemains(r Role, resourceType string, before, after int) error {
	if r.Owns == resourceType && r.Owns != "" && after == 0 && before > 0 {
		return errLastOwner.Withf("the last holder of the role %s cannot lose it", r.ID)
	}
	return nil
}

// Form is SU-5: type and id agree. Reserved ids go with the type system, and it
// with none but them.
func Form(s Subject) error {
	_, _, reserved := Container(s.ID)
	reserved = reserved || Public(s.ID)
	switch s.Type {
	case System:
		if !reserved {
			return errSubject.Withf("%q is not the id of a system subject", s.ID)
		}
	case UserAccount, ServiceAccount, FederatedUser, Group:
		if reserved || strings.Contains(s.ID, ":") {
			return errSubject.Withf("%q is reserved for the type system", s.ID)
		}
	default:
		return errSubject.Withf("%q is not a type of subjects", s.Type)
	}
	return nil
}

// Lengths is SU-6: those that a binding may have, for who does not come through the
// validated door.
func Lengths(role string, s Subject, resourceID string) error {
	const maxSubject, maxRole, maxResource = 100, 64, 64
	if len(s.Type) > maxSubject || len(s.ID) > maxSubject || len(role) > maxRole || len(resourceID) > maxResource {
		return errTooLong
	}
	return nil
}

// Public is SU-3, PG-1, PG-2: the public groups. allUsers stands for the same
// subjects as allAuthenticatedUsers.
func Public(id string) bool { return id == "allAuthenticatedUsers" || id == "allUsers" }

// Container is SU-3: the container of a system group, from
// group:organization:<id>:users and its siblings for federations and user pools.
func Container(id string) (typ, containerID string, ok bool) {
	parts := strings.Split(id, ":")
	if len(parts) != 4 || parts[0] != "group" || parts[2] == "" || parts[3] != "users" {
		return "", "", false
	}
	typ, ok = containerTypes[parts[1]]
	return typ, parts[2], ok
}

// containerTypes are the containers that make a system group, by their word in its id.
var containerTypes = map[string]string{"organization": Organization, "federation": Federation, "userpool": UserPool}

// SystemGroup is SU-3: the id of the system group of a container, Container
// backwards; ok is false for a type that makes none.
func SystemGroup(typ, containerID string) (id string, ok bool) {
	for word, t := range containerTypes {
		if t == typ {
			return "group:" + word + ":" + containerID + ":users", true
		}
	}
	return "", false
}

// Primitive is AS-18: the primitive roles, from the narrowest to the widest.
var Primitive = []string{"auditor", "viewer", "editor", "admin"}

// Warning is PG-4: a warning, not a refusal: editor or admin for a public or system
// group. "" when there is nothing to warn of.
func Warning(d Delta) string {
	if !d.Add || d.Subject.Type != System || slices.Index(Primitive, d.Role.ID) < 2 {
		return ""
	}
	return "the role " + d.Role.ID + " for " + d.Subject.ID + " on " + d.Resource.Type + " " + d.Resource.ID +
		" is advised against: everybody in that group may change what is there"
}

// Pair is what a delta is about.
type Pair struct {
	Role        string
	SubjectType string
	SubjectID   string
}

// Wish is one delta of a request, before it is known what it would change.
type Wish struct {
	Pair
	Add bool
}

// Distinct is AB-6: a pair named twice counts once, a pair both added and removed
// is refused. The index of the wish that contradicts an earlier one comes with the
// error.
func Distinct(wishes []Wish) (kept []int, at int, err error) {
	seen := make(map[Pair]bool, len(wishes))
	for i, w := range wishes {
		add, again := seen[w.Pair]
		switch {
		case !again:
			seen[w.Pair] = w.Add
			kept = append(kept, i)
		case add != w.Add:
			return nil, i, errContradiction
		}
	}
	return kept, 0, nil
}

// Every refusal of this package.
var (
	errManage        = apierr.Denied(apierr.ReasonPermissionDenied, "changing the access bindings of the resource is not permitted")
	errAssign        = apierr.Denied("OWNER_NOT_ASSIGNABLE", "the role is given and taken by owners only")
	errByHand        = invalid("ROLE_NOT_ASSIGNABLE", "the role is given and taken by the platform alone")
	errWithdrawn     = invalid("ROLE_WITHDRAWN", "the role is withdrawn")
	errType          = invalid("ROLE_DOES_NOT_FIT", "the role cannot be set on a resource of this type")
	errGroup         = invalid("SUBJECT_NOT_ELIGIBLE", "the role cannot be given to this subject")
	errSubject       = invalid("SUBJECT_INVALID", "type and id of the subject do not agree")
	errTooLong       = invalid("TOO_LONG", "a subject's type or id has over 100 characters, or a role's or resource's id over 64")
	errContradiction = invalid("DELTAS_CONTRADICT", "the same pair is both added and removed")
	errForeign       = apierr.Precondition("SERVICE_ACCOUNT_FOREIGN", "a service account holds roles in its own organization only")
	errNotListed     = apierr.Precondition("NOT_A_USER_OF_THE_ACCOUNT", "roles on a billing account go to its users only")
	errAboveOwn      = apierr.Denied("GRANT_ABOVE_OWN", "the role holds a permission which you were not granted yourself")
	errLastOwner     = apierr.Precondition("LAST_OWNER", "the last owner cannot lose the role")

	errManagePolicies  = apierr.Denied(apierr.ReasonPermissionDenied, "changing the access policies of the resource is not permitted")
	errPolicyType      = invalid("ACCESS_POLICY_DOES_NOT_FIT", "the access policy cannot be bound on a resource of this type")
	errPolicyParameter = invalid("ACCESS_POLICY_PARAMETER_UNKNOWN", "the access policy has no such parameter")
	errPolicyBound     = apierr.AlreadyExists("ACCESS_POLICY_ALREADY_BOUND", "the access policy is bound on the resource already")
	errPolicyNotBound  = apierr.NotFound("ACCESS_POLICY_NOT_BOUND", "the access policy is not bound on the resource")

	errCondition    = invalid("CONDITIONS_UNSUPPORTED", "rules of grant policies have no conditions")
	errSetMisplaced = invalid("PERMISSION_SET_MISPLACED", "the permission set is not of the kind of the rule's scope")
	errPrincipal    = apierr.Precondition("PRINCIPAL_FOREIGN", "the principal of a grant policy belongs to its organization")
	errGrantName    = apierr.AlreadyExists("GRANT_POLICY_NAME_TAKEN", "the organization has a grant policy of this name")
)

func invalid(reason, message string) *apierr.Error {
	e := apierr.Invalid()
	e.Reason, e.Message = reason, message
	return e
}
