package accessbindings

import (
	"context"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/log"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// bindingEvents are the sources and nouns of rules AU-1 to AU-5 for the types
// whose events are not named after the type itself.
var bindingEvents = map[string]struct{ source, prefix, noun string }{
	"iam.workloadIdentityFederation":        {"iam", "workload.oidc.", "Federation"},
	"organization-manager.userpool":         {"organizationmanager", "idp.", "Userpool"},
	"organization-manager.samlApplication":  {"organizationmanager", "saml.", "Application"},
	"organization-manager.oauthApplication": {"organizationmanager", "oauth.", "Application"},
}

// resourceEvent returns the service of the events about a type, and what stands
// before and after the verb in their names: resourcemanager, "" and Cloud.
func resourceEvent(resourceType string) (source, prefix, noun string) {
	if e, special := bindingEvents[resourceType]; special {
		return e.source, e.prefix, e.noun
	}
	service, noun, _ := strings.Cut(resourceType, ".")
	return strings.ReplaceAll(service, "-", ""), "", strings.ToUpper(noun[:min(1, len(noun))]) + noun[min(1, len(noun)):]
}

// bindingEvent names the audit event of a change of bindings: Set or Update, then
// what they are on, e.g. resourcemanager and SetCloudAccessBindings (AU-1).
func bindingEvent(verb, resourceType string) (source, event string) {
	source, prefix, noun := resourceEvent(resourceType)
	return source, prefix + verb + noun + "AccessBindings"
}

// policyEvent names the audit event of a change of policies: BindCloudAccessPolicy,
// UpdateCloudAccessPolicyBindingParameters (AU-1, AU-4).
func policyEvent(verb policyVerb, resourceType string) (source, event string) {
	source, prefix, noun := resourceEvent(resourceType)
	event = prefix + string(verb) + noun + "AccessPolicy"
	if verb == updatePolicy {
		event += "BindingParameters"
	}
	return source, event
}

// recordOf begins the audit record of a call: who makes it, from where, what was
// checked. The plan of the write adds what it changed, the committer the time.
func recordOf(ctx context.Context, source, event string, checked ...audit.Permission) *audit.Record {
	p, r := authn.FromContext(ctx), log.RequestFrom(ctx)
	return &audit.Record{
		EventSource:     source,
		EventType:       audit.EventType(source, event),
		Authentication:  audit.By(p),
		Authorization:   audit.Authorization{Authorized: true, Permissions: checked},
		RequestMetadata: audit.RequestMetadata{RemoteAddress: r.Remote, UserAgent: r.UserAgent, RequestID: r.ID},
	}
}

// recordOn returns a copy of a record with the path of what was changed, which comes
// with the root last, and the details.
// A record is copied since a plan may be made again.
func recordOn(r *audit.Record, path []Ref, details any) *audit.Record {
	c := *r
	c.ResourceMetadata.Path = make([]audit.Resource, 0, len(path))
	for _, step := range slices.Backward(path) {
		c.ResourceMetadata.Path = append(c.ResourceMetadata.Path, audit.Resource{Type: step.Type, ID: step.ID})
	}
	c.Details = details
	return &c
}

// sign says in the changes of a write who makes it, as its record does, so that the
// history knows who granted what (EX-9).
func (p plan) sign() {
	by := p.record.Authentication
	if by.SubjectID == "" {
		return
	}
	for _, c := range p.changes {
		c.Author = &accessv1.Subject{Type: by.SubjectType, Id: by.SubjectID}
	}
}
