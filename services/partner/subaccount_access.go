package partner

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// permCustomerAccess is what changing the access of a subaccount takes; not that of
// accounts, which PT-22 keeps from varWithoutDiscounts.
const permCustomerAccess = "billing.customers.updateAccessBindings"

// subaccountAccess is our own SubaccountAccessService.
type subaccountAccess struct {
	partnerv1.UnsafeSubaccountAccessServiceServer // a missing method does not compile
	*Service
}

// ListSubaccountAccessBindings lists the bindings on a subaccount itself. An account of a
// partner is none: who may see there is another matter (PT-22). Fails:
// SUBACCOUNT_NOT_FOUND.
func (s *subaccountAccess) ListSubaccountAccessBindings(ctx context.Context, req *partnerv1.ListSubaccountAccessBindingsRequest) (*partnerv1.ListSubaccountAccessBindingsResponse, error) {
	c, err := s.store.Customer(ctx, s.store.db, req.GetSubaccountId())
	if err != nil {
		return nil, err
	}
	got, err := s.tree.ListOwnedBindings(ctx, &accessv1.ListOwnedBindingsRequest{
		Resource: treeResource(c.resource()), PageSize: req.GetPageSize(), PageToken: req.GetPageToken(),
	})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return &partnerv1.ListSubaccountAccessBindingsResponse{
		AccessBindings: access.Public(got.GetAccessBindings()), NextPageToken: got.GetNextPageToken(),
	}, nil
}

// UpdateSubaccountAccessBindings changes them, with the rights of the caller (AS, OW).
// Fails: SUBACCOUNT_NOT_FOUND, SUBACCOUNT_STATE.
func (s *subaccountAccess) UpdateSubaccountAccessBindings(ctx context.Context, req *partnerv1.UpdateSubaccountAccessBindingsRequest) (*operationpb.Operation, error) {
	c, err := s.store.Customer(ctx, s.store.db, req.GetSubaccountId())
	if err != nil {
		return nil, err
	}
	if c.State == Inactive {
		return nil, errSubaccountState(c, "it is deleted")
	}
	update := access.Update(treeResource(c.resource()), req.GetAccessBindingDeltas())
	op, err := s.tree.UpdateOwnedBindings(idempotency.PassOn(ctx), &accessv1.UpdateOwnedBindingsRequest{
		Resource: update.GetResource(), AccessBindingDeltas: update.GetAccessBindingDeltas(), Permission: permCustomerAccess,
	})
	return op, apierr.FromRPC(err)
}
