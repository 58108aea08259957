package resourcemanager

import (
	"context"
	"database/sql"
	"slices"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
)

// quotaOperator is bindery.quota.v1.OperatorService.
type quotaOperator struct {
	quotav1.UnsafeOperatorServiceServer // a missing method does not compile
	*Service
}

// ListLimits lists the catalogue's quotas, or those of a resource, by id.
func (s *quotaOperator) ListLimits(ctx context.Context, req *quotav1.ListLimitsRequest) (*quotav1.ListLimitsResponse, error) {
	resp := new(quotav1.ListLimitsResponse)
	for _, q := range s.catalog.Quotas() {
		if req.GetResource() != nil && q.On != req.GetResource().GetType() {
			continue
		}
		byDefault, err := s.store.Limit(ctx, s.store.db, q, installation)
		if err != nil {
			return nil, err
		}
		limit, err := s.store.Limit(ctx, s.store.db, q, req.GetResource().GetId())
		if err != nil {
			return nil, err
		}
		resp.Quotas = append(resp.Quotas, &quotav1.QuotaState{
			QuotaId: q.ID, ResourceType: q.On, Unit: q.Unit, CatalogLimit: q.Limit, DefaultLimit: byDefault, Limit: limit,
		})
	}
	return resp, nil
}

// SetLimit changes a limit of a resource, or a default. Fails: QUOTA_NOT_FOUND,
// RESOURCE_NOT_FOUND.
func (s *quotaOperator) SetLimit(ctx context.Context, req *quotav1.SetLimitRequest) (*quotav1.SetLimitResponse, error) {
	q, ok := s.catalog.Quota(req.GetQuotaId())
	if !ok {
		return nil, apierr.NotFound("QUOTA_NOT_FOUND", "there is no quota %q", req.GetQuotaId())
	}
	var path []audit.Resource
	if req.GetResourceId() != installation {
		var err error
		if path, err = s.pathOf(ctx, authz.Resource{Type: q.On, ID: req.GetResourceId()}); err != nil {
			return nil, err
		}
	}
	resp := new(quotav1.SetLimitResponse)
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.keys.Answer(ctx, tx, resp, func() (err error) {
			if req.GetReset_() {
				err = s.store.ResetLimit(ctx, tx, q.ID, req.GetResourceId())
			} else {
				err = s.store.SetLimit(ctx, tx, q.ID, req.GetResourceId(), req.GetLimit())
			}
			if err == nil {
				resp.Limit, err = s.store.Limit(ctx, tx, q, req.GetResourceId())
			}
			if err != nil {
				return err
			}
			return s.note(ctx, tx, "quotamanager", "SetQuotaLimit", path, event{
				status:  audit.Done,
				details: map[string]any{"quota_id": q.ID, "limit": resp.GetLimit(), "reset": req.GetReset_(), "default": path == nil},
			})
		})
		return err
	})
	return resp, err
}

// ListRequests lists the requests of all resources, oldest first.
func (s *quotaOperator) ListRequests(ctx context.Context, req *quotav1.ListRequestsRequest) (*quotav1.ListRequestsResponse, error) {
	var query RequestQuery
	if req.GetOpen() {
		query.Statuses = []QuotaStatus{QuotaPending, QuotaProcessing}
	}
	all, next, err := s.listRequests(ctx, query, false, req)
	return &quotav1.ListRequestsResponse{QuotaRequests: all, NextPageToken: next}, err
}

// DecideRequest decides on quotas of a request; what is approved is in force with
// it (QL-4). Fails: QUOTA_REQUEST_NOT_FOUND, QUOTA_NOT_REQUESTED, QUOTA_DECIDED.
func (s *quotaOperator) DecideRequest(ctx context.Context, req *quotav1.DecideRequestRequest) (*quotav1.DecideRequestResponse, error) {
	on, err := s.resourceOfRequest(ctx, req.GetQuotaRequestId())
	if err != nil {
		return nil, err
	}
	path, err := s.pathOf(ctx, on)
	if err != nil {
		return nil, err
	}
	resp := new(quotav1.DecideRequestResponse)
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.keys.Answer(ctx, tx, resp, func() error {
			r, err := s.store.LockQuotaRequest(ctx, tx, req.GetQuotaRequestId())
			if err != nil {
				return err
			}
			if err := s.decideAll(ctx, tx, &r, req.GetDecisions()); err != nil {
				return err
			}
			resp.QuotaRequest = quotaRequestProto(s.Service, r)
			return s.note(ctx, tx, "quotamanager", "DecideQuotaRequest", path, event{status: audit.Done, details: r.details()})
		})
		return err
	})
	return resp, err
}

// decideAll changes a locked request, and the limits that are approved.
func (s *quotaOperator) decideAll(ctx context.Context, tx *sql.Tx, r *QuotaRequest, decisions []*quotav1.Decision) error {
	for i, d := range decisions {
		if slices.ContainsFunc(decisions[:i], func(o *quotav1.Decision) bool { return o.GetQuotaId() == d.GetQuotaId() }) {
			return apierr.InvalidField("decisions", "quota %s is there twice", d.GetQuotaId())
		}
		l, err := r.undecided(d.GetQuotaId())
		if err != nil {
			return err
		}
		decide(l, d)
		if l.Status == QuotaApproved || l.Status == QuotaPartialApproved {
			if err := s.store.SetLimit(ctx, tx, l.QuotaID, r.On.ID, l.Approved); err != nil {
				return err
			}
		}
	}
	r.Status = r.sum()
	return s.store.UpdateQuotaRequest(ctx, tx, *r)
}

// decide applies one decision.
func decide(l *RequestedLimit, d *quotav1.Decision) {
	l.Message, l.ModifiedBy = d.GetMessage(), authn.Operator
	switch outcome := d.GetOutcome().(type) {
	case *quotav1.Decision_Start:
		l.Status = QuotaProcessing
	case *quotav1.Decision_Approve:
		l.Status, l.Approved = QuotaApproved, l.Desired
	case *quotav1.Decision_ApproveLimit:
		l.Status, l.Approved = QuotaPartialApproved, outcome.ApproveLimit
		if l.Approved == l.Desired {
			l.Status = QuotaApproved
		}
	case *quotav1.Decision_Reject:
		l.Status = QuotaRejected
	}
}

// pathOf names a resource that has quotas and what it lies in, the organization
// first, for an audit record. Fails: RESOURCE_NOT_FOUND.
func (s *Service) pathOf(ctx context.Context, on authz.Resource) ([]audit.Resource, error) {
	if on.Type == catalog.OnSubject {
		return []audit.Resource{{Type: on.Type, ID: on.ID}}, nil
	}
	resp, err := s.tree.GetResourcePath(server.AsUnit(ctx), &accessv1.GetResourcePathRequest{
		Resource: &accessv1.Resource{Type: on.Type, Id: on.ID},
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	var path []audit.Resource
	for _, r := range slices.Backward(resp.GetPath()) {
		path = append(path, audit.Resource{Type: r.GetType(), ID: r.GetId(), Name: s.nameOf(ctx, r)})
	}
	return path, nil
}

// nameOf returns the name of a resource of this unit, "" for any other.
func (s *Service) nameOf(ctx context.Context, r *accessv1.Resource) string {
	for _, k := range kinds {
		if k.typ == r.GetType() {
			if row, err := s.store.Get(ctx, s.store.db, k, r.GetId()); err == nil {
				return row.Name
			}
		}
	}
	return ""
}
