package replica

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"
)

var _ authz.Decider = (*Replica)(nil)

// Refusals, as the checker's own.
var (
	errNoRight  = apierr.Unavailable(apierr.ReasonCheckerUnavailable, "the replica of the permission checker cannot tell whether it is in step, try again")
	errRevoked  = apierr.Unauthenticated(apierr.ReasonTokenRevoked, "the token is revoked")
	errInactive = apierr.Unauthenticated(apierr.ReasonSubjectInactive, "the subject is unknown, suspended or deleted")
)

// view returns the facts and the store's time, after it has made sure that the replica may
// answer. ctx bounds how long it waits for the right, beside Config.Patience.
func (r *Replica) view(ctx context.Context) (*checker.View, int64, error) {
	now, err := r.right()
	if err != nil && r.cfg.Patience > 0 {
		ctx, cancel := context.WithTimeout(ctx, r.cfg.Patience)
		defer cancel()
		if r.Ready(ctx) == nil {
			now, err = r.right()
		}
	}
	if err != nil {
		return nil, 0, err
	}
	return r.graph.Load().View(), now, nil
}

// Authenticate refuses void tokens, those of a session that is over, and subjects that may
// not act. The token itself was verified by whoever made the principal.
func (r *Replica) Authenticate(ctx context.Context, p authn.Principal) error {
	v, now, err := r.view(ctx)
	if err != nil {
		return err
	}
	return mayAct(v, &p, now)
}

func mayAct(v *checker.View, p *authn.Principal, now int64) error {
	switch {
	case v.TokenRevoked(checker.TokenID(p.TokenID)) || v.TokenRevoked(checker.TokenID(p.Session)):
		return errRevoked
	case !v.MayAct(checker.Subject{Type: p.Type, ID: p.ID}, now):
		return errInactive
	default:
		return nil
	}
}

// Authorize is Authenticate, and that the subject holds the permission on the resource. A
// principal of a subject alone, without a token, is asked about as that subject.
func (r *Replica) Authorize(ctx context.Context, p authn.Principal, permission string, on authz.Resource) error {
	v, now, err := r.view(ctx)
	if err != nil {
		return err
	}
	return decide(v, &p, permission, on, now)
}

// AuthorizeEach answers for each resource, from one revision.
func (r *Replica) AuthorizeEach(ctx context.Context, p authn.Principal, permission string, rs []authz.Resource) ([]bool, error) {
	if len(rs) > authz.MaxEach {
		return nil, apierr.Internal(fmt.Errorf("%d resources in one question, at most %d", len(rs), authz.MaxEach))
	}
	v, now, err := r.view(ctx)
	if err != nil {
		return nil, err
	}
	if err := mayAct(v, &p, now); err != nil || len(rs) == 0 {
		return nil, err
	}
	out := make([]bool, len(rs))
	for i, on := range rs {
		err := decide(v, &p, permission, on, now)
		if err != nil && apierr.CodeOf(err) != codes.PermissionDenied {
			return nil, err
		}
		out[i] = err == nil
	}
	return out, nil
}

// decide is nil for yes.
func decide(v *checker.View, p *authn.Principal, permission string, on authz.Resource, now int64) error {
	q := checker.Query{
		Subject: checker.Subject{Type: p.Type, ID: p.ID}, Token: checker.TokenID(p.TokenID), Session: checker.TokenID(p.Session),
		Permission: permission, Resource: checker.Resource(on), Now: now,
	}
	switch v.Decide(q).Reason {
	case checker.Granted:
		return nil
	case checker.DeniedByPolicy:
		return deniedByPolicy(v, q)
	case checker.TokenRevoked:
		return errRevoked
	case checker.SubjectInactive, checker.SubjectUnknown:
		return errInactive
	case checker.ResourceUnknown, checker.ResourceDeleted:
		return apierr.Denied(apierr.ReasonResourceNotFound, "%s %q not found", on.Type, on.ID).
			WithMeta("resourceType", on.Type, "resourceId", on.ID)
	case checker.PermissionUnknown:
		if err := mayAct(v, p, now); err != nil {
			return err
		}
		return apierr.InvalidField("permission", "%q is not in the catalogue", permission)
	case checker.NoGrant:
	}
	return authz.Denied(permission, on)
}

// deniedByPolicy names the policy that denies, the nearest one, and what carries it.
func deniedByPolicy(v *checker.View, q checker.Query) error {
	denials := v.Explain(q).Denials
	if len(denials) == 0 {
		return apierr.Internal(errors.New("a policy denies, and none is found"))
	}
	by := denials[0]
	if by.Policy == checker.PayerStopped {
		return authz.DeniedByPayer(q.Permission, authz.Resource(q.Resource), authz.Resource(by.Resource))
	}
	return apierr.Denied(apierr.ReasonDeniedByPolicy, "permission %s on %s %q is denied by the access policy %s on %s %q",
		q.Permission, q.Resource.Type, q.Resource.ID, by.Policy, by.Resource.Type, by.Resource.ID).
		WithMeta("permission", q.Permission, "resourceType", q.Resource.Type, "resourceId", q.Resource.ID,
			"accessPolicyTemplateId", by.Policy, "accessPolicyResourceType", by.Resource.Type, "accessPolicyResourceId", by.Resource.ID)
}
