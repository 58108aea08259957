package partner

import (
	"context"
	"database/sql"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// jobRegister is the kind of the job that makes a new account known to the tree.
const jobRegister = "register"

// registration is its payload.
type registration struct {
	Operation   string `json:"operation"`
	Account     string `json:"account"`
	CreatorType string `json:"creator_type"`
	CreatorID   string `json:"creator_id"`
}

// roleOwner is given to who makes an account (BI-2).
const roleOwner = "billing.accounts.owner"

// CreateBillingAccount creates an account in state NEW, whose creator becomes its
// owner (BI-2). Fails: QUOTA_EXCEEDED, SERVICE_ACCOUNT_NOT_ALLOWED (SU-9) for one
// outside of an organization; RESOURCE_NOT_FOUND (the organization).
func (s *accounts) CreateBillingAccount(ctx context.Context, req *partnerv1.CreateBillingAccountRequest) (*operationpb.Operation, error) {
	p := authn.FromContext(ctx)
	a := Account{
		ID: id.New(id.BillingAccount), OrganizationID: req.GetOrganizationId(), Name: req.GetName(),
		CountryCode: req.GetCountryCode(), Currency: req.GetCurrency(), State: New, Phase: Creating, CreatedBy: p.ID, CreatedAt: s.now(),
	}
	if a.OrganizationID == "" && p.Type == authn.ServiceAccount {
		return nil, errServiceAccount
	}
	limit, err := s.limits.Limit(ctx, catalog.QuotaBillingAccounts, quota.Subject(p.ID))
	if err != nil {
		return nil, err
	}
	return s.writeThen(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t jobs.Ticket, err error) {
		if err := s.roomForAccount(ctx, tx, p.ID, limit); err != nil {
			return op, t, err
		}
		if op, err = s.begun(ctx, tx, a.ID, operation.New{
			Description: "Create billing account", Metadata: &partnerv1.CreateBillingAccountMetadata{BillingAccountId: a.ID},
		}); err != nil {
			return op, t, err
		}
		a.Operation = op.ID
		if err := s.store.InsertAccount(ctx, tx, a); err != nil {
			return op, t, err
		}
		e := event{name: eventCreate, status: audit.Started, details: map[string]any{"operation_id": op.ID}}
		if a.OrganizationID != "" {
			e.permission, e.on = permLink, a.parent()
		}
		if err := s.record(ctx, tx, a, e); err != nil {
			return op, t, err
		}
		t, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobRegister, Payload: registration{
			Operation: op.ID, Account: a.ID, CreatorType: p.Type, CreatorID: p.ID,
		}})
		return op, t, err
	})
}

// roomForAccount refuses a subject that has made as many accounts as it may (QL-2). The
// lock makes creations by one subject follow one another.
func (s *Service) roomForAccount(ctx context.Context, tx *sql.Tx, subjectID string, limit int64) error {
	if err := sqldb.Lock(ctx, s.store.db, tx, "billing accounts of "+subjectID); err != nil {
		return err
	}
	n, err := s.store.CountAccountsOf(ctx, tx, subjectID)
	if err != nil {
		return err
	}
	return quota.Exceeded(catalog.QuotaBillingAccounts, quota.Subject(subjectID), limit, n, 1)
}

// register is the job that makes an account known to the tree with its owner, and
// ends its operation.
func (s *Service) register(ctx context.Context, job registration) error {
	a, err := s.store.Account(ctx, s.store.db, job.Account)
	if apierr.CodeOf(err) == codes.NotFound || err == nil && a.Operation != job.Operation {
		return nil // done before
	}
	if err != nil {
		return err
	}
	_, err = s.tree.RegisterResource(server.AsUnit(ctx), &accessv1.RegisterResourceRequest{
		Resource: treeResource(a.resource()), Parent: treeResource(a.parent()),
		AccessBindings: []*accessv1.AccessBinding{{RoleId: roleOwner, Subject: &accessv1.Subject{Type: job.CreatorType, Id: job.CreatorID}}},
	})
	switch code := apierr.CodeOf(err); {
	case code == codes.NotFound || code == codes.FailedPrecondition:
		return s.failCreation(ctx, job, a, apierr.FromRPC(err))
	case err != nil:
		return fmt.Errorf("register billing account %s: %w", a.ID, apierr.FromRPC(err))
	}
	return s.endJob(ctx, a, job.Operation, func(ctx context.Context, tx *sql.Tx, a Account) error {
		a.Phase, a.Operation = Living, ""
		if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
			return err
		}
		if err := s.record(ctx, tx, a, done(eventCreate, job.Operation)); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, a.proto(s.cfg.KeepFor))
	})
}

// failCreation ends a creation that cannot succeed any more, since the deletion of the
// organization or of the creator overtook it.
func (s *Service) failCreation(ctx context.Context, job registration, a Account, cause error) error {
	if err := s.removeFromTree(ctx, a); err != nil {
		return err
	}
	return s.endJob(ctx, a, job.Operation, func(ctx context.Context, tx *sql.Tx, a Account) error {
		if err := s.record(ctx, tx, a, event{
			name: eventCreate, status: audit.Failed,
			details: map[string]any{"operation_id": job.Operation, "reason": apierr.ReasonOf(cause)},
		}); err != nil {
			return err
		}
		if err := s.store.DropAccount(ctx, tx, a.ID); err != nil {
			return err
		}
		return s.operations.Fail(ctx, tx, job.Operation, nil, cause)
	})
}

// endJob runs the last step of a job on the locked account, unless another attempt has
// made it.
func (s *Service) endJob(ctx context.Context, a Account, operationID string, fn func(context.Context, *sql.Tx, Account) error) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		a, err := s.store.LockAccount(ctx, tx, a.ID)
		if apierr.CodeOf(err) == codes.NotFound || err == nil && a.Operation != operationID {
			return nil
		}
		if err != nil {
			return err
		}
		return fn(ctx, tx, a)
	})
}

// done is the event with which a job ends.
func done(name, operationID string) event {
	return event{name: name, status: audit.Done, details: map[string]any{"operation_id": operationID}}
}

// removeFromTree removes an account from the tree, with all that is below it.
func (s *Service) removeFromTree(ctx context.Context, a Account) error {
	_, err := s.tree.RemoveResource(server.AsUnit(ctx), &accessv1.RemoveResourceRequest{Resource: treeResource(a.resource())})
	if err != nil {
		return fmt.Errorf("remove billing account %s: %w", a.ID, apierr.FromRPC(err))
	}
	return nil
}

// treeResource names a resource for the tree; nil for none.
func treeResource(r authz.Resource) *accessv1.Resource {
	if r == (authz.Resource{}) {
		return nil
	}
	return &accessv1.Resource{Type: r.Type, Id: r.ID}
}
