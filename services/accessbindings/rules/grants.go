package rules

import "slices"

// Grant is what the rules need to know of a rule of a grant policy.
type Grant struct {
	Sets      []SetOfPermissions
	Condition string
	Whole     bool // its scope is the organization, else clouds and folders
}

// SetOfPermissions is a permission set of the catalogue.
type SetOfPermissions struct {
	ID    string
	Whole bool // it is about the organization as a whole
}

// GrantFits is SC-14: all sets of a rule are of the kind of its scope, and it has no
// condition: one that was kept and not looked at would give more than it says. The
// index of the set that does not fit comes with the error, -1 for the condition.
func GrantFits(g Grant) (at int, err error) {
	if g.Condition != "" {
		return -1, errCondition
	}
	at = slices.IndexFunc(g.Sets, func(s SetOfPermissions) bool { return s.Whole != g.Whole })
	if at < 0 {
		return -1, nil
	}
	if g.Whole {
		return at, errSetMisplaced.Withf("the permission set %s is given on clouds and folders", g.Sets[at].ID)
	}
	return at, errSetMisplaced.Withf("the permission set %s is given on an organization", g.Sets[at].ID)
}

// MayBePrincipal is SC-11, SC-13: the principal of a policy belongs to its organization,
// as a member of a group does: so that what leaves the organization has nothing more by
// its policies (GR-6). The group of all its users is one (SC-12).
func MayBePrincipal(s Subject, organization string, local bool) error {
	if s.Type == System {
		typ, id, ok := Container(s.ID)
		local = ok && typ == Organization && id == organization
	}
	if !local {
		return errPrincipal.Withf("%s:%s does not belong to the organization of the policy", s.Type, s.ID)
	}
	return nil
}

// GrantNameFree is SC-13: names of policies are unique in their organization [ours].
func GrantNameFree(name string, taken bool) error {
	if taken {
		return errGrantName.Withf("the organization has a grant policy named %q", name)
	}
	return nil
}
