package identity

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

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

// Jobs of a change of standing: putting it in force, and ending a suspension.
const (
	jobStanding = "change-standing"
	jobResume   = "resume-service-account"
)

// standingChange is a change of state or end under way, the payload of jobStanding.
// The row shows it when the checker knows it; until then its Operation keeps other
// changes out, so that they follow one another.
type standingChange struct {
	Operation string           `json:"operation"`
	Account   string           `json:"account"`
	State     State            `json:"state"`
	ExpiresAt time.Time        `json:"expires_at"`
	Resume    time.Time        `json:"resume"` // when a suspension ends by itself; zero for never
	By        string           `json:"by"`     // id of who asked
	Event     string           `json:"event"`
	Path      []audit.Resource `json:"path"`
	Undo      *accountTexts    `json:"undo,omitempty"` // of an update, when the change is refused
}

// accountTexts are what an update changes beside the end.
type accountTexts struct {
	Name        string            `json:"name"`
	Description string            `json:"description"`
	Labels      map[string]string `json:"labels"`
}

// idle refuses changes while one is under way.
func (a ServiceAccount) idle() error {
	switch {
	case a.State == Deleting:
		return errAccountBeingDeleted(a)
	case a.Operation != "":
		return errAccountBusy(a)
	default:
		return nil
	}
}

// Suspend suspends a service account, at once and everywhere (SK-1), with an end or
// until it is reactivated. Fails: SERVICE_ACCOUNT_NOT_FOUND, SERVICE_ACCOUNT_BUSY,
// BEING_DELETED, LAST_OWNER (OW-1).
func (s *accounts) Suspend(ctx context.Context, req *iamv1.SuspendServiceAccountRequest) (*operationpb.Operation, error) {
	if err := sqldb.CheckText(req.GetReason()); err != nil {
		return nil, apierr.InvalidField("reason", "must be valid UTF-8 without NUL").WithCause(err)
	}
	end := timeOf(req.GetExpiresAt())
	details := map[string]any{"reason": req.GetReason()}
	if !end.IsZero() {
		details["expires_at"] = end
	}
	return s.setAccountState(ctx, req.GetServiceAccountId(), standingChange{State: Suspended, Resume: end}, operation.New{
		Description: "Suspend service account", Metadata: &iamv1.SuspendServiceAccountMetadata{ServiceAccountId: req.GetServiceAccountId()},
		Response: &iamv1.SuspendServiceAccountResponse{},
	}, event{name: "SuspendServiceAccount", permission: permissionSuspendAccount, details: details})
}

// Reactivate ends a suspension (SK-1). Fails: SERVICE_ACCOUNT_NOT_FOUND,
// SERVICE_ACCOUNT_BUSY, BEING_DELETED.
func (s *accounts) Reactivate(ctx context.Context, req *iamv1.ReactivateServiceAccountRequest) (*operationpb.Operation, error) {
	return s.setAccountState(ctx, req.GetServiceAccountId(), standingChange{State: Active}, reactivation(req.GetServiceAccountId()),
		event{name: "ReactivateServiceAccount", permission: permissionReactivateAccount, details: map[string]any{}})
}

func reactivation(accountID string) operation.New {
	return operation.New{
		Description: "Reactivate service account", Metadata: &iamv1.ReactivateServiceAccountMetadata{ServiceAccountId: accountID},
		Response: &iamv1.ReactivateServiceAccountResponse{},
	}
}

// setAccountState makes a service account active or suspended. One that is active already
// stays so, and the operation is done.
func (s *accounts) setAccountState(ctx context.Context, accountID string, change standingChange, n operation.New, e event) (*operationpb.Operation, error) {
	path, refusal := s.pathTo(ctx, authz.Resource{Type: typeAccount, ID: accountID})
	var ticket *jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		a, err := s.store.LockAccount(ctx, tx, accountID)
		if err == nil {
			err = a.idle()
		}
		if err == nil {
			err = refusal
		}
		if err == nil {
			err = s.ahead(change.Resume)
		}
		if err != nil {
			return op, err
		}
		path[len(path)-1].Name = a.Name
		n.Resource, n.ViewPermission, n.CreatedBy = a.resource(), permissionGetAccount, authn.FromContext(ctx).ID
		e.on, e.path = a.resource(), path
		if a.State == Active && change.State == Active {
			if op, err = s.operations.Insert(ctx, tx, n); err != nil {
				return op, err
			}
			e.status, e.details["operation_id"] = audit.Done, op.ID
			return op, s.recordEvent(ctx, tx, e)
		}
		change.ExpiresAt, n.Response = a.ExpiresAt, nil
		op, t, err := s.changeStanding(ctx, tx, a, change, n, e)
		ticket = &t
		return op, err
	})
	if err != nil {
		return nil, err
	}
	if again || ticket == nil {
		return op.Answer()
	}
	return s.finish(ctx, op, *ticket)
}

// changeStanding begins a change of standing of an account that the caller has locked
// and found idle.
func (s *Service) changeStanding(ctx context.Context, tx *sql.Tx, a ServiceAccount, change standingChange, n operation.New, e event) (op operation.Operation, _ jobs.Ticket, err error) {
	if op, err = s.operations.Insert(ctx, tx, n); err != nil {
		return op, jobs.Ticket{}, err
	}
	a.Operation = op.ID
	if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
		return op, jobs.Ticket{}, err
	}
	e.status, e.details["operation_id"] = audit.Started, op.ID
	if err := s.recordEvent(ctx, tx, e); err != nil {
		return op, jobs.Ticket{}, err
	}
	change.Operation, change.Account, change.By, change.Event, change.Path = op.ID, a.ID, n.CreatedBy, e.name, e.path
	ticket, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobStanding, Payload: change})
	return op, ticket, err
}

// putStanding is the job that puts a change of standing in force.
func (s *Service) putStanding(ctx context.Context, job standingChange) error {
	a, err := s.store.ServiceAccount(ctx, s.store.db, job.Account)
	if apierr.CodeOf(err) == codes.NotFound {
		return s.endStanding(ctx, job, errAccountParentDeleted)
	}
	if err != nil || a.Operation != job.Operation {
		return err // done before
	}
	err = s.tell(ctx, a, job.State, job.ExpiresAt, a.Version+1)
	switch apierr.CodeOf(err) {
	case codes.OK:
		return s.endStanding(ctx, job, nil)
	case codes.FailedPrecondition: // the last owner, or gone with its folder
		return s.endStanding(ctx, job, apierr.FromRPC(err))
	default:
		return apierr.FromRPC(err)
	}
}

// endStanding ends a change of standing: the row shows it, or what it was before when
// refusal says that it cannot be.
func (s *Service) endStanding(ctx context.Context, job standingChange, refusal error) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		a, err := s.store.LockAccount(ctx, tx, job.Account)
		if apierr.CodeOf(err) == codes.NotFound {
			return s.operations.Fail(ctx, tx, job.Operation, nil, errAccountParentDeleted)
		}
		if err != nil || a.Operation != job.Operation {
			return err
		}
		e := event{name: job.Event, status: audit.Done, path: job.Path, details: map[string]any{"operation_id": job.Operation}}
		a.Operation = ""
		if refusal != nil {
			if job.Undo != nil {
				a.Name, a.Description, a.Labels = job.Undo.Name, job.Undo.Description, job.Undo.Labels
			}
			e.status, e.details["reason"] = audit.Failed, apierr.ReasonOf(refusal)
		} else {
			a.State, a.ExpiresAt, a.Version = job.State, job.ExpiresAt, a.Version+1
		}
		if err := s.store.UpdateAccount(ctx, tx, a); err != nil {
			return err
		}
		if err := s.recordEvent(ctx, tx, e); err != nil {
			return err
		}
		if refusal != nil {
			return s.operations.Fail(ctx, tx, job.Operation, nil, refusal)
		}
		if !job.Resume.IsZero() {
			later := resumption{Account: a.ID, Version: a.Version, By: job.By, Path: job.Path}
			if _, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobResume, Payload: later, NotBefore: job.Resume}); err != nil {
				return err
			}
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, job.response(a))
	})
}

// response is that of the operation of a change.
func (job standingChange) response(a ServiceAccount) proto.Message {
	switch {
	case job.Undo != nil:
		return a.proto()
	case job.State == Suspended:
		return &iamv1.SuspendServiceAccountResponse{}
	default:
		return &iamv1.ReactivateServiceAccountResponse{}
	}
}

// resumption is the payload of jobResume: the suspension of that version ends.
type resumption struct {
	Account string           `json:"account"`
	Version int64            `json:"version"`
	By      string           `json:"by"` // who asked for the end, when it was suspended
	Path    []audit.Resource `json:"path"`
}

// errBusy sends the end of a suspension back to wait for the change under way.
var errBusy = errors.New("another change of the service account is under way")

// resumeAccount is the job that ends a suspension at its time. A suspension that has
// been ended, or replaced by another one, is none of its business.
func (s *Service) resumeAccount(ctx context.Context, job resumption) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		a, err := s.store.LockAccount(ctx, tx, job.Account)
		switch {
		case apierr.CodeOf(err) == codes.NotFound:
			return nil
		case err != nil:
			return err
		case a.Version != job.Version || a.State != Suspended:
			return nil
		case a.Operation != "":
			return errBusy
		}
		n := reactivation(a.ID)
		n.Resource, n.ViewPermission, n.CreatedBy, n.Response = a.resource(), permissionGetAccount, job.By, nil
		_, _, err = s.changeStanding(ctx, tx, a, standingChange{State: Active, ExpiresAt: a.ExpiresAt}, n, event{
			name: "ReactivateServiceAccount", path: job.Path, details: map[string]any{},
		})
		return err
	})
}
