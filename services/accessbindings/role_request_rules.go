package accessbindings

import (
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Bounds of role requests (RQ-2, RQ-3).
const (
	minRoleTerm        = time.Second
	maxRoleTerm        = 90 * 24 * time.Hour
	rolePendingFor     = 14 * 24 * time.Hour
	maxPendingRequests = 50 // of one requester
)

// roleGrid is RQ-4, RQ-6 [ours]: who does what with a role request in which state. The
// decider is whoever may update the access bindings of the resource. Both sides end a
// role early, the requester by giving it up.
var roleGrid = request.Grid{
	request.Requester: {
		request.Post:   {request.Pending, request.Approved},
		request.Cancel: {request.Pending},
		request.Revoke: {request.Approved},
	},
	request.Decider: {
		request.Post:    {request.Pending, request.Approved},
		request.Approve: {request.Pending},
		request.Reject:  {request.Pending},
		request.Revoke:  {request.Approved},
	},
}

// roleSides are the sides of a role request as people see them.
var roleSides = map[string]accessv1.RoleRequestMessage_Side{
	string(request.Requester): accessv1.RoleRequestMessage_REQUESTER,
	string(request.Decider):   accessv1.RoleRequestMessage_DECIDER,
}

// Reasons of refusals of role requests, beside those of package request and of the
// rules of granting.
const (
	ReasonRequesterNotEligible = "REQUESTER_NOT_ELIGIBLE" // RQ-1
	ReasonTooManyRequests      = "TOO_MANY_REQUESTS"      // RQ-3
	ReasonDeciderMayNotGrant   = "DECIDER_MAY_NOT_GRANT"  // RQ-4
)

var (
	errNotRequestable    = apierr.Precondition(ReasonRequesterNotEligible, "roles are asked for in organizations, and the resource is in none")
	errNotOfOrganization = apierr.Denied(ReasonRequesterNotEligible, "roles are asked for by active members of the organization, and by its service accounts")
	errRequesterInactive = apierr.Precondition(ReasonRequesterNotEligible, "the requester may not act, or has left the organization")
	errManyRequests      = apierr.Precondition(ReasonTooManyRequests, "%d requests of the requester are pending, and more are not taken", maxPendingRequests)
	errDeciderLost       = apierr.Precondition(ReasonDeciderMayNotGrant, "who approved the request may not grant the role any more: it was not given")
)

// term is RQ-2 [ours]: the role is asked for until a time or for a duration from its
// approval, of 1 second to 90 days; it can be decided for 14 days, and no longer than
// the role would last.
func term(r request.Request, req *accessv1.CreateRoleRequestRequest) (request.Request, error) {
	r.PendingUntil = r.CreatedAt.Add(rolePendingFor)
	switch t := req.GetTerm().(type) {
	case *accessv1.CreateRoleRequestRequest_Duration:
		if r.Lasts = t.Duration.AsDuration().Truncate(time.Microsecond); t.Duration.CheckValid() != nil || r.Lasts < minRoleTerm || r.Lasts > maxRoleTerm {
			return r, apierr.InvalidField("duration", "must be 1 second to 90 days")
		}
	case *accessv1.CreateRoleRequestRequest_ExpiresAt:
		r.EndsAt = t.ExpiresAt.AsTime().Truncate(time.Microsecond)
		switch {
		case t.ExpiresAt.CheckValid() != nil || !r.EndsAt.After(r.CreatedAt):
			return r, apierr.InvalidField("expires_at", "must be in the future")
		case r.EndsAt.After(r.CreatedAt.Add(maxRoleTerm)):
			return r, apierr.InvalidField("expires_at", "must be within 90 days")
		}
		if r.EndsAt.Before(r.PendingUntil) {
			r.PendingUntil = r.EndsAt
		}
	default:
		return r, apierr.InvalidField("term", "must be set: duration or expires_at")
	}
	return r, nil
}

// requestable is RQ-1 [ours]: a role is asked for on a resource of an organization, by
// its active members and service accounts, and only one that somebody could give them
// there. It returns the organization.
func requestable(book *roleBook, v *checker.View, who Subject, on Ref, roleID string, now int64) (organization string, err error) {
	path := v.Path(checker.Resource(on))
	if len(path) == 0 {
		return "", notFound(on)
	}
	if organization = rootOf(path); organization == "" {
		return "", errNotRequestable
	}
	if !eligible(who, v, organization, now) {
		return "", errNotOfOrganization
	}
	role, listed := book.role(roleID)
	if !listed {
		return "", named(apierr.NotFound(ReasonRoleNotFound, "role %q not found", roleID), "role_id")
	}
	d := rules.Delta{
		Add: true, Role: role, Resource: rules.Resource{Type: on.Type, ID: on.ID, Organization: organization},
		Subject: rules.Subject{Type: who.Type, ID: who.ID, Home: homeOf(checker.Subject(who), v)},
	}
	return organization, named(rules.May(d, func(string) bool { return true }), "role_id")
}

// eligible reports whether a subject may act and belongs to an organization.
func eligible(who Subject, v *checker.View, organization string, now int64) bool {
	return v.MayAct(checker.Subject(who), now) && belongs(checker.Subject(who), v, organization)
}

// grantable refuses what a decider may not grant on a resource by the state of a graph
// (AS-1, AS-3 to AS-16): the rules of granting by hand, for the role of a request.
func grantable(g *graph, book *roleBook, by checker.Query, r request.Request) error {
	on := Ref(r.Thing)
	by.Resource = checker.Resource(on)
	holds := g.holds(by)
	if err := rules.MayManage(book.permission(on.Type, "updateAccessBindings"), holds); err != nil {
		return err
	}
	role, listed := book.role(r.Aspect)
	if !listed {
		return apierr.NotFound(ReasonRoleNotFound, "role %q not found", r.Aspect)
	}
	who := Subject(r.Requester)
	return rules.May(rules.Delta{
		Add: true, Role: role, Limit: g.limit(by), Subject: rules.Subject{Type: who.Type, ID: who.ID, Home: g.home(who)},
		Resource: rules.Resource{Type: on.Type, ID: on.ID, Organization: organizationOf(g.above(on))},
	}, holds)
}
