package partner

import (
	"context"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/server"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	qmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

const foldersQuota = "resource-manager.folders.count"

// The partner lowers quotas of clouds that are linked to its subaccounts, down to nothing;
// what is higher asks the platform, and the cloud keeps its limits when it moves.
func TestPT41_CustomerQuotas(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, boss := w.person("ann"), w.person("boss")
		partner := w.partner(ann)
		id, other := w.served(ann, partner), w.served(ann, partner)
		c := w.cloud(boss, "").GetId()
		w.grant(boss, typeCloud, c, "resource-manager.clouds.owner", ann)
		quotas := partnerv1.NewCustomerQuotaServiceClient(w.Conn)
		list := func() (limit int64, err error) {
			resp, err := quotas.ListCustomerQuotas(w.as(ann), &partnerv1.ListCustomerQuotasRequest{SubaccountId: id, CloudId: c})
			for _, q := range resp.GetQuotas() {
				if q.GetQuotaId() == foldersQuota {
					limit = q.GetLimit()
				}
			}
			return limit, err
		}
		set := func(ctx context.Context, limit int64) (*partnerv1.CustomerQuota, error) {
			op, err := quotas.UpdateCustomerQuota(ctx, &partnerv1.UpdateCustomerQuotaRequest{SubaccountId: id, CloudId: c, QuotaId: foldersQuota, Limit: limit})
			if err != nil {
				return nil, err
			}
			answer := new(partnerv1.CustomerQuota)
			w.done(op, answer, new(partnerv1.UpdateCustomerQuotaMetadata))
			return answer, nil
		}
		_, err := set(w.as(ann), 1)
		wantRefusal(t, "before the link", err, codes.FailedPrecondition, ReasonCloudNotLinked)
		_, err = list()
		wantRefusal(t, "listing before the link", err, codes.FailedPrecondition, ReasonCloudNotLinked)
		must(w.public.BindBillableObject(w.as(ann), bind(id, c)))(t)
		if limit := must(list())(t); limit != 50 {
			t.Errorf("at first the limit is %d", limit)
		}
		if q := must(set(w.as(ann), 0))(t); q.GetLimit() != 0 || q.GetQuotaRequestId() != "" || q.GetUnit() != "folders" {
			t.Errorf("lowered to %v", q)
		}
		_, err = rmv1.NewFolderServiceClient(w.Conn).Create(w.as(boss), &rmv1.CreateFolderRequest{CloudId: c, Name: "forbidden"})
		wantRefusal(t, "zero forbids", err, codes.ResourceExhausted, "QUOTA_EXCEEDED")

		// A repetition with its key has no second effect, and the same answer.
		keyed := metadata.AppendToOutgoingContext(w.as(ann), "idempotency-key", "raise")
		asked, again := must(set(keyed, 10))(t), must(set(keyed, 10))(t)
		if asked.GetLimit() != 0 || asked.GetQuotaRequestId() == "" || again.GetQuotaRequestId() != asked.GetQuotaRequestId() {
			t.Errorf("raised to %v, again %v", asked, again)
		}
		_, err = set(w.as(ann), 20)
		wantRefusal(t, "while it is asked for", err, codes.FailedPrecondition, "QUOTA_REQUEST_PENDING")
		seen := must(qmv1.NewQuotaRequestServiceClient(w.Conn).Get(w.as(boss), &qmv1.GetQuotaRequestRequest{QuotaRequestId: asked.GetQuotaRequestId()}))(t)
		if seen.GetCreatedBy() != ann.id || len(seen.GetQuotaLimits()) != 1 || seen.GetQuotaLimits()[0].GetDesiredLimit() != 10 {
			t.Errorf("the customer sees the request %v", seen)
		}
		w.approve(asked.GetQuotaRequestId())
		if limit := must(list())(t); limit != 10 {
			t.Errorf("approved, the limit is %d", limit)
		}
		must(set(w.as(ann), 1))(t)
		// PT-41: moving the cloud does not reset them.
		must(w.public.BindBillableObject(w.as(ann), bind(other, c)))(t)
		_, err = set(w.as(ann), 0)
		wantRefusal(t, "after the cloud moved away", err, codes.FailedPrecondition, ReasonCloudNotLinked)
		w.folder(boss, c)
		_, err = rmv1.NewFolderServiceClient(w.Conn).Create(w.as(boss), &rmv1.CreateFolderRequest{CloudId: c, Name: "second"})
		wantRefusal(t, "the limit stays", err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
		_, err = quotas.UpdateCustomerQuota(w.as(boss), &partnerv1.UpdateCustomerQuotaRequest{SubaccountId: other, CloudId: c, QuotaId: foldersQuota, Limit: 100})
		wantRefusal(t, "by the customer", err, codes.PermissionDenied, "PERMISSION_DENIED")
		_, err = quotas.UpdateCustomerQuota(w.as(ann), &partnerv1.UpdateCustomerQuotaRequest{SubaccountId: other, CloudId: c, QuotaId: "no.such.quota", Limit: 1})
		wantRefusal(t, "no such quota", err, codes.NotFound, "QUOTA_NOT_FOUND")
	})
}

// approve has the operator approve a quota request.
func (w *world) approve(requestID string) {
	w.t.Helper()
	socket, err := server.DialOperator(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	defer socket.Close()
	must(quotav1.NewOperatorServiceClient(socket).DecideRequest(w.t.Context(), &quotav1.DecideRequestRequest{
		QuotaRequestId: requestID,
		Decisions:      []*quotav1.Decision{{QuotaId: foldersQuota, Outcome: &quotav1.Decision_Approve{Approve: true}}},
	}))(w.t)
}
