package rules

import "github.com/bindery-iam/bindery/pkg/apierr"

// errForeigner is the refusal for a subject of another organization.
var errForeigner = apierr.Precondition("MEMBER_FOREIGN", "a group has members of its own organization only")

// MayJoin is GR-1, GR-2, RH-6: a group belongs to an organization, and so do all
// in it: users who are members there, service accounts that live there and other
// groups of it. Otherwise a group would let a stranger in whom the organization
// never took, and who could not be put out by GR-6.
func MayJoin(s Subject, local bool) error {
	if !local {
		return errForeigner.Withf("%s:%s does not belong to the organization of the group", s.Type, s.ID)
	}
	return nil
}
