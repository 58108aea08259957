package accessbindings

import (
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
)

// told is a refusal of a change of bindings with what it lacks: where the rules refuse
// for want of a permission, the refusal names it and can be explained (EX-8), as that of
// a door is.
func (s *Bindings) told(in *changeBindings, err error) error {
	e, ok := apierr.As(err)
	if !ok || e.Code != codes.PermissionDenied || e.Meta["permission"] != "" {
		return err
	}
	q := in.caller
	q.Resource, q.Now = checker.Resource(in.resource), nowMicros(s.now)
	for _, q.Permission = range in.needs() {
		d := s.committer.graph.Decide(q)
		if d.Reason != checker.NoGrant && d.Reason != checker.DeniedByPolicy {
			continue
		}
		e = e.WithMeta("permission", q.Permission, "resourceType", in.resource.Type, "resourceId", in.resource.ID)
		s.committer.graph.sign(e, q, d.Revision)
		return e
	}
	return err
}

// needs are the permissions that the change may be refused for: the common one, and
// those by which owners alone give and take roles.
func (in *changeBindings) needs() []string {
	all := []string{in.catalog.permission(in.resource.Type, "updateAccessBindings")}
	for _, w := range in.wishes {
		if r, _ := in.catalog.role(w.Role); r.Assign != "" {
			all = append(all, r.Assign)
		}
	}
	if !in.replace {
		return all
	}
	for _, r := range in.catalog.Roles() { // one of which it may take away
		if r.AssignPermission != "" && ownedType(r) == in.resource.Type {
			all = append(all, r.AssignPermission)
		}
	}
	return all
}
