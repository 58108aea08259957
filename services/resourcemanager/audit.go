package resourcemanager

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/log"
)

// event is one audit event about a resource (AU-1, AU-4).
type event struct {
	verb       string // Create, Update, Delete; ours: CancelDeletion (AU-8)
	status     audit.Status
	permission string         // checked for it; "" when none was, or none now
	on         authz.Resource // where it was checked
	details    map[string]any
}

// record writes the audit record of a change to r within its transaction. Within a
// request it says who asked; within a job that the unit did it by itself.
func (s *Service) record(ctx context.Context, tx *sql.Tx, r Resource, e event) error {
	path, err := s.path(ctx, tx, r)
	if err != nil {
		return err
	}
	return s.note(ctx, tx, r.Kind.source, eventName(e.verb, r.Kind), path, e)
}

// note writes the audit record of an event about what the path leads to.
func (s *Service) note(ctx context.Context, tx *sql.Tx, source, name string, path []audit.Resource, e event) error {
	p, req := authn.FromContext(ctx), log.RequestFrom(ctx)
	rec := audit.Record{
		EventSource:      source,
		EventType:        audit.EventType(source, name),
		EventTime:        s.now(),
		EventStatus:      e.status,
		Authentication:   audit.By(p),
		Authorization:    audit.Authorization{Authorized: true},
		ResourceMetadata: audit.ResourceMetadata{Path: path},
		RequestMetadata:  audit.RequestMetadata{RemoteAddress: req.Remote, UserAgent: req.UserAgent, RequestID: req.ID},
		Details:          e.details,
	}
	if !p.IsSubject() && p.Unit == "" {
		rec.Authentication.Unit = Name
	}
	if e.permission != "" {
		rec.Authorization.Permissions = []audit.Permission{{
			Permission: e.permission, ResourceType: e.on.Type, ResourceID: e.on.ID, Authorized: true,
		}}
	}
	return audit.Write(ctx, tx, Name, rec)
}

// eventName puts the kind into a verb: CreateCloud, CancelCloudDeletion.
func eventName(verb string, k *kind) string {
	if verb == verbCancel {
		return "Cancel" + k.event + "Deletion"
	}
	return verb + k.event
}

// Verbs of events.
const (
	verbCreate = "Create"
	verbUpdate = "Update"
	verbDelete = "Delete"
	verbCancel = "CancelDeletion"
)

// path names r and what it lies in, the organization first.
func (s *Service) path(ctx context.Context, tx *sql.Tx, r Resource) ([]audit.Resource, error) {
	var path []audit.Resource
	if r.ParentID != "" {
		parent, err := s.store.Get(ctx, tx, r.Kind.parent, r.ParentID)
		if err != nil {
			return nil, err
		}
		if path, err = s.path(ctx, tx, parent); err != nil {
			return nil, err
		}
	}
	return append(path, audit.Resource{Type: r.Kind.typ, ID: r.ID, Name: r.Name}), nil
}
