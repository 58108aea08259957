package accessbindings

import (
	"context"
	"strings"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/log"
)

// bindingEvents are the sources and nouns of rules AU-1 to AU-5 for the types
// whose events are not named after the type itself.
var bindingEvents = map[string]struct{ source, prefix, noun string }{
	"iam.workloadIdentityFederation":        {"iam", "workload.oidc.", "Federation"},
	"organization-manager.userpool":         {"organizationmanager", "idp.", "Userpool"},
	"organization-manager.samlApplication":  {"organizationmanager", "saml.", "Application"},
	"organization-manager.oauthApplication": {"organizationmanager", "oauth.", "Application"},
}

// bindingEvent names the audit event of a change of bindings: Set or Update, then
// what they are on, e.g. resourcemanager and SetCloudAccessBindings (AU-1).
func bindingEvent(verb, resourceType string) (source, event string) {
	e, special := bindingEvents[resourceType]
	if !special {
		service, noun, _ := strings.Cut(resourceType, ".")
		e.source = strings.ReplaceAll(service, "-", "")
		e.noun = strings.ToUpper(noun[:min(1, len(noun))]) + noun[min(1, len(noun)):]
	}
	return e.source, e.prefix + verb + e.noun + "AccessBindings"
}

// recordOf begins the audit record of a call: who makes it, from where, what was
// checked. The plan of the write adds what it changed, the committer the time.
func recordOf(ctx context.Context, source, event string, checked ...audit.Permission) *audit.Record {
	p, r := authn.FromContext(ctx), log.RequestFrom(ctx)
	return &audit.Record{
		EventSource: source,
		EventType:   audit.EventType(source, event),
		Authentication: audit.Authentication{
			Authenticated: p.IsSubject() || p.Unit != "", SubjectType: p.Type, SubjectID: p.ID, Unit: p.Unit,
		},
		Authorization:   audit.Authorization{Authorized: true, Permissions: checked},
		RequestMetadata: audit.RequestMetadata{RemoteAddress: r.Remote, UserAgent: r.UserAgent, RequestID: r.ID},
	}
}

// recordOn returns a copy of a record with the path of what was changed and the details.
// A record is copied since a plan may be made again.
func recordOn(r *audit.Record, path []Ref, details any) *audit.Record {
	c := *r
	c.ResourceMetadata.Path = make([]audit.Resource, len(path))
	for i, step := range path {
		c.ResourceMetadata.Path[i] = audit.Resource{Type: step.Type, ID: step.ID}
	}
	c.Details = details
	return &c
}
