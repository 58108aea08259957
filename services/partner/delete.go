package partner

import (
	"context"
	"database/sql"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// jobDelete is the kind of the job that deletes an account.
const jobDelete = "delete"

// deletion is its payload.
type deletion struct {
	Operation string `json:"operation"`
	Account   string `json:"account"`
}

// DeleteBillingAccount deletes an account that pays for nothing (BI-8); what was used
// in its time stays its own (BI-4). Fails: BILLING_ACCOUNT_NOT_FOUND,
// BILLING_ACCOUNT_BUSY, BILLING_ACCOUNT_IN_USE, BILLING_ACCOUNT_IS_SUBACCOUNT.
func (s *accounts) DeleteBillingAccount(ctx context.Context, req *partnerv1.DeleteBillingAccountRequest) (*operationpb.Operation, error) {
	return s.writeThen(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t jobs.Ticket, err error) {
		a, err := s.lockLiving(ctx, tx, req.GetBillingAccountId())
		if err != nil {
			return op, t, err
		}
		if err := s.mayGo(ctx, tx, a); err != nil {
			return op, t, err
		}
		if op, err = s.begun(ctx, tx, a.ID, operation.New{
			Description: "Delete billing account", Metadata: &partnerv1.DeleteBillingAccountMetadata{BillingAccountId: a.ID},
		}); err != nil {
			return op, t, err
		}
		a.Phase, a.Operation = Deleting, op.ID
		if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
			return op, t, err
		}
		if err := s.record(ctx, tx, a, event{
			name: eventDelete, status: audit.Started, permission: permDelete, details: map[string]any{"operation_id": op.ID},
		}); err != nil {
			return op, t, err
		}
		t, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobDelete, Payload: deletion{op.ID, a.ID}})
		return op, t, err
	})
}

// mayGo refuses to delete an account that is in use.
func (s *Service) mayGo(ctx context.Context, tx *sql.Tx, a Account) error {
	switch {
	case a.PartnerID != "":
		return errIsSubaccount
	case a.Operation != "": // it is being bound to an organization
		return errAccountBusy(a)
	}
	clouds, err := s.store.CountLinks(ctx, tx, a.ID)
	if err != nil {
		return err
	}
	subaccounts, err := s.store.CountSubaccounts(ctx, tx, a.ID)
	if err == nil && clouds+subaccounts > 0 {
		err = errAccountInUse(a, clouds, subaccounts)
	}
	return err
}

// deleteAccount is the job that deletes an account: nobody has any role on it from
// then on.
func (s *Service) deleteAccount(ctx context.Context, job deletion) error {
	a, err := s.store.Account(ctx, s.store.db, job.Account)
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	if err != nil {
		return err
	}
	if err := s.removeFromTree(ctx, a); err != nil {
		return err
	}
	return s.endJob(ctx, a, job.Operation, func(ctx context.Context, tx *sql.Tx, a Account) error {
		if err := s.record(ctx, tx, a, done(eventDelete, job.Operation)); err != nil {
			return err
		}
		a.Phase, a.Operation = Deleted, ""
		if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, new(emptypb.Empty))
	})
}
