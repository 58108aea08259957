package partner

import (
	"context"
	"database/sql"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// permBindOrganization is the account's side of that, permLink the organization's.
const permBindOrganization = "billing.accounts.bindOrganization"

// jobBindOrganization is the kind of the job that moves an account in the tree.
const jobBindOrganization = "bind-organization"

// binding is its payload.
type binding struct {
	Operation    string `json:"operation"`
	Account      string `json:"account"`
	Organization string `json:"organization"`
}

// BindOrganization puts an account below an organization, for good (BI-8, AS-14). Fails:
// BILLING_ACCOUNT_NOT_FOUND, BILLING_ACCOUNT_BUSY, BILLING_ACCOUNT_IS_SUBACCOUNT,
// BILLING_ACCOUNT_BOUND, RESOURCE_NOT_FOUND (the organization).
func (s *accounts) BindOrganization(ctx context.Context, req *partnerv1.BindOrganizationRequest) (*operationpb.Operation, error) {
	return s.writeMaybe(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t *jobs.Ticket, err error) {
		a, err := s.lockLiving(ctx, tx, req.GetBillingAccountId())
		if err != nil {
			return op, nil, err
		}
		bound := a.OrganizationID == req.GetOrganizationId()
		switch {
		case a.PartnerID != "":
			return op, nil, errIsSubaccount
		case a.Operation != "":
			return op, nil, errAccountBusy(a)
		case a.OrganizationID != "" && !bound:
			return op, nil, errAccountBound(a)
		}
		n := operation.New{
			Description: "Bind billing account to organization",
			Metadata:    &partnerv1.BindOrganizationMetadata{BillingAccountId: a.ID, OrganizationId: req.GetOrganizationId()},
		}
		status := audit.Started
		if bound {
			n.Response, status = a.proto(s.cfg.KeepFor), audit.Done
		}
		if op, err = s.begun(ctx, tx, a.ID, n); err != nil {
			return op, nil, err
		}
		if err := s.record(ctx, tx, a, event{
			name: eventBindOrganization, status: status, permission: permBindOrganization,
			details: map[string]any{"operation_id": op.ID, "organization_id": req.GetOrganizationId()},
		}); err != nil || bound {
			return op, nil, err
		}
		a.Operation = op.ID // nobody else binds it, or deletes it, until it is done
		if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
			return op, nil, err
		}
		ticket, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobBindOrganization, Payload: binding{op.ID, a.ID, req.GetOrganizationId()}})
		return op, &ticket, err
	})
}

// bindOrganization is that job. The tree knows first.
func (s *Service) bindOrganization(ctx context.Context, job binding) error {
	a, err := s.store.Account(ctx, s.store.db, job.Account)
	if err != nil || a.Operation != job.Operation {
		return err // done before
	}
	_, err = s.tree.MoveResource(server.AsUnit(ctx), &accessv1.MoveResourceRequest{
		Resource: treeResource(a.resource()), Parent: &accessv1.Resource{Type: typeOrganization, Id: job.Organization},
	})
	cause := apierr.FromRPC(err)
	refused := apierr.CodeOf(err) == codes.NotFound || apierr.CodeOf(err) == codes.FailedPrecondition
	if err != nil && !refused {
		return fmt.Errorf("bind billing account %s: %w", a.ID, cause)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		a, err := s.store.LockAccount(ctx, tx, a.ID)
		if err != nil || a.Operation != job.Operation {
			return err
		}
		a.Operation = ""
		e := event{name: eventBindOrganization, status: audit.Done, details: map[string]any{"operation_id": job.Operation, "organization_id": job.Organization}}
		if refused {
			e.status = audit.Failed
			e.details["reason"] = apierr.ReasonOf(cause)
		} else {
			a.OrganizationID = job.Organization
		}
		if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
			return err
		}
		if err := s.record(ctx, tx, a, e); err != nil {
			return err
		}
		if refused {
			return s.operations.Fail(ctx, tx, job.Operation, nil, cause)
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, a.proto(s.cfg.KeepFor))
	})
}
