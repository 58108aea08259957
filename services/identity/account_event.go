package identity

import (
	"cmp"
	"context"
	"database/sql"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/log"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// event is one audit event of this unit (AU-2, AU-3).
type event struct {
	name       string           // e.g. "CreateKey"
	status     audit.Status     // Done when empty
	path       []audit.Resource // what it is about, the organization first
	permission string           // checked for it; "" when none was
	on         authz.Resource   // where it was checked
	details    map[string]any   // without secrets
}

// recordEvent writes the audit record of a change within its transaction. Within a
// request it says who asked; within a job that the unit did it by itself.
func (s *Service) recordEvent(ctx context.Context, tx *sql.Tx, e event) error {
	p, req := authn.FromContext(ctx), log.RequestFrom(ctx)
	r := audit.Record{
		EventSource: "iam", EventType: audit.EventType("iam", e.name), EventTime: s.now(), EventStatus: cmp.Or(e.status, audit.Done),
		Authentication:   audit.By(p),
		Authorization:    audit.Authorization{Authorized: true},
		ResourceMetadata: audit.ResourceMetadata{Path: e.path},
		RequestMetadata:  audit.RequestMetadata{RemoteAddress: req.Remote, UserAgent: req.UserAgent, RequestID: req.ID},
	}
	if e.details != nil {
		r.Details = e.details
	}
	if !p.IsSubject() && p.Unit == "" {
		r.Authentication.Unit = Name
	}
	if e.permission != "" {
		r.Authorization.Permissions = []audit.Permission{{
			Permission: e.permission, ResourceType: e.on.Type, ResourceID: e.on.ID, Authorized: true,
		}}
	}
	return audit.Write(ctx, tx, Name, r)
}

// pathTo is the path of an account for an audit record, the organization first. A
// user account stands by itself. It asks the tree: call it before the transaction.
func (s *Service) pathTo(ctx context.Context, r authz.Resource) ([]audit.Resource, error) {
	if r.Type == typeUserAccount {
		return []audit.Resource{{Type: r.Type, ID: r.ID}}, nil
	}
	resp, err := s.tree.GetResourcePath(ctx, &accessv1.GetResourcePathRequest{Resource: &accessv1.Resource{Type: r.Type, Id: r.ID}})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	var path []audit.Resource
	for _, step := range slices.Backward(resp.GetPath()) {
		path = append(path, audit.Resource{Type: step.GetType(), ID: step.GetId()})
	}
	return path, nil
}

// pathOrSelf is pathTo for what must not fail because the tree cannot be asked: then
// the account alone.
func (s *Service) pathOrSelf(ctx context.Context, r authz.Resource) []audit.Resource {
	path, err := s.pathTo(ctx, r)
	if err != nil {
		return []audit.Resource{{Type: r.Type, ID: r.ID}}
	}
	return path
}

// accountOf is a subject as a resource.
func accountOf(subjectType, subjectID string) authz.Resource {
	if subjectType == authn.ServiceAccount {
		return authz.Resource{Type: typeServiceAccount, ID: subjectID}
	}
	return authz.Resource{Type: typeUserAccount, ID: subjectID}
}
