package accessbindings

import (
	"context"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Permissions is bindery.access.v1.PermissionService: questions about access. All
// answers are of the engine's walk, on the graph or on what the history tells.
type Permissions struct {
	accessv1.UnsafePermissionServiceServer // a missing method does not compile

	committer *committer
	graph     *graph
	history   *historian
	catalog   *roleBook
	bindings  *Bindings
	lists     *lists
	now       func() time.Time
}

// Permissions that questions need.
const (
	permissionExplain       = "iam.access.explain"
	permissionListResources = "iam.access.listResources"
)

// TestPermissions is EX-1: it tells the caller what they hold, and needs no permission
// for it. Fails: RESOURCE_NOT_FOUND; INVALID_ARGUMENT for an unknown permission.
func (s *Permissions) TestPermissions(ctx context.Context, req *accessv1.TestPermissionsRequest) (*accessv1.TestPermissionsResponse, error) {
	if err := s.committer.atLeast(ctx, req.GetAtLeastRevision()); err != nil {
		return nil, err
	}
	m, err := s.present()
	if err != nil {
		return nil, err
	}
	for i, p := range req.GetPermissions() {
		if err := s.known(p, fmt.Sprintf("permissions[%d]", i)); err != nil {
			return nil, err
		}
	}
	q := s.asked(ctx)
	if q.Resource = checker.Resource(refOf(req.GetResource())); m.view.Path(q.Resource) == nil {
		return nil, authz.NotFound(authz.Resource(q.Resource))
	}
	return &accessv1.TestPermissionsResponse{Permissions: m.view.Test(q, req.GetPermissions()), Revision: m.revision}, nil
}

// asked begins a question about the caller, now, by the token that they came with.
func (s *Permissions) asked(ctx context.Context) checker.Query {
	p := authn.FromContext(ctx)
	return checker.Query{
		Subject: checker.Subject{Type: p.Type, ID: p.ID}, Now: nowMicros(s.now),
		Token: checker.TokenID(p.TokenID), Session: checker.TokenID(p.Session),
	}
}

func (s *Permissions) known(permission, field string) error {
	if !s.graph.catalog.KnownPermission(permission) {
		return apierr.InvalidField(field, "%q is not in the catalogue", permission)
	}
	return nil
}

// holds is nil when the caller holds a permission on a resource now. An unknown
// resource is NOT_FOUND, as at the door of a method.
func (s *Permissions) holds(ctx context.Context, permission string, on checker.Resource) error {
	q := s.asked(ctx)
	q.Permission, q.Resource = permission, on
	err := s.graph.judge(q)
	if apierr.ReasonOf(err) == apierr.ReasonResourceNotFound {
		return authz.NotFound(authz.Resource(on))
	}
	return err
}

// subject reads whom a question is about; self is whether it is the caller.
func (s *Permissions) subject(ctx context.Context, given *accessv1.Subject) (who checker.Subject, self bool, err error) {
	caller := s.asked(ctx).Subject
	if given == nil {
		return caller, true, nil
	}
	who = checker.Subject(subjectOf(given))
	if err := checkText("subject", who.Type, who.ID); err != nil {
		return who, false, err
	}
	switch who.Type {
	case rules.UserAccount, rules.ServiceAccount, rules.FederatedUser:
		return who, who == caller, nil
	default:
		return who, false, apierr.InvalidField("subject.type", "must be userAccount, serviceAccount or federatedUser: others do not act")
	}
}
