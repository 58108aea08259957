package accessbindings

import (
	"cmp"
	"slices"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// maxGrantors bounds who is named in an advice.
const maxGrantors = 20

// advice is EX-3: the smallest roles that would give a permission at the lowest level
// of the path on which one can be set, and who may set it. Those are named to whoever
// belongs to the organization, or may have everything explained there: the id of a
// resource alone must not lead a stranger to its administrators. It is nil where no
// role can help: a service account of another organization (SU-9), or a permission
// that no role which people give holds.
func (s *Permissions) advice(q checker.Query, m moment, told bool) *accessv1.AccessAdvice {
	path := m.view.Path(q.Resource)
	for _, on := range path {
		roles := s.smallest(q.Permission, on.Type)
		if len(roles) == 0 {
			continue
		}
		d := rules.Delta{Add: true, Subject: rules.Subject{Type: q.Subject.Type, ID: q.Subject.ID, Home: homeOf(q.Subject, m.view)}}
		d.Resource = rules.Resource{Type: on.Type, ID: on.ID, Organization: rootOf(path)}
		a := &accessv1.AccessAdvice{Resource: Ref(on).proto(), GrantorsWithheld: !told}
		for _, r := range roles {
			d.Role, _ = s.catalog.role(r.ID)
			if rules.May(d, func(string) bool { return true }) == nil {
				a.RoleIds = append(a.RoleIds, r.ID)
			}
		}
		if len(a.RoleIds) == 0 {
			continue
		}
		if told {
			d.Role, _ = s.catalog.role(a.GetRoleIds()[0])
			s.grantors(a, d, on, m)
		}
		a.Request = s.requestFor(q, Ref(on), a.GetRoleIds()[0], m)
		return a
	}
	return nil
}

// requestFor is RQ-10 [ours]: the request to file for a role that would help; nil where
// the subject cannot ask for it.
func (s *Permissions) requestFor(q checker.Query, on Ref, roleID string, m moment) *accessv1.CreateRoleRequestRequest {
	if _, err := requestable(s.catalog, m.view, Subject(q.Subject), on, roleID, m.now); err != nil {
		return nil
	}
	return &accessv1.CreateRoleRequestRequest{Resource: on.proto(), RoleId: roleID}
}

// smallest are the roles that hold a permission and can be set on a type, without those
// that hold all of another one's: fewest permissions first.
func (s *Permissions) smallest(permission, typ string) []catalog.Role {
	var all, least []catalog.Role
	for _, r := range s.graph.catalog.Roles() {
		if slices.Contains(r.Permissions, permission) && s.graph.catalog.Assignable(r.ID, typ) {
			all = append(all, r)
		}
	}
	slices.SortStableFunc(all, func(a, b catalog.Role) int { return cmp.Compare(len(a.Permissions), len(b.Permissions)) })
	for _, r := range all {
		if !slices.ContainsFunc(least, func(small catalog.Role) bool { return holdsAll(r, small) }) {
			least = append(least, r)
		}
	}
	return least
}

// holdsAll reports whether a role has every permission of another one. Both are
// ordered.
func holdsAll(r, of catalog.Role) bool {
	for _, p := range of.Permissions {
		if _, ok := slices.BinarySearch(r.Permissions, p); !ok {
			return false
		}
	}
	return true
}

// grantors names who may make a delta.
func (s *Permissions) grantors(a *accessv1.AccessAdvice, d rules.Delta, on checker.Resource, m moment) {
	manage := s.catalog.permission(on.Type, "updateAccessBindings")
	s.lists.one.Lock() // a pass over all subjects, asked for by anybody who is refused
	defer s.lists.one.Unlock()
	for _, who := range m.view.Subjects(checker.Query{Permission: manage, Resource: on, Now: m.now}) {
		asked := checker.Query{Subject: who, Resource: on, Now: m.now}
		d.Limit = s.graph.limit(asked)
		if rules.May(d, s.graph.holds(asked)) != nil {
			continue
		}
		if len(a.GetGrantors()) == maxGrantors {
			a.MoreGrantors++
			continue
		}
		a.Grantors = append(a.Grantors, Subject(who).proto())
	}
}

// inside reports whether a subject belongs to the organization that a resource is in.
func (s *Permissions) inside(who checker.Subject, v *checker.View, r checker.Resource) bool {
	return belongs(who, v, rootOf(v.Path(r)))
}

// belongs reports whether a subject is a member of an organization, or a service
// account of it; "" is none.
func belongs(who checker.Subject, v *checker.View, organization string) bool {
	if organization == "" {
		return false
	}
	if who.Type == rules.ServiceAccount {
		return homeOf(who, v) == organization
	}
	group, _ := rules.SystemGroup(typeOrganization, organization)
	return slices.Contains(v.Identities(who), checker.Subject{Type: rules.System, ID: group})
}

// homeOf is the organization in which a service account lives, "" for other subjects.
func homeOf(who checker.Subject, v *checker.View) string {
	if who.Type != rules.ServiceAccount {
		return ""
	}
	return rootOf(v.Path(checker.Resource{Type: typeServiceAccount, ID: who.ID}))
}

// rootOf is the organization at the root of a path, "" when there is none.
func rootOf(path []checker.Resource) string {
	if len(path) > 0 && path[len(path)-1].Type == typeOrganization {
		return path[len(path)-1].ID
	}
	return ""
}
