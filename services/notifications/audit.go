package notifications

import (
	"context"
	"database/sql"
	"slices"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/log"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// kind is a type of resource that has subscribers, and the permissions on them.
type kind struct{ list, update string }

var kinds = map[string]kind{
	typeOrganization: {"organization-manager.organizations.listSubscribers", "organization-manager.organizations.updateSubscribers"},
	typeCloud:        {"resource-manager.clouds.listAccessBindings", "resource-manager.clouds.update"},
	typeFolder:       {"resource-manager.folders.listAccessBindings", "resource-manager.folders.update"},
}

// eventSource is the service of UpdateSubscribers (AU-4).
const eventSource = "organizationmanager"

// record writes the audit record UpdateSubscribers of a change to the subscribers of
// the first resource of a path (AU-4), in the transaction of the change.
func (s *Service) record(ctx context.Context, tx *sql.Tx, path []*accessv1.Resource, details map[string]any) error {
	return s.audit(ctx, tx, "UpdateSubscribers", path, kinds[path[0].GetType()].update, details)
}

// audit writes the audit record of an event about the first resource of a path, in the
// transaction of its change. permission is the one that was checked, if any.
func (s *Service) audit(ctx context.Context, tx *sql.Tx, event string, path []*accessv1.Resource, permission string, details map[string]any) error {
	p, req := authn.FromContext(ctx), log.RequestFrom(ctx)
	on := path[0]
	r := audit.Record{
		EventSource: eventSource, EventType: audit.EventType(eventSource, event), EventTime: s.now(), EventStatus: audit.Done,
		Authentication:  audit.Authentication{Authenticated: p.IsSubject() || p.Unit != "", SubjectType: p.Type, SubjectID: p.ID, Unit: p.Unit},
		Authorization:   audit.Authorization{Authorized: true},
		RequestMetadata: audit.RequestMetadata{RemoteAddress: req.Remote, UserAgent: req.UserAgent, RequestID: req.ID},
		Details:         details,
	}
	if permission != "" {
		r.Authorization.Permissions = []audit.Permission{{
			Permission: permission, ResourceType: on.GetType(), ResourceID: on.GetId(), Authorized: true,
		}}
	}
	for _, at := range slices.Backward(path) {
		r.ResourceMetadata.Path = append(r.ResourceMetadata.Path, audit.Resource{Type: at.GetType(), ID: at.GetId()})
	}
	return audit.Write(ctx, tx, Name, r)
}
