package identity

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	samlv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
)

// Kinds of the jobs that end users of federations, and federations.
const (
	jobDeleteFederatedUsers = "delete-federated-users"
	jobFederatedStates      = "set-federated-states"
	jobDeleteSAMLFederation = "delete-saml-federation"
	jobLetGoSAMLFederation  = "let-go-saml-federation"
)

// usersAtOnce is how many users of a federation are deleted in one change.
const usersAtOnce = 500

// distinct are ids, each once, in their order.
func distinct(ids []string) []string {
	seen := make(map[string]bool, len(ids))
	return slices.DeleteFunc(slices.Clone(ids), func(one string) bool {
		again := seen[one]
		seen[one] = true
		return again
	})
}

// writeUsers makes one write on users of a federation, which it is given locked in the
// order of their ids, with the ids that name nobody.
func (s *Service) writeUsers(ctx context.Context, federationID string, ids []string,
	fn func(ctx context.Context, tx *sql.Tx, f SAMLFederation, users []FederatedUser, missing []string) (operation.Operation, error),
) (operation.Operation, bool, error) {
	ids = distinct(ids)
	sent := slices.DeleteFunc(slices.Clone(ids), func(one string) bool { return id.Prefix(one) != id.FederatedUser })
	return s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		f, err := s.store.LockSAMLFederation(ctx, tx, federationID)
		if err == nil {
			err = f.active()
		}
		if err != nil {
			return op, err
		}
		users, err := s.store.FederatedUsersWith(ctx, tx, f.ID, sent)
		if err != nil {
			return op, err
		}
		missing := ids
		for _, u := range users {
			if u.Operation != "" || !u.exists() {
				return op, errFederatedUserBusy
			}
			missing = slices.DeleteFunc(slices.Clone(missing), func(one string) bool { return one == u.ID })
		}
		return fn(ctx, tx, f, users, missing)
	})
}

// DeleteUserAccounts deletes users with all that they hold, all or none (GR-6). Fails:
// FEDERATION_NOT_FOUND, FEDERATION_NOT_ACTIVE, BEING_DELETED, LAST_OWNER (OW-3).
func (s *samlFederations) DeleteUserAccounts(ctx context.Context, req *samlv1.DeleteFederatedUserAccountsRequest) (*operationpb.Operation, error) {
	var ticket jobs.Ticket
	op, again, err := s.writeUsers(ctx, req.GetFederationId(), req.GetSubjectIds(), func(ctx context.Context, tx *sql.Tx, f SAMLFederation, users []FederatedUser, missing []string) (op operation.Operation, err error) {
		op, err = s.insertFederationOperation(ctx, tx, f, "Delete user accounts", &samlv1.DeleteFederatedUserAccountsMetadata{FederationId: f.ID}, nil)
		if err != nil {
			return op, err
		}
		job := federatedUsersJob{Operation: op.ID, Federation: f.ID, Missing: missing}
		for _, u := range users {
			u.Deleting = true
			if err := s.store.UpdateUser(ctx, tx, u.User); err != nil {
				return op, err
			}
			if err := s.store.MarkFederatedUser(ctx, tx, u.ID, op.ID); err != nil {
				return op, err
			}
			job.Users = append(job.Users, u.ID)
		}
		if err := s.recordFederation(ctx, tx, f, federationEvent{
			name: "saml.DeleteFederatedUserAccounts", status: audit.Started, permission: permDeleteFederatedUsers, operation: op.ID, below: usersBelow(job.Users),
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobDeleteFederatedUsers, Payload: job})
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

// deleteFederatedUsers is the job that deletes users. A refusal leaves all of them as
// they were.
func (s *Service) deleteFederatedUsers(ctx context.Context, job federatedUsersJob) error {
	f, err := s.store.SAMLFederation(ctx, s.store.db, job.Federation)
	if err != nil && apierr.CodeOf(err) != codes.NotFound {
		return err
	}
	var refusal error
	if err == nil {
		if refusal = s.leaveFederation(ctx, f, job.Users); refusal != nil && !final(refusal) {
			return refusal
		}
	}
	if refusal == nil {
		if err := s.tellStates(ctx, job.Users, accessv1.SetSubjectRequest_DELETED); err != nil {
			return err
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		op, err := s.operations.GetIn(ctx, tx, job.Operation)
		if err != nil || op.Done {
			return err
		}
		e := federationEvent{name: "saml.DeleteFederatedUserAccounts", status: audit.Done, operation: job.Operation, below: usersBelow(job.Users)}
		if refusal != nil {
			e.status, e.details = audit.Failed, map[string]any{"reason": apierr.ReasonOf(refusal)}
			if err := s.keepFederatedUsers(ctx, tx, job); err != nil {
				return err
			}
			if err := s.recordFederation(ctx, tx, f, e); err != nil {
				return err
			}
			return s.operations.Fail(ctx, tx, job.Operation, nil, refusal)
		}
		for _, userID := range job.Users {
			if err := s.dropUser(ctx, tx, userID); err != nil {
				return err
			}
		}
		if err := s.recordFederation(ctx, tx, f, e); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, &samlv1.DeleteFederatedUserAccountsResponse{
			DeletedSubjects: job.Users, NonExistingSubjects: job.Missing,
		})
	})
}

// keepFederatedUsers takes back the deletion of users.
func (s *Service) keepFederatedUsers(ctx context.Context, tx *sql.Tx, job federatedUsersJob) error {
	users, err := s.store.FederatedUsersWith(ctx, tx, job.Federation, job.Users)
	if err != nil {
		return err
	}
	for _, u := range users {
		if u.Operation != job.Operation {
			continue
		}
		u.Deleting = false
		if err := s.store.UpdateUser(ctx, tx, u.User); err != nil {
			return err
		}
		if err := s.store.MarkFederatedUser(ctx, tx, u.ID, ""); err != nil {
			return err
		}
	}
	return nil
}

// leaveFederation takes users out of the organization with all that they have there,
// all or none (GR-6). One whose organization is gone has nothing there. Fails:
// LAST_OWNER (OW-3).
func (s *Service) leaveFederation(ctx context.Context, f SAMLFederation, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := s.subjects.UpdateMembers(server.AsUnit(ctx), &accessv1.UpdateMembersRequest{
		Container: &accessv1.Resource{Type: typeOrganization, Id: f.OrganizationID}, Remove: federatedSubjects(ids),
	})
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	return apierr.FromRPC(err)
}

// SuspendUserAccounts stops users before the operation is done. Fails:
// FEDERATED_USER_NOT_FOUND.
func (s *samlFederations) SuspendUserAccounts(ctx context.Context, req *samlv1.SuspendFederatedUserAccountsRequest) (*operationpb.Operation, error) {
	if sqldb.CheckText(req.GetReason()) != nil {
		return nil, apierr.InvalidField("reason", "must be valid UTF-8 without NUL")
	}
	meta := &samlv1.SuspendFederatedUserAccountsMetadata{FederationId: req.GetFederationId(), SubjectIds: req.GetSubjectIds(), Reason: req.GetReason()}
	return s.setStanding(ctx, req.GetFederationId(), req.GetSubjectIds(), standingOfUsers{
		event: "saml.SuspendFederatedUserAccounts", description: "Suspend user accounts", metadata: meta, reason: req.GetReason(), suspend: true,
	})
}

// ReactivateUserAccounts ends suspensions. Fails: FEDERATED_USER_NOT_FOUND.
func (s *samlFederations) ReactivateUserAccounts(ctx context.Context, req *samlv1.ReactivateFederatedUserAccountsRequest) (*operationpb.Operation, error) {
	meta := &samlv1.ReactivateFederatedUserAccountsMetadata{FederationId: req.GetFederationId(), SubjectIds: req.GetSubjectIds()}
	return s.setStanding(ctx, req.GetFederationId(), req.GetSubjectIds(), standingOfUsers{
		event: "saml.ReactivateFederatedUserAccounts", description: "Reactivate user accounts", metadata: meta,
	})
}

// standingOfUsers is whether users are to act, and how the change is told.
type standingOfUsers struct {
	event       string
	description string // of the operation
	metadata    proto.Message
	suspend     bool
	reason      string
}

// standingsJob is the payload of jobFederatedStates.
type standingsJob struct {
	federatedUsersJob
	Event string `json:"event"`
}

// setStanding writes whether users may act, and tells the checker before it returns.
func (s *Service) setStanding(ctx context.Context, federationID string, ids []string, to standingOfUsers) (*operationpb.Operation, error) {
	var ticket jobs.Ticket
	op, again, err := s.writeUsers(ctx, federationID, ids, func(ctx context.Context, tx *sql.Tx, f SAMLFederation, users []FederatedUser, missing []string) (op operation.Operation, err error) {
		if len(missing) > 0 {
			return op, errFederatedUserNotFound(missing[0])
		}
		op, err = s.insertFederationOperation(ctx, tx, f, to.description, to.metadata, nil)
		if err != nil {
			return op, err
		}
		for _, u := range users {
			if !to.suspend {
				u.SuspendedAt = sqldb.Time(0)
			} else if u.SuspendedAt.IsZero() {
				u.SuspendedAt = s.now()
			}
			u.SuspendReason = to.reason
			if err := s.store.UpdateUser(ctx, tx, u.User); err != nil {
				return op, err
			}
		}
		job := standingsJob{federatedUsersJob{Operation: op.ID, Federation: f.ID, Users: distinct(ids)}, to.event}
		if err := s.recordFederation(ctx, tx, f, federationEvent{
			name: to.event, status: audit.Started, permission: permUpdateFederatedUsers, operation: op.ID, below: usersBelow(job.Users),
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobFederatedStates, Payload: job})
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

// tellStandings is the job that puts in force whether users may act.
func (s *Service) tellStandings(ctx context.Context, job standingsJob) error {
	for _, userID := range job.Users {
		if err := s.setState(ctx, registration{userID}); err != nil {
			return err
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		op, err := s.operations.GetIn(ctx, tx, job.Operation)
		if err != nil || op.Done {
			return err
		}
		f, err := s.store.SAMLFederation(ctx, tx, job.Federation)
		if err != nil && apierr.CodeOf(err) != codes.NotFound {
			return err
		}
		if err := s.recordFederation(ctx, tx, f, federationEvent{
			name: job.Event, status: audit.Done, operation: job.Operation, below: usersBelow(job.Users),
		}); err != nil {
			return err
		}
		if job.Event == "saml.SuspendFederatedUserAccounts" {
			return s.operations.Finish(ctx, tx, job.Operation, nil, &samlv1.SuspendFederatedUserAccountsResponse{SubjectIds: job.Users})
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, &samlv1.ReactivateFederatedUserAccountsResponse{SubjectIds: job.Users})
	})
}

// Delete deletes a federation with all that belongs to it; nobody signs in through it
// once the call returns. Fails: FEDERATION_NOT_FOUND, FEDERATION_NOT_ACTIVE,
// BEING_DELETED, LAST_OWNER (OW-3) when a user of it is one: then the federation stays.
func (s *samlFederations) Delete(ctx context.Context, req *samlv1.DeleteFederationRequest) (*operationpb.Operation, error) {
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		f, err := s.store.LockSAMLFederation(ctx, tx, req.GetFederationId())
		if err == nil {
			err = f.active()
		}
		if err != nil {
			return op, err
		}
		op, err = s.insertFederationOperation(ctx, tx, f, "Delete federation", &samlv1.DeleteFederationMetadata{FederationId: f.ID}, nil)
		if err != nil {
			return op, err
		}
		f.State, f.Operation = Deleting, op.ID
		if err := s.store.UpdateSAMLFederation(ctx, tx, f); err != nil {
			return op, err
		}
		if err := s.recordFederation(ctx, tx, f, federationEvent{
			name: "saml.DeleteFederation", status: audit.Started, permission: permDeleteFederation, operation: op.ID,
		}); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobDeleteSAMLFederation, Payload: samlFederationJob{op.ID, f.ID}})
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

// deleteSAMLFederation is the job that deletes a federation: its users first, then what
// the tree knows of it, then its rows.
func (s *Service) deleteSAMLFederation(ctx context.Context, job samlFederationJob) error {
	f, err := s.store.SAMLFederation(ctx, s.store.db, job.Federation)
	gone := apierr.CodeOf(err) == codes.NotFound
	if err != nil && !gone {
		return err
	}
	if !gone {
		if f.Operation != job.Operation {
			return nil // it was refused before
		}
		switch refusal := s.endUsersOf(ctx, f); {
		case refusal != nil && final(refusal):
			return s.keepFederation(ctx, job, refusal)
		case refusal != nil:
			return refusal
		}
		_, err = s.tree.RemoveResource(server.AsUnit(ctx), &accessv1.RemoveResourceRequest{Resource: &accessv1.Resource{Type: typeSAMLFederation, Id: f.ID}})
		if err != nil {
			return apierr.FromRPC(err)
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		op, err := s.operations.GetIn(ctx, tx, job.Operation)
		if err != nil || op.Done {
			return err
		}
		if err := s.store.DeleteSAMLFederation(ctx, tx, job.Federation); err != nil {
			return err
		}
		if !gone {
			if err := s.recordFederation(ctx, tx, f, federationEvent{name: "saml.DeleteFederation", status: audit.Done, operation: job.Operation}); err != nil {
				return err
			}
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, new(emptypb.Empty))
	})
}

// endUsersOf deletes all users of a federation that adds none any more. Fails:
// LAST_OWNER (OW-3); those that were deleted until then are gone.
func (s *Service) endUsersOf(ctx context.Context, f SAMLFederation) error {
	for {
		users, err := s.store.SomeFederatedUsers(ctx, f.ID, usersAtOnce)
		if err != nil || len(users) == 0 {
			return err
		}
		var ids []string
		for _, u := range users {
			ids = append(ids, u.ID)
		}
		if err := s.leaveFederation(ctx, f, ids); err != nil {
			return err
		}
		if err := s.tellStates(ctx, ids, accessv1.SetSubjectRequest_DELETED); err != nil {
			return err
		}
		err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
			var errs []error
			for _, userID := range ids {
				errs = append(errs, s.dropUser(ctx, tx, userID))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			return err
		}
	}
}

// keepFederation ends a deletion that is refused.
func (s *Service) keepFederation(ctx context.Context, job samlFederationJob, cause error) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		f, err := s.store.LockSAMLFederation(ctx, tx, job.Federation)
		if err == nil && f.Operation == job.Operation {
			f.State, f.Operation = Active, ""
			err = s.store.UpdateSAMLFederation(ctx, tx, f)
		}
		if err != nil && apierr.CodeOf(err) != codes.NotFound {
			return err
		}
		if err := s.recordFederation(ctx, tx, f, federationEvent{
			name: "saml.DeleteFederation", status: audit.Failed, operation: job.Operation, details: map[string]any{"reason": apierr.ReasonOf(cause)},
		}); err != nil {
			return err
		}
		return s.operations.Fail(ctx, tx, job.Operation, nil, cause)
	})
}

// letGoSAMLFederations has the users and rows of federations dropped that went with their
// organization.
func (s *Service) letGoSAMLFederations(ctx context.Context, tx *sql.Tx, ids []string) error {
	for _, federationID := range ids {
		f, err := s.store.LockSAMLFederation(ctx, tx, federationID)
		if apierr.CodeOf(err) == codes.NotFound {
			continue
		}
		if err != nil {
			return err
		}
		f.State = Deleting
		if err := s.store.UpdateSAMLFederation(ctx, tx, f); err != nil {
			return err
		}
		if _, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobLetGoSAMLFederation, Payload: samlFederationJob{Federation: f.ID}, NotBefore: s.now()}); err != nil {
			return err
		}
	}
	return nil
}

// letGoSAMLFederation is the job that ends the users of a federation that is gone.
// Operations on it that are under way are ended by their jobs.
func (s *Service) letGoSAMLFederation(ctx context.Context, job samlFederationJob) error {
	f, err := s.store.SAMLFederation(ctx, s.store.db, job.Federation)
	if apierr.CodeOf(err) == codes.NotFound {
		return nil
	}
	if err == nil {
		err = s.endUsersOf(ctx, f)
	}
	if err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.store.DeleteSAMLFederation(ctx, tx, job.Federation)
	})
}
