package partner

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// permQuotas is the permission to lower quotas of customers' clouds.
const permQuotas = "billing.customers.updateQuotas"

// customerQuotas is our own CustomerQuotaService.
type customerQuotas struct {
	partnerv1.UnsafeCustomerQuotaServiceServer // a missing method does not compile
	*Service
}

// ListCustomerQuotas lists the quotas of a customer's cloud, by id (PT-41). Fails:
// SUBACCOUNT_NOT_FOUND, CLOUD_NOT_LINKED.
func (s *customerQuotas) ListCustomerQuotas(ctx context.Context, req *partnerv1.ListCustomerQuotasRequest) (*partnerv1.ListCustomerQuotasResponse, error) {
	if err := s.paysFor(ctx, req.GetSubaccountId(), req.GetCloudId()); err != nil {
		return nil, err
	}
	ask := &quotav1.GetLimitsRequest{Resource: &quotav1.Resource{Type: typeCloud, Id: req.GetCloudId()}}
	for _, q := range s.catalog.Quotas() {
		if q.On == typeCloud {
			ask.QuotaIds = append(ask.QuotaIds, q.ID)
		}
	}
	limits, err := s.quotas.GetLimits(server.AsUnit(ctx), ask)
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	resp := new(partnerv1.ListCustomerQuotasResponse)
	for _, l := range limits.GetLimits() {
		resp.Quotas = append(resp.Quotas, s.quota(l.GetQuotaId(), l.GetLimit()))
	}
	return resp, nil
}

// UpdateCustomerQuota lowers a quota of a customer's cloud, or asks the platform for a
// higher limit (PT-41). The limit is set under a key made of the caller's before the write
// that answers the call, so that a repetition has no second effect. Fails:
// SUBACCOUNT_NOT_FOUND, CLOUD_NOT_LINKED, QUOTA_NOT_FOUND, QUOTA_REQUEST_PENDING.
func (s *customerQuotas) UpdateCustomerQuota(ctx context.Context, req *partnerv1.UpdateCustomerQuotaRequest) (*operationpb.Operation, error) {
	if err := s.paysFor(ctx, req.GetSubaccountId(), req.GetCloudId()); err != nil {
		return nil, err
	}
	set, err := s.customerLimits.SetCloudLimit(idempotency.PassOn(server.AsUnit(ctx)), &quotav1.SetCloudLimitRequest{
		CloudId: req.GetCloudId(), QuotaId: req.GetQuotaId(), Limit: req.GetLimit(), SubjectId: authn.FromContext(ctx).ID,
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	answer := s.quota(req.GetQuotaId(), set.GetLimit())
	answer.QuotaRequestId = set.GetQuotaRequestId()
	return s.writeNow(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		c, err := s.store.Customer(ctx, tx, req.GetSubaccountId())
		if err != nil {
			return op, err
		}
		if op, err = s.begun(ctx, tx, c.ID, operation.New{
			Description: "Update customer quota", ViewPermission: permQuotas, Response: answer,
			Metadata: &partnerv1.UpdateCustomerQuotaMetadata{SubaccountId: c.ID, CloudId: req.GetCloudId(), QuotaId: req.GetQuotaId()},
		}); err != nil {
			return op, err
		}
		return op, s.record(ctx, tx, c.Account, event{
			name: eventQuotaUpdate, status: audit.Done, permission: permQuotas, details: map[string]any{
				"operation_id": op.ID, "cloud_id": req.GetCloudId(), "quota_id": req.GetQuotaId(), "limit": answer.GetLimit(),
				"desired_limit": req.GetLimit(), "quota_request_id": answer.GetQuotaRequestId(),
			},
		})
	})
}

// paysFor refuses a cloud that a subaccount does not pay for now. Fails:
// SUBACCOUNT_NOT_FOUND, CLOUD_NOT_LINKED.
func (s *Service) paysFor(ctx context.Context, subaccountID, cloudID string) error {
	if _, err := s.store.Customer(ctx, s.store.db, subaccountID); err != nil {
		return err
	}
	last, found, err := s.store.LastLink(ctx, s.store.db, cloudID)
	if err == nil && (!found || last.AccountID != subaccountID || !last.UnlinkedAt.IsZero()) {
		err = errCloudNotLinked(cloudID, subaccountID)
	}
	return err
}

// quota shows a limit of a cloud.
func (s *Service) quota(quotaID string, limit int64) *partnerv1.CustomerQuota {
	q, _ := s.catalog.Quota(quotaID) // it was found where the limit was read
	return &partnerv1.CustomerQuota{QuotaId: quotaID, Limit: limit, Unit: q.Unit}
}
