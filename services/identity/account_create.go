package identity

import (
	"context"
	"database/sql"
	"time"

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
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// jobCreateAccount makes a new service account known to the checker.
const jobCreateAccount = "create-service-account"

// accountCreation is its payload.
type accountCreation struct {
	Operation string           `json:"operation"`
	Account   string           `json:"account"`
	Path      []audit.Resource `json:"path"` // for the audit record
}

// Create creates a service account in a folder (SK-6, C-7). It is known as a resource and
// as a subject when the operation is done. Fails: FOLDER_NOT_FOUND,
// <KIND>_NOT_ACTIVE (DL-15), SERVICE_ACCOUNT_NAME_TAKEN (NM-3), QUOTA_EXCEEDED (QL-2).
func (s *accounts) Create(ctx context.Context, req *iamv1.CreateServiceAccountRequest) (*operationpb.Operation, error) {
	a := ServiceAccount{
		ID: id.New(id.ServiceAccount), FolderID: req.GetFolderId(), Name: req.GetName(), Description: req.GetDescription(),
		Labels: req.GetLabels(), State: Creating, Version: 1, ExpiresAt: timeOf(req.GetExpiresAt()),
		CreatedBy: authn.FromContext(ctx).ID, CreatedAt: s.now(),
	}
	if err := a.wellFormed(); err != nil {
		return nil, err
	}
	at, refusal := s.siteOf(ctx, a.FolderID) // asked before the transaction, and no news to a replay
	a.CloudID = at.cloudID
	on := quota.Resource{Type: typeCloud, ID: a.CloudID}
	limit, err := s.limits.Limit(ctx, catalog.QuotaServiceAccounts, on)
	if err != nil {
		return nil, err
	}
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		if refusal != nil {
			return op, refusal
		}
		if err := s.ahead(a.ExpiresAt); err != nil {
			return op, err
		}
		if err := s.roomForAccount(ctx, tx, on, limit); err != nil {
			return op, err
		}
		if op, err = s.operations.Insert(ctx, tx, operation.New{
			Resource: a.resource(), ViewPermission: permissionGetAccount, Description: "Create service account",
			CreatedBy: a.CreatedBy, Metadata: &iamv1.CreateServiceAccountMetadata{ServiceAccountId: a.ID},
		}); err != nil {
			return op, err
		}
		a.Operation = op.ID
		if err := s.store.InsertAccount(ctx, tx, a); err != nil {
			return op, err
		}
		path := at.of(a)
		if err := s.recordEvent(ctx, tx, event{
			name: "CreateServiceAccount", status: audit.Started, permission: permissionCreateAccount,
			on: authz.Resource{Type: typeFolder, ID: a.FolderID}, path: path, details: map[string]any{"operation_id": op.ID},
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobCreateAccount, Payload: accountCreation{op.ID, a.ID, path}})
		return op, err
	})
	if err != nil {
		return nil, err
	}
	if again {
		return op.Answer()
	}
	return s.finish(ctx, op, ticket)
}

// ahead refuses an end that has come; the zero time is none.
func (s *Service) ahead(end time.Time) error {
	if !end.IsZero() && !end.After(s.now()) {
		return errPastEnd
	}
	return nil
}

// roomForAccount refuses when a cloud has as many service accounts as its quota
// allows (QL-2). The lock makes creations in one cloud follow one another.
func (s *Service) roomForAccount(ctx context.Context, tx *sql.Tx, cloud quota.Resource, limit int64) error {
	if err := sqldb.Lock(ctx, s.store.db, tx, "service accounts of "+cloud.ID); err != nil {
		return err
	}
	n, err := s.store.CountAccounts(ctx, tx, cloud.ID)
	if err != nil {
		return err
	}
	return quota.Exceeded(catalog.QuotaServiceAccounts, cloud, limit, n, 1)
}

// registerAccount is the job that makes a service account known to the checker, as a
// resource and as a subject, and ends its operation.
func (s *Service) registerAccount(ctx context.Context, job accountCreation) error {
	a, err := s.store.ServiceAccount(ctx, s.store.db, job.Account)
	if apierr.CodeOf(err) == codes.NotFound {
		return s.failAccountCreation(ctx, job, errAccountParentDeleted)
	}
	if err != nil || a.Operation != job.Operation {
		return err // done before, and lives on
	}
	_, err = s.tree.RegisterResource(server.AsUnit(ctx), &accessv1.RegisterResourceRequest{
		Resource: &accessv1.Resource{Type: typeAccount, Id: a.ID}, Parent: &accessv1.Resource{Type: typeFolder, Id: a.FolderID},
	})
	if err == nil {
		err = s.tell(ctx, a, Active, a.ExpiresAt, a.Version)
	}
	switch code := apierr.CodeOf(err); {
	case code == codes.NotFound || code == codes.FailedPrecondition:
		return s.failAccountCreation(ctx, job, errAccountParentDeleted.WithCause(err))
	case err != nil:
		return apierr.FromRPC(err)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		a, err := s.store.LockAccount(ctx, tx, job.Account)
		if apierr.CodeOf(err) == codes.NotFound {
			return s.operations.Fail(ctx, tx, job.Operation, nil, errAccountParentDeleted)
		}
		if err != nil || a.Operation != job.Operation {
			return err
		}
		a.State, a.Operation = Active, ""
		if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
			return err
		}
		if err := s.recordEvent(ctx, tx, event{
			name: "CreateServiceAccount", status: audit.Done, path: job.Path, details: map[string]any{"operation_id": job.Operation},
		}); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, a.proto())
	})
}

// tell puts where a service account stands in force, unless something newer is.
func (s *Service) tell(ctx context.Context, a ServiceAccount, state State, end time.Time, version int64) error {
	states := map[State]accessv1.SetSubjectRequest_State{
		Active: accessv1.SetSubjectRequest_ACTIVE, Suspended: accessv1.SetSubjectRequest_SUSPENDED,
	}
	_, err := s.subjects.SetSubject(server.AsUnit(ctx), &accessv1.SetSubjectRequest{
		Subject: &accessv1.Subject{Type: authn.ServiceAccount, Id: a.ID}, State: states[state], ExpiresAt: timestamp(end), Version: version,
	})
	return err
}

// failAccountCreation ends a creation that the deletion of its folder overtook.
func (s *Service) failAccountCreation(ctx context.Context, job accountCreation, cause error) error {
	if err := s.removeAccountFromTree(ctx, job.Account); err != nil {
		return apierr.FromRPC(err)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.store.DeleteAccounts(ctx, tx, job.Account); err != nil {
			return err
		}
		return s.operations.Fail(ctx, tx, job.Operation, nil, cause)
	})
}

// removeAccountFromTree ends a service account as a resource and as a subject, with
// its roles and memberships.
func (s *Service) removeAccountFromTree(ctx context.Context, accountID string) error {
	_, err := s.tree.RemoveResource(server.AsUnit(ctx), &accessv1.RemoveResourceRequest{
		Resource: &accessv1.Resource{Type: typeAccount, Id: accountID},
	})
	return err
}
