package checkertest

import (
	"slices"
	"strings"
)

// Query is one question: may the subject do what the permission names to the
// resource, at a time. Token is the token it came by, Session the login session
// that the token came from; "" for none.
type Query struct {
	Subject    Ref
	Permission string
	Resource   Ref
	Now        int64
	Token      string
	Session    string
}

// Answers, one for each way in which a question can end. Yes is the only yes.
const (
	Yes               = "GRANTED"
	NoGrant           = "NO_GRANT"
	DeniedByPolicy    = "DENIED_BY_POLICY"
	SubjectUnknown    = "SUBJECT_UNKNOWN"
	SubjectInactive   = "SUBJECT_INACTIVE"
	ResourceUnknown   = "RESOURCE_UNKNOWN"
	ResourceDeleted   = "RESOURCE_DELETED"
	TokenRevoked      = "TOKEN_REVOKED"
	PermissionUnknown = "PERMISSION_UNKNOWN"
)

// Answer is the answer that the rules give.
func (w *World) Answer(q Query) string {
	// A permission must be catalogued, and a void token proves nobody. TK-5: a token
	// ends with the session that it came from.
	if !w.catalogued(q.Permission) {
		return PermissionUnknown
	}
	if q.Token != "" && slices.Contains(w.Revoked, q.Token) || q.Session != "" && slices.Contains(w.Revoked, q.Session) {
		return TokenRevoked
	}

	if problem := w.mayNotAct(q.Subject, q.Now); problem != "" {
		return problem
	}

	// RH-8: the check is evaluated against the resource and all its ancestors.
	if _, problem := w.path(q.Resource); problem != "" {
		return problem
	}
	if len(w.Grants(q)) == 0 {
		return NoGrant // RH-8: no grant found means denied
	}

	// AP-1: first the role, without it nothing else is looked at; with it the
	// policies, and a match denies. AP-2: they are inherited down.
	// AP-10: whoever asks, owners too. AP-8: a policy on what stands directly below
	// the resource can protect the resource as well.
	if len(w.Denials(q)) > 0 {
		return DeniedByPolicy
	}
	return Yes
}

// PayerStopped is the name of the policy that a stopped payer is.
const PayerStopped = "billing.payerStopped"

// Denials are the access policies that deny the permission on the resource, roles
// aside. PT-30: while a payer is stopped, nobody uses what it pays for, nor what is below
// that, as if a policy were bound there.
func (w *World) Denials(q Query) []Policy {
	path, _ := w.path(q.Resource)
	var found []Policy
	for _, p := range w.Policies {
		here := slices.Contains(path, p.Resource) && slices.Contains(p.Permissions, q.Permission)
		below := w.standsDirectlyBelow(p.Resource, q.Resource) && slices.Contains(p.OnParent, q.Permission)
		if here || below {
			found = append(found, p)
		}
	}
	for _, p := range w.Payers {
		if slices.Contains(path, p.For) && slices.Contains(w.Stopped, p.By) && slices.Contains(w.StopDenies, q.Permission) {
			found = append(found, Policy{Resource: p.For, Name: PayerStopped})
		}
	}
	return found
}

func (w *World) standsDirectlyBelow(child, parent Ref) bool {
	return slices.ContainsFunc(w.Resources, func(r Resource) bool { return r.Name == child && r.Parent == parent && !r.Removed })
}

// mayNotAct says why a subject may do nothing at all, "" if it may act: only users
// and service accounts act, and only active ones.
func (w *World) mayNotAct(s Ref, now int64) (problem string) {
	acts := []string{"userAccount", "federatedUser", "serviceAccount"}
	state := w.stateOf(s)
	switch {
	case state == "" || !slices.Contains(acts, s.Type()):
		return SubjectUnknown
	case state != "active":
		return SubjectInactive
	case s.Type() == "serviceAccount" && w.removed(Ref("iam.serviceAccount:"+s.ID())):
		return SubjectInactive // SK-1: it is a resource as well
	case w.endOf(s) != 0 && now >= w.endOf(s):
		return SubjectInactive // SK-1: expires_at has come
	default:
		return ""
	}
}

// Grants are the bindings that give the subject the permission on the resource,
// policies aside: RH-3 and RH-4, the union of what is bound along the path.
func (w *World) Grants(q Query) []Binding {
	path, _ := w.path(q.Resource)
	var found []Binding
	for _, b := range w.Bindings {
		if slices.Contains(path, b.Resource) && slices.Contains(w.Roles[b.Role], q.Permission) &&
			b.alive(q.Now) && w.countsAs(q.Subject, b.Subject, nil) {
			found = append(found, b)
		}
	}
	return found
}

func (w *World) catalogued(permission string) bool {
	for _, held := range w.Roles {
		if slices.Contains(held, permission) {
			return true
		}
	}
	return slices.Contains(w.Permissions, permission)
}

// alive: a pair is in force while one source remains that has not ended. What
// ends now has ended.
func (b Binding) alive(now int64) bool {
	for _, s := range b.Sources {
		if s.Until == 0 || now < s.Until {
			return true
		}
	}
	return false
}

// path is the resource and everything above it, or what is wrong with it.
func (w *World) path(r Ref) (path []Ref, problem string) {
	for r != "" {
		at := slices.IndexFunc(w.Resources, func(x Resource) bool { return x.Name == r })
		if at < 0 {
			return nil, ResourceUnknown
		}
		if w.Resources[at].Removed {
			return nil, ResourceDeleted
		}
		path = append(path, r)
		r = w.Resources[at].Parent
	}
	if len(path) == 0 {
		return nil, ResourceUnknown
	}
	return path, ""
}

func (w *World) removed(r Ref) bool {
	for _, x := range w.Resources {
		if x.Name == r {
			return x.Removed
		}
	}
	return false
}

func (w *World) stateOf(s Ref) string {
	for _, x := range w.Subjects {
		if x.Name == s {
			return x.State
		}
	}
	return ""
}

func (w *World) endOf(s Ref) int64 {
	for _, x := range w.Subjects {
		if x.Name == s {
			return x.Until
		}
	}
	return 0
}

// countsAs reports whether what is bound to holder holds for who. The groups
// already looked into are passed along, in case they contain one another.
func (w *World) countsAs(who, holder Ref, seen []Ref) bool {
	if who == holder {
		return true
	}

	// PG-1, PG-2: everybody who is registered, service accounts too (SU-8), is in
	// both public groups, whatever the organization.
	if holder == "system:allUsers" || holder == "system:allAuthenticatedUsers" {
		return true
	}

	// SU-7: who is in the organization, federation or pool has what its system
	// group has; SU-8: service accounts are not in system groups.
	if holder.Type() == "system" {
		words := strings.Split(holder.ID(), ":") // group, organization, <id>, users
		if len(words) != 4 || who.Type() != "userAccount" && who.Type() != "federatedUser" {
			return false
		}
		return w.directlyIn(who, Ref("organization-manager."+words[1]+":"+words[2]))
	}

	// GR-3: membership gives every role that the group has. Groups may contain
	// groups. A group that is not active, or was removed (GR-5), has none.
	if holder.Type() == "group" && w.stateOf(holder) == "active" && !slices.Contains(seen, holder) {
		container := Ref("organization-manager.group:" + holder.ID())
		if w.directlyIn(who, container) {
			return true
		}
		for _, m := range w.Members {
			if m.Container == container && m.Subject.Type() == "group" && !w.removed(container) &&
				w.countsAs(who, m.Subject, append(seen, holder)) {
				return true
			}
		}
	}
	return false
}

// directlyIn reports a direct membership of a container that was not removed.
func (w *World) directlyIn(who, container Ref) bool {
	return !w.removed(container) && slices.Contains(w.Members, Member{container, who})
}
