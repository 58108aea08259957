package identity

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/log"
)

// organizationEvent is one audit event about the members of an organization (AU-4).
type organizationEvent struct {
	name         string
	status       audit.Status
	permission   string         // "" when none was checked, or none now
	on           authz.Resource // where it was checked; the organization when zero
	organization audit.Resource
	below        []audit.Resource // what of it changed; nothing for the organization itself
	details      map[string]any
}

// recordOrganization writes the audit record of an event within the transaction of
// its change. Within a request it says who asked; within a job that the unit did it
// by itself.
func (s *Service) recordOrganization(ctx context.Context, tx *sql.Tx, e organizationEvent) error {
	const source = "organizationmanager"
	p, req := authn.FromContext(ctx), log.RequestFrom(ctx)
	rec := audit.Record{
		EventSource: source, EventType: audit.EventType(source, e.name), EventTime: s.now(), EventStatus: e.status,
		Authentication: audit.Authentication{
			Authenticated: p.IsSubject(), SubjectType: p.Type, SubjectID: p.ID, Unit: p.Unit,
		},
		Authorization:    audit.Authorization{Authorized: true},
		ResourceMetadata: audit.ResourceMetadata{Path: append([]audit.Resource{e.organization}, e.below...)},
		RequestMetadata:  audit.RequestMetadata{RemoteAddress: req.Remote, UserAgent: req.UserAgent, RequestID: req.ID},
		Details:          e.details,
	}
	if !p.IsSubject() {
		rec.Authentication.Unit = Name
	}
	if e.permission != "" {
		on := e.on
		if on == (authz.Resource{}) {
			on = authz.Resource{Type: e.organization.Type, ID: e.organization.ID}
		}
		rec.Authorization.Permissions = []audit.Permission{{
			Permission: e.permission, ResourceType: on.Type, ResourceID: on.ID, Authorized: true,
		}}
	}
	return audit.Write(ctx, tx, Name, rec)
}

// recordInvitation is recordOrganization for an invitation; for a draft without an
// id it is about the organization.
func (s *Service) recordInvitation(ctx context.Context, tx *sql.Tx, inv Invitation, name string, status audit.Status, permission string, details map[string]any) error {
	e := organizationEvent{
		name: name, status: status, permission: permission, details: details,
		organization: audit.Resource{Type: typeOrganization, ID: inv.OrganizationID, Name: inv.OrganizationName},
	}
	if inv.ID != "" {
		e.below = []audit.Resource{{Type: "organization-manager.invitation", ID: inv.ID, Name: inv.Email}}
	}
	return s.recordOrganization(ctx, tx, e)
}
