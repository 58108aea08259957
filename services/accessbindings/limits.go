package accessbindings

import (
	"context"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// ceiling is one limit that a write has to keep (QL).
type ceiling struct {
	quotaID string
	on      quota.Resource
}

func organizationBound(quotaID, organization string) ceiling {
	return ceiling{quotaID, quota.Resource{Type: typeOrganization, ID: organization}}
}

// limits are the numbers of the ceilings of a write, as they were before it: they are
// another unit's, which nobody asks while the head is locked. What is used is
// counted on the locked state.
type limits map[ceiling]int64

// room refuses when what is used and what is wanted are over a limit (QL-2).
func (l limits) room(c ceiling, usage, wanted int64) error {
	return quota.Exceeded(c.quotaID, c.on, l[c], usage, wanted)
}

// bounded makes writes that have bounds.
type bounded struct {
	committer *committer
	limits    *quota.Limits
}

// submit reads the limits and has the write made that they lead to. A limit that
// would refuse it is asked for once more, so that one which was just raised counts.
func (b *bounded) submit(ctx context.Context, bounds []ceiling, in func(limits) intent) (result, error) {
	l, err := b.read(ctx, bounds)
	if err != nil {
		return result{}, err
	}
	r, err := b.committer.submit(ctx, in(l))
	if apierr.CodeOf(err) != codes.ResourceExhausted || !b.raised(ctx, l, err) {
		return r, err
	}
	if l, err = b.read(ctx, bounds); err != nil {
		return result{}, err
	}
	return b.committer.submit(ctx, in(l))
}

func (b *bounded) read(ctx context.Context, bounds []ceiling) (limits, error) {
	l := make(limits, len(bounds))
	for _, one := range bounds {
		limit, err := b.limits.Limit(ctx, one.quotaID, one.on)
		if err != nil {
			return nil, err
		}
		l[one] = limit
	}
	return l, nil
}

// raised reports whether the limit that refused a write is higher by now.
func (b *bounded) raised(ctx context.Context, l limits, refusal error) bool {
	e, ok := apierr.As(refusal)
	if !ok {
		return false
	}
	one := ceiling{e.Meta["quotaId"], quota.Resource{Type: e.Meta["resourceType"], ID: e.Meta["resourceId"]}}
	limit, known := l[one]
	return known && b.limits.Check(ctx, one.quotaID, one.on, limit, 1) == nil
}

// usage counts what this unit owns of the quotas, for the kit's UsageService.
func (s *store) usage() map[string]quota.Usage {
	members := func(typ string) quota.Usage {
		return func(ctx context.Context, id string) (int64, error) { return s.countMembers(ctx, s.db, Ref{typ, id}) }
	}
	memberships := func(typ string) quota.Usage {
		return func(ctx context.Context, id string) (int64, error) { return s.countContainers(ctx, s.db, id, typ) }
	}
	return map[string]quota.Usage{
		catalog.QuotaMemberships:          members(typeOrganization),
		catalog.QuotaGroupMembers:         members(typeGroup),
		catalog.QuotaSubjectOrganizations: memberships(typeOrganization),
		catalog.QuotaSubjectGroups:        memberships(typeGroup),
		catalog.QuotaGroups: func(ctx context.Context, id string) (int64, error) {
			return s.countGroups(ctx, s.db, id)
		},
		catalog.QuotaAccessBindings: func(ctx context.Context, id string) (int64, error) {
			return s.countAssignments(ctx, sqldb.Querier(s.db), id)
		},
		catalog.QuotaGrantPolicies: func(ctx context.Context, id string) (int64, error) {
			return s.countGrantPolicies(ctx, s.db, id)
		},
	}
}
