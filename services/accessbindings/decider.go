package accessbindings

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"
)

// decider judges the unit's own methods by its own graph, as AccessService does
// for the methods of others.
type decider struct {
	graph *graph
	now   func() time.Time
}

var _ authz.Decider = (*decider)(nil)

// Authenticate refuses void tokens and subjects that may not act.
func (d *decider) Authenticate(_ context.Context, p authn.Principal) error {
	return d.graph.mayAct(p, nowMicros(d.now))
}

// Authorize is Authenticate and that the subject holds the permission.
func (d *decider) Authorize(_ context.Context, p authn.Principal, permission string, r authz.Resource) error {
	return d.graph.judge(d.query(p, permission, r))
}

// AuthorizeEach answers for each resource.
func (d *decider) AuthorizeEach(ctx context.Context, p authn.Principal, permission string, rs []authz.Resource) ([]bool, error) {
	if err := d.Authenticate(ctx, p); err != nil {
		return nil, err
	}
	out := make([]bool, len(rs))
	for i, r := range rs {
		err := d.graph.decide(d.query(p, permission, r))
		if err != nil && apierr.CodeOf(err) != codes.PermissionDenied {
			return nil, err
		}
		out[i] = err == nil
	}
	return out, nil
}

func (d *decider) query(p authn.Principal, permission string, r authz.Resource) checker.Query {
	return checker.Query{
		Subject: checker.Subject{Type: p.Type, ID: p.ID}, Token: checker.TokenID(p.TokenID), Session: checker.TokenID(p.Session),
		Permission: permission, Resource: checker.Resource(r), Now: nowMicros(d.now),
	}
}
