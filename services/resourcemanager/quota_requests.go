package resourcemanager

import (
	"context"
	"database/sql"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	qmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
)

// Permissions on the resource of a request.
const (
	seeRequests  = "quota-manager.quotaRequests.get"
	makeRequests = "quota-manager.quotaRequests.create"
)

// typeQuotaRequest is the type of what an operation on a request works on. The tree
// does not know requests: who may see one is judged on its resource.
const typeQuotaRequest = "quota-manager.quotaRequest"

// quotaRequests is the public QuotaRequestService.
type quotaRequests struct {
	qmv1.UnsafeQuotaRequestServiceServer // a missing method does not compile
	*Service
}

func quotaRequestProto(s *Service, r QuotaRequest) *qmv1.QuotaRequest {
	p := &qmv1.QuotaRequest{
		Id: r.ID, Resource: &qmv1.Resource{Type: r.On.Type, Id: r.On.ID}, CreatedAt: timestamppb.New(r.CreatedAt),
		Status: qmv1.QuotaRequest_Status(qmv1.QuotaRequest_Status_value[string(r.Status)]), CreatedBy: r.CreatedBy,
	}
	for _, l := range r.Limits {
		q, _ := s.catalog.Quota(l.QuotaID) // a quota that was withdrawn has no unit any more
		p.QuotaLimits = append(p.QuotaLimits, &qmv1.QuotaRequest_QuotaLimit{
			QuotaId: l.QuotaID, DesiredLimit: float64(l.Desired), ApprovedLimit: float64(l.Approved), Unit: q.Unit,
			Status:  qmv1.QuotaRequest_QuotaLimit_Status(qmv1.QuotaRequest_QuotaLimit_Status_value[string(l.Status)]),
			Message: l.Message, ModifiedBy: l.ModifiedBy,
		})
	}
	return p
}

// resourceOfRequest is the resolver of rules on a request. Fails:
// QUOTA_REQUEST_NOT_FOUND.
func (s *Service) resourceOfRequest(ctx context.Context, requestID string) (authz.Resource, error) {
	r, err := s.store.QuotaRequest(ctx, s.store.db, requestID)
	return r.On, err
}

// Get reads a request. Fails: QUOTA_REQUEST_NOT_FOUND.
func (s *quotaRequests) Get(ctx context.Context, req *qmv1.GetQuotaRequestRequest) (*qmv1.QuotaRequest, error) {
	r, err := s.store.QuotaRequest(ctx, s.store.db, req.GetQuotaRequestId())
	if err != nil {
		return nil, err
	}
	return quotaRequestProto(s.Service, r), nil
}

// List lists the requests for a resource, oldest first; without one those for
// whatever resources the caller may see them on.
func (s *quotaRequests) List(ctx context.Context, req *qmv1.ListQuotaRequestRequest) (*qmv1.ListQuotaRequestResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "status")
	if err != nil {
		return nil, err
	}
	query := RequestQuery{On: authz.Resource{Type: req.GetResource().GetType(), ID: req.GetResource().GetId()}}
	if f.Field != "" {
		if _, known := qmv1.QuotaRequest_Status_value[f.Value]; !known {
			return nil, apierr.InvalidField("filter", "%q is not a status of a request", f.Value)
		}
		query.Statuses = []QuotaStatus{QuotaStatus(f.Value)}
	}
	all, next, err := s.listRequests(ctx, query, query.On == authz.Resource{}, req)
	return &qmv1.ListQuotaRequestResponse{QuotaRequests: all, NextPageToken: next}, err
}

// listRequests reads one page of requests. filtered leaves out what the caller may
// not see.
func (s *Service) listRequests(ctx context.Context, query RequestQuery, filtered bool, req access.PageRequest) ([]*qmv1.QuotaRequest, string, error) {
	scope := []string{"quota requests", query.On.Type, query.On.ID, fmt.Sprint(query.Statuses), fmt.Sprint(filtered)}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	var seen []QuotaRequest
	for len(seen) <= size {
		batch, err := s.store.ListQuotaRequests(ctx, query, after, authz.MaxEach)
		if err != nil {
			return nil, "", err
		}
		visible, err := s.visibleRequests(ctx, batch, filtered)
		if err != nil {
			return nil, "", err
		}
		seen = append(seen, visible...)
		if len(batch) < authz.MaxEach {
			break
		}
		after = batch[len(batch)-1].position()
	}
	all := make([]*qmv1.QuotaRequest, 0, min(len(seen), size))
	for _, r := range seen[:min(len(seen), size)] {
		if r.Limits, err = s.store.requestedLimits(ctx, s.store.db, r.ID); err != nil {
			return nil, "", err
		}
		all = append(all, quotaRequestProto(s, r))
	}
	fit := page.Fit(len(all), func(i int) int { return proto.Size(all[i]) })
	if fit == len(seen) {
		return all, "", nil
	}
	token, err := s.pages.Seal(seen[fit-1].position(), scope...)
	return all[:fit], token, err
}

func (s *Service) visibleRequests(ctx context.Context, all []QuotaRequest, filtered bool) ([]QuotaRequest, error) {
	if !filtered || len(all) == 0 {
		return all, nil
	}
	refs := make([]authz.Resource, len(all))
	for i, r := range all {
		refs[i] = r.On
	}
	may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), seeRequests, refs)
	if err != nil {
		return nil, err
	}
	var seen []QuotaRequest
	for i, r := range all {
		if may[i] {
			seen = append(seen, r)
		}
	}
	return seen, nil
}

// Create asks for other limits (QL-4). Fails: QUOTA_NOT_FOUND,
// QUOTA_REQUEST_PENDING.
func (s *quotaRequests) Create(ctx context.Context, req *qmv1.CreateQuotaRequestRequest) (*operationpb.Operation, error) {
	p := authn.FromContext(ctx)
	r := QuotaRequest{
		ID: id.New(id.QuotaRequest), On: authz.Resource{Type: req.GetResource().GetType(), ID: req.GetResource().GetId()},
		Status: QuotaPending, CreatedBy: p.ID, CreatedAt: s.now(),
	}
	asked := make(map[string]bool)
	for i, d := range req.GetDesiredQuotaLimits() {
		field := func(name string) string { return fmt.Sprintf("desired_quota_limits[%d].%s", i, name) }
		limit, whole := wholeLimit(d.GetDesiredLimit())
		if !whole {
			return nil, apierr.InvalidField(field("desired_limit"), "must be a whole number")
		}
		if asked[d.GetQuotaId()] {
			return nil, apierr.InvalidField(field("quota_id"), "is there twice")
		}
		if _, err := s.quotaOn(d.GetQuotaId(), r.On.Type); err != nil {
			return nil, err
		}
		asked[d.GetQuotaId()] = true
		r.Limits = append(r.Limits, RequestedLimit{QuotaID: d.GetQuotaId(), Desired: limit, Status: QuotaPending})
	}
	path, err := s.pathOf(ctx, r.On)
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (operation.Operation, error) {
		if err := sqldb.Lock(ctx, s.store.db, tx, "quotas of "+r.On.ID); err != nil {
			return operation.Operation{}, err
		}
		pending, err := s.store.AskedFor(ctx, tx, r.On, asked)
		if err == nil && pending != "" {
			err = errQuotaRequestPending(pending)
		}
		if err == nil {
			err = s.store.InsertQuotaRequest(ctx, tx, r)
		}
		if err != nil {
			return operation.Operation{}, err
		}
		return s.concluded(ctx, tx, r, path, event{
			verb: "CreateQuotaRequest", status: audit.Done, permission: makeRequests, on: r.On, details: r.details(),
		}, "Create quota request", &qmv1.CreateQuotaRequestMetadata{QuotaRequestId: r.ID})
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// Cancel takes back quotas that are not decided yet. Fails:
// QUOTA_REQUEST_NOT_FOUND, QUOTA_NOT_REQUESTED, QUOTA_DECIDED.
func (s *quotaRequests) Cancel(ctx context.Context, req *qmv1.CancelQuotaRequestRequest) (*operationpb.Operation, error) {
	p := authn.FromContext(ctx)
	on, err := s.resourceOfRequest(ctx, req.GetQuotaRequestId())
	if err != nil {
		return nil, err
	}
	path, err := s.pathOf(ctx, on)
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (operation.Operation, error) {
		r, err := s.store.LockQuotaRequest(ctx, tx, req.GetQuotaRequestId())
		if err != nil {
			return operation.Operation{}, err
		}
		for i, quotaID := range req.GetQuotaIds() {
			l, err := r.undecided(quotaID)
			if err != nil {
				return operation.Operation{}, err
			}
			if slices.Contains(req.GetQuotaIds()[:i], quotaID) {
				continue
			}
			l.Status, l.ModifiedBy = QuotaCanceled, p.ID
		}
		r.Status = r.sum()
		if err := s.store.UpdateQuotaRequest(ctx, tx, r); err != nil {
			return operation.Operation{}, err
		}
		return s.concluded(ctx, tx, r, path, event{
			verb: "CancelQuotaRequest", status: audit.Done, permission: makeRequests, on: r.On, details: r.details(),
		}, "Cancel quota request", &qmv1.CancelQuotaRequestMetadata{QuotaRequestId: r.ID})
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// undecided returns a quota of the request that can be changed.
func (r *QuotaRequest) undecided(quotaID string) (*RequestedLimit, error) {
	i := slices.IndexFunc(r.Limits, func(l RequestedLimit) bool { return l.QuotaID == quotaID })
	if i < 0 {
		return nil, apierr.NotFound(ReasonQuotaNotRequested, "request %s is not about quota %q", r.ID, quotaID)
	}
	if !r.Limits[i].Status.undecided() {
		return nil, apierr.Precondition(ReasonQuotaDecided, "quota %s of request %s is %s", quotaID, r.ID, r.Limits[i].Status)
	}
	return &r.Limits[i], nil
}

// details are those of an audit record about the request.
func (r *QuotaRequest) details() map[string]any {
	limits := make([]map[string]any, len(r.Limits))
	for i, l := range r.Limits {
		limits[i] = map[string]any{"quota_id": l.QuotaID, "desired_limit": l.Desired, "approved_limit": l.Approved, "status": l.Status}
	}
	return map[string]any{"quota_request_id": r.ID, "status": r.Status, "quota_limits": limits}
}

// concluded records a change of a request and makes its operation, which is done.
func (s *Service) concluded(ctx context.Context, tx *sql.Tx, r QuotaRequest, path []audit.Resource, e event, description string, metadata proto.Message) (operation.Operation, error) {
	if err := s.note(ctx, tx, "quotamanager", e.verb, path, e); err != nil {
		return operation.Operation{}, err
	}
	return s.operations.Insert(ctx, tx, operation.New{
		Resource: authz.Resource{Type: typeQuotaRequest, ID: r.ID}, ViewPermission: seeRequests, ViewOn: r.On,
		Description: description,
		CreatedBy:   authn.FromContext(ctx).ID, Metadata: metadata, Response: quotaRequestProto(s, r),
	})
}

// ListOperations lists the operations on a request, newest first.
func (s *quotaRequests) ListOperations(ctx context.Context, req *qmv1.ListQuotaRequestOperationsRequest) (*qmv1.ListQuotaRequestOperationsResponse, error) {
	scope := []string{"operations", typeQuotaRequest, req.GetQuotaRequestId()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	ops, err := s.operations.List(ctx, authz.Resource{Type: typeQuotaRequest, ID: req.GetQuotaRequestId()}, after, size+1)
	if err != nil {
		return nil, err
	}
	all := make([]*operationpb.Operation, len(ops))
	for i, op := range ops {
		all[i] = op.Proto()
	}
	resp := new(qmv1.ListQuotaRequestOperationsResponse)
	fit := page.Fit(min(len(all), size), func(i int) int { return proto.Size(all[i]) })
	resp.Operations = all[:fit]
	if fit < len(all) {
		resp.NextPageToken, err = s.pages.Seal(access.Place(all[fit-1]), scope...)
	}
	return resp, err
}

func errQuotaRequestPending(quotaID string) *apierr.Error {
	return apierr.Precondition(ReasonQuotaRequestPending, "another request for quota %s of the resource is not decided yet", quotaID).
		WithMeta("quotaId", quotaID)
}
