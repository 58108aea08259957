package marketplacerequests

import (
	"cmp"
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// eventSource is the service of the unit's events.
const eventSource = "marketplace"

// event is one audit event of this unit (AU-8).
type event struct {
	name       string           // e.g. "CreateProduct"
	status     audit.Status     // Done when empty
	path       []audit.Resource // what it is about, the root first
	permission string           // checked for it; "" when none was
	on         authz.Resource   // where it was checked
	details    map[string]any
}

// record writes the audit record of a change within its transaction. Within a request
// it says who asked; within a job that the unit did it by itself.
func (s *Service) record(ctx context.Context, tx *sql.Tx, e event) error {
	return audit.Write(ctx, tx, Name, s.recordOf(ctx, e))
}

// recordIn adds to a batch what record does.
func (s *Service) recordIn(ctx context.Context, b *sqldb.Batch, e event) error {
	var all audit.Records
	if err := all.Add(s.recordOf(ctx, e)); err != nil {
		return err
	}
	all.Write(b, Name)
	return nil
}

func (s *Service) recordOf(ctx context.Context, e event) audit.Record {
	p, req := authn.FromContext(ctx), log.RequestFrom(ctx)
	r := audit.Record{
		EventSource: eventSource, EventType: audit.EventType(eventSource, e.name), EventTime: s.now(), EventStatus: cmp.Or(e.status, audit.Done),
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
	return r
}

// path is where a publisher stands: it is a root.
func (p Publisher) path() []audit.Resource {
	return []audit.Resource{{Type: typePublisher, ID: p.ID, Name: p.Name}}
}

// path is where a product stands.
func (p Product) path() []audit.Resource {
	return []audit.Resource{{Type: typePublisher, ID: p.PublisherID}, {Type: typeProduct, ID: p.ID, Name: p.Slug}}
}
