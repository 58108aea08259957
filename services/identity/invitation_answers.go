package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// jobJoin is the kind of the job that makes the membership of an accepted
// invitation.
const jobJoin = "join-organization"

// joining is its payload.
type joining struct {
	Operation  string `json:"operation"`
	Invitation string `json:"invitation"`
}

// ListIncomingInvitations reads one page of the pending invitations to the address
// of the caller's account, newest first.
func (s *invitations) ListIncomingInvitations(ctx context.Context, req *identityv1.ListIncomingInvitationsRequest) (*identityv1.ListIncomingInvitationsResponse, error) {
	address, err := s.callersAddress(ctx)
	if errors.Is(err, errInvitationForAnother) {
		return new(identityv1.ListIncomingInvitationsResponse), nil
	}
	if err != nil {
		return nil, err
	}
	query := InvitationQuery{Email: address, State: Pending, Now: s.now()}
	all, next, err := s.pageOfInvitations(ctx, query, req, "incoming invitations", address)
	if err != nil {
		return nil, err
	}
	return &identityv1.ListIncomingInvitationsResponse{Invitations: all, NextPageToken: next}, nil
}

// callersAddress is the address of the caller's account, in lower case. It is the
// account's own, vouched for by who made the account. Who has none is invited
// nowhere: INVITATION_FOR_ANOTHER.
func (s *Service) callersAddress(ctx context.Context) (string, error) {
	p := authn.FromContext(ctx)
	if p.Type != authn.UserAccount {
		return "", errInvitationForAnother
	}
	u, err := s.store.User(ctx, s.store.db, p.ID)
	if errors.Is(err, errUserNotFound) || err == nil && u.Email == "" {
		return "", errInvitationForAnother
	}
	return email.Fold(u.Email), err
}

// lockMine locks a pending invitation to the caller, and to nobody else: who may
// not see one learns neither its state nor who made it. Fails: INVITATION_NOT_FOUND,
// INVITATION_FOR_ANOTHER, INVITATION_NOT_PENDING.
func (s *Service) lockMine(ctx context.Context, tx *sql.Tx, invitationID, address string) (Invitation, error) {
	inv, err := s.store.LockInvitation(ctx, tx, invitationID)
	if err != nil {
		return Invitation{}, err
	}
	if inv.Email != address {
		return Invitation{}, errInvitationForAnother
	}
	if inv = inv.at(s.now()); inv.State != Pending {
		return Invitation{}, errInvitationNotPending(inv)
	}
	return inv, nil
}

// RejectInvitation declines an invitation. Fails: INVITATION_NOT_FOUND,
// INVITATION_FOR_ANOTHER, INVITATION_NOT_PENDING.
func (s *invitations) RejectInvitation(ctx context.Context, req *identityv1.RejectInvitationRequest) (*operationpb.Operation, error) {
	op, _, err := s.answer(ctx, req.GetInvitationId(), func(ctx context.Context, tx *sql.Tx, inv Invitation) (op operation.Operation, err error) {
		inv.State, inv.EndedAt = Rejected, s.now()
		if err := s.store.UpdateInvitation(ctx, tx, inv); err != nil {
			return op, err
		}
		op, err = s.insertInvitationOperation(ctx, tx, inv, "Reject invitation", &identityv1.RejectInvitationMetadata{InvitationId: inv.ID}, inv.proto())
		if err != nil {
			return op, err
		}
		return op, s.recordInvitation(ctx, tx, inv, "RejectInvitation", audit.Done, "", map[string]any{"operation_id": op.ID})
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// answer makes one write on an invitation of the caller, which it is given locked.
func (s *Service) answer(ctx context.Context, invitationID string, fn func(context.Context, *sql.Tx, Invitation) (operation.Operation, error)) (operation.Operation, bool, error) {
	address, err := s.callersAddress(ctx)
	if errors.Is(err, errInvitationForAnother) {
		if _, gone := s.store.Invitation(ctx, s.store.db, invitationID); gone != nil {
			err = gone
		}
	}
	if err != nil {
		return operation.Operation{}, false, err
	}
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (operation.Operation, error) {
		inv, err := s.lockMine(ctx, tx, invitationID, address)
		if err != nil {
			return operation.Operation{}, err
		}
		inv.AnsweredBy = authn.FromContext(ctx).ID
		return fn(ctx, tx, inv)
	})
}

// AcceptInvitation makes the caller a member; the operation is done when the
// membership is in force. Fails: INVITATION_NOT_FOUND, INVITATION_FOR_ANOTHER,
// INVITATION_NOT_PENDING, QUOTA_EXCEEDED.
func (s *invitations) AcceptInvitation(ctx context.Context, req *identityv1.AcceptInvitationRequest) (*operationpb.Operation, error) {
	var ticket jobs.Ticket
	op, again, err := s.answer(ctx, req.GetInvitationId(), func(ctx context.Context, tx *sql.Tx, inv Invitation) (op operation.Operation, err error) {
		meta := &identityv1.AcceptInvitationMetadata{InvitationId: inv.ID, OrganizationId: inv.OrganizationID}
		if op, err = s.insertInvitationOperation(ctx, tx, inv, "Accept invitation", meta, nil); err != nil {
			return op, err
		}
		inv.State, inv.Operation = Accepting, op.ID
		if err := s.store.UpdateInvitation(ctx, tx, inv); err != nil {
			return op, err
		}
		if err := s.recordInvitation(ctx, tx, inv, "AcceptInvitation", audit.Started, "", map[string]any{"operation_id": op.ID}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobJoin, Payload: joining{Operation: op.ID, Invitation: inv.ID}})
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

// join is the job that makes the membership of an accepted invitation. One that
// cannot be made leaves the invitation pending, and its operation failed.
func (s *Service) join(ctx context.Context, job joining) error {
	inv, err := s.store.Invitation(ctx, s.store.db, job.Invitation)
	switch {
	case errors.Is(err, errInvitationNotFound): // with its organization
		return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
			return s.operations.Fail(ctx, tx, job.Operation, nil, errInvitationNotFound)
		})
	case err != nil:
		return err
	case inv.State != Accepting || inv.Operation != job.Operation:
		return nil // done before
	}
	_, err = s.subjects.UpdateMembers(server.AsUnit(ctx), &accessv1.UpdateMembersRequest{
		Container: &accessv1.Resource{Type: typeOrganization, Id: inv.OrganizationID},
		Add:       []*accessv1.Subject{{Type: authn.UserAccount, Id: inv.AnsweredBy}},
	})
	if err = apierr.FromRPC(err); err != nil && !final(err) {
		return fmt.Errorf("add member: %w", err)
	}
	cause := err
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		inv, err := s.store.LockInvitation(ctx, tx, job.Invitation)
		if errors.Is(err, errInvitationNotFound) {
			return s.operations.Fail(ctx, tx, job.Operation, nil, errInvitationNotFound)
		}
		if err != nil || inv.State != Accepting || inv.Operation != job.Operation {
			return err
		}
		if cause != nil {
			return s.refuseAnswer(ctx, tx, inv, cause)
		}
		return s.joined(ctx, tx, inv)
	})
}

// final reports whether a refusal of a peer stays one when the call is repeated.
func final(err error) bool {
	switch apierr.CodeOf(err) {
	case codes.NotFound, codes.FailedPrecondition, codes.InvalidArgument:
		return true
	case codes.ResourceExhausted:
		return apierr.ReasonOf(err) == apierr.ReasonQuotaExceeded
	default:
		return false
	}
}

// joined ends an acceptance that succeeded.
func (s *Service) joined(ctx context.Context, tx *sql.Tx, inv Invitation) error {
	opID := inv.Operation
	inv.State, inv.EndedAt, inv.Operation = Accepted, s.now(), ""
	if err := s.store.UpdateInvitation(ctx, tx, inv); err != nil {
		return err
	}
	for _, event := range []string{"CreateMembership", "AcceptInvitation"} {
		details := map[string]any{"operation_id": opID, "subject_id": inv.AnsweredBy}
		if err := s.recordInvitation(ctx, tx, inv, event, audit.Done, "", details); err != nil {
			return err
		}
	}
	return s.operations.Finish(ctx, tx, opID, nil, inv.proto())
}

// refuseAnswer ends an acceptance that failed: the invitation can be answered again.
func (s *Service) refuseAnswer(ctx context.Context, tx *sql.Tx, inv Invitation, cause error) error {
	opID := inv.Operation
	details := map[string]any{"operation_id": opID, "subject_id": inv.AnsweredBy, "reason": apierr.ReasonOf(cause)}
	if err := s.recordInvitation(ctx, tx, inv, "AcceptInvitation", audit.Failed, "", details); err != nil {
		return err
	}
	inv.State, inv.AnsweredBy, inv.Operation = Pending, "", ""
	if err := s.store.UpdateInvitation(ctx, tx, inv); err != nil {
		return err
	}
	return s.operations.Fail(ctx, tx, opID, nil, cause)
}
