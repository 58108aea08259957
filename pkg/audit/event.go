package audit

import (
	"context"
	"time"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/log"
)

// Event is what most records of a change say beside who asked for it. A permission that
// is not empty was checked on On.
type Event struct {
	Source     string // "organizationmanager"
	Name       string // "CreateGroup" (AU-1 to AU-5)
	At         time.Time
	Status     Status // Done when empty
	Permission string
	On         Resource
	Path       []Resource // the changed resource last
	Details    map[string]any
}

// Record is the record of an event of the request or job in ctx. unit stands for
// whoever acts where nobody asked.
func (e Event) Record(ctx context.Context, unit string) Record {
	p, req := authn.FromContext(ctx), log.RequestFrom(ctx)
	r := Record{
		EventSource: e.Source, EventType: EventType(e.Source, e.Name), EventTime: e.At, EventStatus: e.Status,
		Authentication: By(p), Authorization: Authorization{Authorized: true}, ResourceMetadata: ResourceMetadata{Path: e.Path},
		RequestMetadata: RequestMetadata{RemoteAddress: req.Remote, UserAgent: req.UserAgent, RequestID: req.ID},
	}
	if e.Status == "" {
		r.EventStatus = Done
	}
	if !p.IsSubject() && p.Unit == "" {
		r.Authentication.Unit = unit
	}
	if e.Permission != "" {
		r.Authorization.Permissions = []Permission{{Permission: e.Permission, ResourceType: e.On.Type, ResourceID: e.On.ID, Authorized: true}}
	}
	if e.Details != nil {
		r.Details = e.Details
	}
	return r
}
