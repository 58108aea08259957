package resourcemanager

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
)

// customerQuotas is bindery.quota.v1.CustomerQuotaService.
type customerQuotas struct {
	quotav1.UnsafeCustomerQuotaServiceServer // a missing method does not compile
	*Service
}

// SetCloudLimit lowers a limit of a cloud; for a higher one it makes a quota request
// (PT-41). Fails: QUOTA_NOT_FOUND, RESOURCE_NOT_FOUND, QUOTA_REQUEST_PENDING.
func (s *customerQuotas) SetCloudLimit(ctx context.Context, req *quotav1.SetCloudLimitRequest) (*quotav1.SetCloudLimitResponse, error) {
	q, err := s.quotaOn(req.GetQuotaId(), cloud.typ)
	if err != nil {
		return nil, err
	}
	on := authz.Resource{Type: cloud.typ, ID: req.GetCloudId()}
	path, err := s.pathOf(ctx, on)
	if err != nil {
		return nil, err
	}
	resp := new(quotav1.SetCloudLimitResponse)
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.keys.Answer(ctx, tx, resp, func() error {
			if err := sqldb.Lock(ctx, s.store.db, tx, "quotas of "+on.ID); err != nil {
				return err
			}
			var err error
			if resp.Limit, err = s.store.Limit(ctx, tx, q, on.ID); err != nil {
				return err
			}
			switch {
			case req.GetLimit() == resp.GetLimit():
				return nil
			case req.GetLimit() > resp.GetLimit():
				resp.QuotaRequestId, err = s.askForCloud(ctx, tx, on, path, req)
				return err
			}
			if err := s.store.SetLimit(ctx, tx, q.ID, on.ID, req.GetLimit()); err != nil {
				return err
			}
			resp.Limit = req.GetLimit()
			return s.note(ctx, tx, "quotamanager", "SetQuotaLimit", path, event{
				status:  audit.Done,
				details: map[string]any{"quota_id": q.ID, "limit": resp.GetLimit(), "subject_id": req.GetSubjectId()},
			})
		})
		return err
	})
	return resp, err
}

// askForCloud makes the quota request for a higher limit, and returns its id.
func (s *Service) askForCloud(ctx context.Context, tx *sql.Tx, on authz.Resource, path []audit.Resource, req *quotav1.SetCloudLimitRequest) (string, error) {
	r := QuotaRequest{
		ID: id.New(id.QuotaRequest), On: on, Status: QuotaPending, CreatedBy: req.GetSubjectId(), CreatedAt: s.now(),
		Limits: []RequestedLimit{{QuotaID: req.GetQuotaId(), Desired: req.GetLimit(), Status: QuotaPending}},
	}
	pending, err := s.store.AskedFor(ctx, tx, on, map[string]bool{req.GetQuotaId(): true})
	if err == nil && pending != "" {
		err = errQuotaRequestPending(pending)
	}
	if err == nil {
		err = s.store.InsertQuotaRequest(ctx, tx, r)
	}
	if err != nil {
		return "", err
	}
	return r.ID, s.note(ctx, tx, "quotamanager", "CreateQuotaRequest", path, event{status: audit.Done, details: r.details()})
}
