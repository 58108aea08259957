package resourcemanager

import (
	"context"
	"math"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	qmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
)

// quotaLimits is the public QuotaLimitService.
type quotaLimits struct {
	qmv1.UnsafeQuotaLimitServiceServer // a missing method does not compile
	*Service
}

// Get reads one quota of a resource (QL-3). Fails: QUOTA_NOT_FOUND, and UNAVAILABLE
// when the unit that counts it is away.
func (s *quotaLimits) Get(ctx context.Context, req *qmv1.GetQuotaLimitRequest) (*qmv1.QuotaLimit, error) {
	q, err := s.quotaOn(req.GetQuotaId(), req.GetResource().GetType())
	if err == nil {
		err = s.maySee(ctx, q.Service(), req.GetResource())
	} else if denied := authz.Withheld(ctx); denied != nil {
		err = denied
	}
	if err != nil {
		return nil, err
	}
	all, err := s.withUsage(ctx, req.GetResource(), []catalog.Quota{q})
	if err != nil {
		return nil, err
	}
	return all[0], nil
}

// List lists the quotas of one service on a resource, by id; none when the service
// has none there. Fails: UNAVAILABLE when a unit that counts them is away.
func (s *quotaLimits) List(ctx context.Context, req *qmv1.ListQuotaLimitsRequest) (*qmv1.ListQuotaLimitsResponse, error) {
	if err := s.maySee(ctx, req.GetService(), req.GetResource()); err != nil {
		return nil, err
	}
	scope := []string{"quotas", req.GetResource().GetType(), req.GetResource().GetId(), req.GetService()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	var shown []catalog.Quota
	for _, q := range s.catalog.Quotas() {
		if q.On == req.GetResource().GetType() && q.Service() == req.GetService() && place64(q) > after.ID {
			shown = append(shown, q)
		}
	}
	resp := &qmv1.ListQuotaLimitsResponse{Resource: req.GetResource()}
	if size := page.Size(req.GetPageSize()); len(shown) > size {
		shown = shown[:size]
		if resp.NextPageToken, err = s.pages.Seal(page.Position{ID: place64(shown[size-1])}, scope...); err != nil {
			return nil, err
		}
	}
	resp.QuotaLimits, err = s.withUsage(ctx, req.GetResource(), shown)
	return resp, err
}

// place64 is where a quota stands among those of its service: its id without the
// service, which is short enough for a page token.
func place64(q catalog.Quota) string { return q.ID[len(q.Service())+1:] }

// ListServices lists the services that have quotas on a type of resource.
func (s *quotaLimits) ListServices(_ context.Context, req *qmv1.ListServicesRequest) (*qmv1.ListServicesResponse, error) {
	scope := []string{"quota services", req.GetResourceType()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	has := make(map[string]bool)
	for _, q := range s.catalog.Quotas() {
		has[q.Service()] = has[q.Service()] || q.On == req.GetResourceType()
	}
	resp, size := new(qmv1.ListServicesResponse), page.Size(req.GetPageSize())
	for _, service := range s.catalog.QuotaServices() {
		if !has[service.ID] || service.ID <= after.ID {
			continue
		}
		if len(resp.GetServices()) == size {
			resp.NextPageToken, err = s.pages.Seal(page.Position{ID: resp.GetServices()[size-1].GetId()}, scope...)
			return resp, err
		}
		resp.Services = append(resp.Services, &qmv1.Service{Id: service.ID, Name: service.Name})
	}
	return resp, nil
}

// maySee lets whoever lacks quota-manager.quotaLimits.get see the quotas of a
// service by the permission <service>.quotas.get.
func (s *quotaLimits) maySee(ctx context.Context, service string, on *qmv1.Resource) error {
	denied := authz.Withheld(ctx)
	if denied == nil {
		return nil
	}
	permission := service + ".quotas.get"
	if !s.catalog.KnownPermission(permission) {
		return denied
	}
	err := s.decider.Authorize(ctx, authn.FromContext(ctx), permission, authz.Resource{Type: on.GetType(), ID: on.GetId()})
	if apierr.ReasonOf(err) == apierr.ReasonPermissionDenied {
		return denied
	}
	return err
}

// withUsage reads limits, and asks the units that count for what is used.
func (s *quotaLimits) withUsage(ctx context.Context, on *qmv1.Resource, quotas []catalog.Quota) ([]*qmv1.QuotaLimit, error) {
	byOwner := make(map[string][]string)
	for _, q := range quotas {
		byOwner[q.Owner] = append(byOwner[q.Owner], q.ID)
	}
	used := make(map[string]int64)
	for owner, ids := range byOwner {
		resp, err := quotav1.NewUsageServiceClient(s.peer(owner)).GetUsage(server.AsUnit(ctx), &quotav1.GetUsageRequest{
			Resource: &quotav1.Resource{Type: on.GetType(), Id: on.GetId()}, QuotaIds: ids,
		})
		if err != nil {
			return nil, apierr.FromRPC(err)
		}
		for _, u := range resp.GetUsage() {
			used[u.GetQuotaId()] = u.GetUsage()
		}
	}
	all := make([]*qmv1.QuotaLimit, len(quotas))
	for i, q := range quotas {
		limit, err := s.store.Limit(ctx, s.store.db, q, on.GetId())
		if err != nil {
			return nil, err
		}
		all[i] = &qmv1.QuotaLimit{QuotaId: q.ID, Limit: wrapperspb.Double(float64(limit))}
		if n, counted := used[q.ID]; counted {
			all[i].Usage = wrapperspb.Double(float64(n))
		}
	}
	return all, nil
}

// wholeLimit reads a limit of the public API. False for one that is no whole
// number; what is too large for a count is as much as there can be.
func wholeLimit(limit float64) (int64, bool) {
	switch {
	case limit != math.Trunc(limit):
		return 0, false
	case limit >= math.MaxInt64:
		return math.MaxInt64, true
	default:
		return int64(limit), true
	}
}
