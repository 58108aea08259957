package accessbindings

import (
	"context"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/sqldb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Grants is bindery.access.v1.GrantService.
type Grants struct {
	accessv1.UnimplementedGrantServiceServer
	committer *committer
	catalog   *roleBook
}

// ReasonGrantEnded is why a grant gives nothing: it was ended.
const ReasonGrantEnded = "GRANT_ENDED"

var errGrantEnded = apierr.Precondition(ReasonGrantEnded, "the grant was ended, and its id gives nothing any more")

// PutGrant gives a role for a reason of the calling unit. Fails: TYPE_NOT_OWNED,
// RESOURCE_NOT_FOUND, ROLE_NOT_FOUND, SUBJECT_NOT_FOUND, GRANT_ENDED.
func (s *Grants) PutGrant(ctx context.Context, req *accessv1.PutGrantRequest) (*accessv1.PutGrantResponse, error) {
	in, err := s.intent(ctx, "PutGrant", req)
	if err != nil {
		return nil, err
	}
	r, err := s.committer.submit(ctx, &putGrant{in})
	if err != nil {
		return nil, err
	}
	return &accessv1.PutGrantResponse{Revision: r.revision}, nil
}

// EndGrant takes back what a grant gave, for good. Fails: TYPE_NOT_OWNED.
func (s *Grants) EndGrant(ctx context.Context, req *accessv1.EndGrantRequest) (*accessv1.EndGrantResponse, error) {
	in, err := s.intent(ctx, "EndGrant", req)
	if err != nil {
		return nil, err
	}
	r, err := s.committer.submit(ctx, &endGrant{in})
	if err != nil {
		return nil, err
	}
	return &accessv1.EndGrantResponse{Revision: r.revision}, nil
}

// ListPermissionHolders lists the active users who hold a permission on a resource. Fails:
// TYPE_NOT_OWNED, RESOURCE_NOT_FOUND.
func (s *Grants) ListPermissionHolders(ctx context.Context, req *accessv1.ListPermissionHoldersRequest) (*accessv1.ListPermissionHoldersResponse, error) {
	on := refOf(req.GetResource())
	if err := mayGrant(ctx, on.Type); err != nil {
		return nil, err
	}
	if err := checkText("resource", on.Type, on.ID); err != nil {
		return nil, err
	}
	var roles []string
	for _, r := range s.catalog.Roles() {
		if slices.Contains(r.Permissions, req.GetPermission()) {
			roles = append(roles, r.ID)
		}
	}
	resp := new(accessv1.ListPermissionHoldersResponse)
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		resp.Reset()
		users, err := st.holdersOf(ctx, q, on, roles, nowMicros(s.committer.now))
		for _, who := range users {
			resp.Holders = append(resp.Holders, who.proto())
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListGrants lists the grants in force on a resource itself. Fails: TYPE_NOT_OWNED,
// RESOURCE_NOT_FOUND.
func (s *Grants) ListGrants(ctx context.Context, req *accessv1.ListGrantsRequest) (*accessv1.ListGrantsResponse, error) {
	on := refOf(req.GetResource())
	if err := mayGrant(ctx, on.Type); err != nil {
		return nil, err
	}
	if err := checkText("resource", on.Type, on.ID); err != nil {
		return nil, err
	}
	now, resp := nowMicros(s.committer.now), new(accessv1.ListGrantsResponse)
	err := s.committer.read(ctx, func(ctx context.Context, st *store, q sqldb.Querier) error {
		resp.GrantIds = nil
		path, err := st.path(ctx, q, on)
		if err == nil && len(path) == 0 {
			err = notFound(on)
		}
		if err != nil {
			return err
		}
		bindings, err := st.bindingsOn(ctx, q, on, nil)
		for _, b := range bindings {
			for _, source := range b.Sources {
				if source.Kind == accessv1.Source_GRANT && source.current(now) {
					resp.GrantIds = append(resp.GrantIds, source.ID)
				}
			}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// holdersOf reads the active users who hold one of some roles on a resource or above.
func (s *store) holdersOf(ctx context.Context, q sqldb.Querier, on Ref, roles []string, now int64) ([]Subject, error) {
	path, err := s.path(ctx, q, on)
	if err != nil {
		return nil, err
	}
	if len(path) == 0 {
		return nil, notFound(on)
	}
	if len(roles) == 0 {
		return nil, nil
	}
	var holders []Subject
	for _, r := range path {
		bindings, err := s.bindingsOn(ctx, q, r, roles)
		if err != nil {
			return nil, err
		}
		for _, b := range bindings {
			if b.inForce(now) {
				holders = append(holders, b.Subject)
			}
		}
	}
	users, err := s.usersAmong(ctx, q, holders)
	if err != nil {
		return nil, err
	}
	return s.active(ctx, q, users)
}

// grantRequest is what the requests have in common.
type grantRequest interface {
	GetGrantId() string
	GetResource() *accessv1.Resource
	GetAccessBinding() *accessv1.AccessBinding
}

// intent checks what needs no state.
func (s *Grants) intent(ctx context.Context, event string, req grantRequest) (unitGrant, error) {
	b := req.GetAccessBinding()
	in := unitGrant{
		id: req.GetGrantId(), on: refOf(req.GetResource()), pair: Pair{Role: b.GetRoleId(), Subject: subjectOf(b.GetSubject())},
		end: micros(b.GetExpiresAt()), catalog: s.catalog, record: recordOf(ctx, eventSource, event),
	}
	if err := mayGrant(ctx, in.on.Type); err != nil {
		return in, err
	}
	if err := checkText("grant_id", in.id); err != nil {
		return in, err
	}
	if err := checkText("resource", in.on.Type, in.on.ID); err != nil {
		return in, err
	}
	return in, checkText("access_binding", in.pair.Role, in.pair.Subject.Type, in.pair.Subject.ID)
}

// grantedBeside are the types of other units on which a unit gives roles: partner keeps
// who of a partner its customers let into their organizations (SC-21).
var grantedBeside = map[string][]string{"partner": {typeOrganization}}

// mayGrant refuses types on which the calling unit does not give roles.
func mayGrant(ctx context.Context, typ string) error {
	if slices.Contains(grantedBeside[authn.FromContext(ctx).Unit], typ) {
		return nil
	}
	return owned(ctx, typ)
}

// unitGrant is one reason for which a unit gives a role.
type unitGrant struct {
	id      string
	on      Ref
	pair    Pair
	end     int64
	catalog *roleBook
	record  *audit.Record
}

// asks says that a grant depends on nobody's rights, but on what is in the tree and who
// is known.
func (in *unitGrant) asks() Subject { return Subject{} }

// wants are the one pair and whether the id is used up.
func (in *unitGrant) wants() wants {
	return wants{pairs: []place{{in.on, in.pair}}, grants: []string{in.id}}
}

// before is the pair as it is; it has no sources when it is not.
func (in *unitGrant) before(ctx context.Context, on *state) (Binding, error) {
	found, err := on.pairsAt(ctx, []place{{in.on, in.pair}})
	if err != nil || len(found) == 0 {
		return Binding{Pair: in.pair}, err
	}
	return found[0], nil
}

// is reports whether a source is the grant's.
func (in *unitGrant) is(s Source) bool { return s.Kind == accessv1.Source_GRANT && s.ID == in.id }

// putGrant is the intent of PutGrant. Who may give what to whom does not apply to the
// platform, but a role must exist and fit, and its holder be known.
type putGrant struct{ unitGrant }

func (in *putGrant) plan(ctx context.Context, on *state) (plan, error) {
	ended, err := on.grantEnded(ctx, in.id)
	if err != nil {
		return plan{}, err
	}
	if ended {
		return plan{}, errGrantEnded
	}
	path := on.graph.above(in.on)
	if len(path) == 0 {
		return plan{}, notFound(in.on)
	}
	role, listed := in.catalog.role(in.pair.Role)
	switch {
	case !listed:
		return plan{}, named(apierr.NotFound(ReasonRoleNotFound, "role %q not found", in.pair.Role), "access_binding.role_id")
	case !slices.Contains(role.AssignableOn, in.on.Type):
		return plan{}, apierr.InvalidField("access_binding.role_id", "the role %s cannot be set on a %s", in.pair.Role, in.on.Type)
	case !on.graph.knows(in.pair.Subject):
		return plan{}, named(apierr.NotFound(ReasonSubjectNotFound, "subject %s:%s not found", in.pair.Subject.Type, in.pair.Subject.ID), "access_binding.subject")
	}
	b, err := in.before(ctx, on)
	if err != nil {
		return plan{}, err
	}
	if slices.ContainsFunc(b.Sources, func(s Source) bool { return in.is(s) && s.End == in.end }) {
		return plan{}, nil
	}
	b.Sources = append(slices.DeleteFunc(slices.Clone(b.Sources), in.is), Source{Kind: accessv1.Source_GRANT, ID: in.id, End: in.end})
	changes := []*accessv1.Change{bindingChange(in.on, b, on.now)}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}

// endGrant is the intent of EndGrant.
type endGrant struct{ unitGrant }

func (in *endGrant) plan(ctx context.Context, on *state) (plan, error) {
	ended, err := on.grantEnded(ctx, in.id)
	if err != nil || ended {
		return plan{}, err
	}
	changes := []*accessv1.Change{{Fact: &accessv1.Change_GrantEnded{GrantEnded: &accessv1.GrantEnded{Id: in.id}}}}
	b, err := in.before(ctx, on)
	if err != nil {
		return plan{}, err
	}
	if slices.ContainsFunc(b.Sources, in.is) {
		b.Sources = slices.DeleteFunc(slices.Clone(b.Sources), in.is)
		changes = append(changes, bindingChange(in.on, b, on.now))
	}
	path := on.graph.above(in.on)
	if len(path) == 0 {
		path = []Ref{in.on} // it is gone, and with it what was given there
	}
	return plan{changes: changes, record: onPath(in.record, path, changes)}, nil
}
