package identity

import (
	"context"
	"database/sql"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// jobDeleteAccount deletes a service account.
const jobDeleteAccount = "delete-service-account"

// accountDeletion is its payload.
type accountDeletion struct {
	Operation string           `json:"operation"`
	Account   string           `json:"account"`
	Before    State            `json:"before"` // what it is again when it cannot be deleted
	Path      []audit.Resource `json:"path"`   // for the audit record
}

// Delete deletes a service account: the checker lets go of it, its roles and its
// memberships in one change, then its row goes with its keys (SK-2). Fails:
// SERVICE_ACCOUNT_NOT_FOUND, SERVICE_ACCOUNT_BUSY, BEING_DELETED, LAST_OWNER (OW-1).
func (s *accounts) Delete(ctx context.Context, req *iamv1.DeleteServiceAccountRequest) (*operationpb.Operation, error) {
	path, refusal := s.pathTo(ctx, authz.Resource{Type: typeAccount, ID: req.GetServiceAccountId()})
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		a, err := s.store.LockAccount(ctx, tx, req.GetServiceAccountId())
		if err != nil {
			return op, err
		}
		if err := a.idle(); err != nil {
			return op, err
		}
		if refusal != nil {
			return op, refusal
		}
		path[len(path)-1].Name = a.Name
		if op, err = s.operations.Insert(ctx, tx, operation.New{
			Resource: a.resource(), ViewPermission: permissionGetAccount, Description: "Delete service account",
			CreatedBy: authn.FromContext(ctx).ID, Metadata: &iamv1.DeleteServiceAccountMetadata{ServiceAccountId: a.ID},
		}); err != nil {
			return op, err
		}
		job := accountDeletion{Operation: op.ID, Account: a.ID, Before: a.State, Path: path}
		a.State, a.Operation = Deleting, op.ID
		if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
			return op, err
		}
		if err := s.recordEvent(ctx, tx, event{
			name: "DeleteServiceAccount", status: audit.Started, permission: permissionDeleteAccount, on: a.resource(),
			path: path, details: map[string]any{"operation_id": op.ID},
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobDeleteAccount, Payload: job})
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

// deleteAccount is the job that deletes a service account. One that went with its
// folder meanwhile is deleted as well.
func (s *Service) deleteAccount(ctx context.Context, job accountDeletion) error {
	a, err := s.store.ServiceAccount(ctx, s.store.db, job.Account)
	if err != nil && apierr.CodeOf(err) != codes.NotFound {
		return err
	}
	if err == nil && a.Operation != job.Operation {
		return nil // it was refused before
	}
	err = s.removeAccountFromTree(ctx, job.Account)
	if apierr.CodeOf(err) == codes.FailedPrecondition {
		return s.keepAccount(ctx, job, apierr.FromRPC(err))
	}
	if err != nil {
		return apierr.FromRPC(err)
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.store.DeleteAccounts(ctx, tx, job.Account); err != nil {
			return err
		}
		if err := s.recordEvent(ctx, tx, event{
			name: "DeleteServiceAccount", status: audit.Done, path: job.Path, details: map[string]any{"operation_id": job.Operation},
		}); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, new(emptypb.Empty))
	})
}

// keepAccount ends a deletion that is refused: the account is what it was.
func (s *Service) keepAccount(ctx context.Context, job accountDeletion, cause error) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		a, err := s.store.LockAccount(ctx, tx, job.Account)
		if err == nil && a.Operation == job.Operation {
			a.State, a.Operation = job.Before, ""
			err = s.store.UpdateAccount(ctx, tx, a)
		}
		if err != nil && apierr.CodeOf(err) != codes.NotFound {
			return err
		}
		if err := s.recordEvent(ctx, tx, event{
			name: "DeleteServiceAccount", status: audit.Failed, path: job.Path,
			details: map[string]any{"operation_id": job.Operation, "reason": apierr.ReasonOf(cause)},
		}); err != nil {
			return err
		}
		return s.operations.Fail(ctx, tx, job.Operation, nil, cause)
	})
}

// letGoAccounts drops the rows of service accounts that went with what they lay in.
// Operations on them that are under way are ended by their jobs.
func (s *Service) letGoAccounts(ctx context.Context, tx *sql.Tx, ids []string) error {
	return s.store.DeleteAccounts(ctx, tx, ids...)
}
