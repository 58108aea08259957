package resourcemanager

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// jobDelete is the kind of the job that deletes a resource with everything below.
const jobDelete = "delete"

// removal is its payload.
type removal struct {
	Operation string `json:"operation"`
	Kind      string `json:"kind"`
	Resource  string `json:"resource"`
}

// clockSkew is by how much a delete_after may lie ahead and still mean now: the
// Terraform provider sends its own clock's time.
const clockSkew = 5 * time.Second

// due says when a deletion begins: zero for at once (DL-4), in DeletionDelay when
// the request does not say (DL-3).
func (s *Service) due(deleteAfter *timestamppb.Timestamp) time.Time {
	if deleteAfter == nil {
		return s.now().Add(s.cfg.DeletionDelay)
	}
	if at := deleteAfter.AsTime(); at.After(s.now().Add(clockSkew)) {
		return at.Truncate(time.Microsecond)
	}
	return time.Time{}
}

// remove deletes a resource with everything below it (DL-14), at once or later.
// The operation is done when it is gone. A pending deletion gives way to the new
// one. Access policies are asked when the deletion is called for, as roles are (AP-1,
// AP-8): one that is bound while it is pending neither stops nor speeds it up, and
// denies no cancelling, which is how to keep the resource. allowed judges the locked resource. Fails: <KIND>_NOT_FOUND, BEING_DELETED
// (DL-6), <KIND>_NOT_ACTIVE.
func (s *Service) remove(ctx context.Context, k *kind, resourceID string, at time.Time,
	allowed func(context.Context, *sql.Tx, Resource) error,
) (*operationpb.Operation, error) {
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		r, err := s.store.Lock(ctx, tx, k, resourceID)
		if err != nil {
			return op, err
		}
		if err := deletable(r); err != nil {
			return op, err
		}
		if err := allowed(ctx, tx, r); err != nil {
			return op, err
		}
		if op, err = s.schedule(ctx, tx, &r, at); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{
			Kind: jobDelete, Payload: removal{Operation: op.ID, Kind: k.name, Resource: r.ID}, NotBefore: at,
		})
		return op, err
	})
	if err != nil {
		return nil, err
	}
	if again || !at.IsZero() {
		return op.Answer()
	}
	return s.finish(ctx, op, ticket)
}

func deletable(r Resource) error {
	switch r.Status {
	case Active, PendingDeletion:
		return nil
	case Deleting:
		return errBeingDeleted(r.Kind, r)
	case Creating:
	}
	return errNotActive(r.Kind, r)
}

// schedule makes the operation of a deletion and puts it on the resource.
func (s *Service) schedule(ctx context.Context, tx *sql.Tx, r *Resource, at time.Time) (operation.Operation, error) {
	meta := deletion{ResourceID: r.ID, After: at}
	op, err := s.operations.Insert(ctx, tx, operation.New{
		Resource: r.Kind.resource(r.ID), ViewPermission: r.Kind.get, Description: "Delete " + r.Kind.name,
		CreatedBy: authn.FromContext(ctx).ID, Metadata: r.Kind.deleteMetadata(meta),
	})
	if err != nil {
		return op, err
	}
	if r.Status == PendingDeletion {
		if err := s.operations.Fail(ctx, tx, r.Operation, s.cancelled(ctx, *r), errDeletionReplaced); err != nil {
			return op, err
		}
	}
	r.Operation, r.DeleteAfter, r.Status = op.ID, at, PendingDeletion
	if at.IsZero() {
		r.Status = Deleting
	}
	if err := s.store.Update(ctx, tx, *r); err != nil {
		return op, err
	}
	details := map[string]any{"operation_id": op.ID}
	if !at.IsZero() {
		details["delete_after"] = at.UTC()
		if err := s.tellScheduled(ctx, tx, *r, op.ID); err != nil {
			return op, err
		}
	}
	return op, s.record(ctx, tx, *r, event{
		verb: verbDelete, status: audit.Started, permission: r.Kind.delete, on: r.Kind.resource(r.ID), details: details,
	})
}

// errEarly sends the job of a deletion back to wait.
var errEarly = errors.New("the deletion is not due yet")

// purge is the job that deletes a resource: first from the tree, which revokes
// all access below, then its rows. One that was cancelled or replaced does nothing.
func (s *Service) purge(ctx context.Context, job removal) error {
	k := kinds[job.Kind]
	owners, known, err := s.owners(ctx, k, job.Resource)
	if err != nil {
		return err
	}
	mine := false
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		r, err := s.store.Lock(ctx, tx, k, job.Resource)
		mine = err == nil && r.Operation == job.Operation
		switch {
		case apierr.CodeOf(err) == codes.NotFound:
			return nil
		case err != nil || !mine:
			return err
		case r.DeleteAfter.After(s.now()):
			return errEarly
		}
		if r.Status != Deleting {
			r.Status, r.DeleteAfter = Deleting, time.Time{} // DL-6: from here on irrevocable
			err = s.store.Update(ctx, tx, r)
		}
		if err == nil && known {
			err = s.tellDeleted(ctx, tx, r, owners)
		}
		return err
	})
	if err != nil || !mine {
		return err
	}
	if err := s.removeFromTree(ctx, k, job.Resource); err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.bury(ctx, tx, job)
	})
}

// removeFromTree removes a resource and everything below it from the tree.
func (s *Service) removeFromTree(ctx context.Context, k *kind, resourceID string) error {
	_, err := s.tree.RemoveResource(server.AsUnit(ctx), &accessv1.RemoveResourceRequest{
		Resource: &accessv1.Resource{Type: k.typ, Id: resourceID},
	})
	if err != nil && apierr.CodeOf(err) != codes.NotFound {
		return fmt.Errorf("remove %s %s: %w", k.name, resourceID, apierr.FromRPC(err))
	}
	return nil
}

// bury deletes the rows of a resource and of everything below it, and ends their
// operations: deletions have come true, creations have failed.
func (s *Service) bury(ctx context.Context, tx *sql.Tx, job removal) error {
	r, err := s.store.Lock(ctx, tx, kinds[job.Kind], job.Resource)
	if apierr.CodeOf(err) == codes.NotFound {
		return nil // by another process
	}
	if err != nil {
		return err
	}
	below, err := s.store.Below(ctx, tx, r.ID)
	if err != nil {
		return err
	}
	for _, b := range append(below, r) {
		switch b.Status {
		case Creating:
			err = s.operations.Fail(ctx, tx, b.Operation, nil, errParentDeleted)
		case PendingDeletion, Deleting:
			err = s.operations.Finish(ctx, tx, b.Operation, nil, &emptypb.Empty{})
		case Active:
		}
		if err != nil {
			return err
		}
		done := event{verb: verbDelete, status: audit.Done, details: map[string]any{"operation_id": job.Operation}}
		if err := s.record(ctx, tx, b, done); err != nil {
			return err
		}
	}
	return s.store.Delete(ctx, tx, r.ID)
}

// cancelled is the metadata of a pending deletion that its caller takes back (DL-9).
func (s *Service) cancelled(ctx context.Context, r Resource) proto.Message {
	return r.Kind.deleteMetadata(deletion{
		ResourceID: r.ID, After: r.DeleteAfter, CancelledBy: authn.FromContext(ctx).ID, CancelledAt: s.now(),
	})
}

// cancelDeletion takes a pending deletion back (DL-7): the resource is in use
// again, the operation of the deletion has ended, and one of its own says so.
// Fails: <KIND>_NOT_FOUND, NOT_PENDING_DELETION.
func (s *Service) cancelDeletion(ctx context.Context, k *kind, resourceID string) (*operationpb.Operation, error) {
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		r, err := s.store.Lock(ctx, tx, k, resourceID)
		if err != nil {
			return op, err
		}
		if r.Status != PendingDeletion {
			return op, errNotPendingDeletion(k, r)
		}
		meta, ended := s.cancelled(ctx, r), r.Operation
		if err := s.operations.Fail(ctx, tx, ended, meta, errDeletionCancelled); err != nil {
			return op, err
		}
		r.Status, r.DeleteAfter, r.Operation = Active, time.Time{}, ""
		if err := s.store.Update(ctx, tx, r); err != nil {
			return op, err
		}
		if op, err = s.operations.Insert(ctx, tx, operation.New{
			Resource: k.resource(r.ID), ViewPermission: k.get, Description: "Cancel deletion of " + k.name,
			CreatedBy: authn.FromContext(ctx).ID, Metadata: meta, Response: k.message(r),
		}); err != nil {
			return op, err
		}
		if err := s.tellCancelled(ctx, tx, r, op.ID); err != nil {
			return op, err
		}
		return op, s.record(ctx, tx, r, event{
			verb: verbCancel, status: audit.Done, permission: k.cancelDeletion, on: k.resource(r.ID),
			details: map[string]any{"operation_id": op.ID, "cancelled_operation_id": ended},
		})
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// cancelOperation is what OperationService.Cancel does: it takes back a pending
// deletion, for whoever may cancel it by its own method (DL-8).
func (s *Service) cancelOperation(ctx context.Context, op operation.Operation) (operation.Operation, error) {
	var k *kind
	for _, candidate := range kinds {
		if candidate.typ == op.Resource.Type && candidate.cancelDeletion != "" {
			k = candidate
		}
	}
	if k == nil {
		return op, operation.NotCancellable(op.ID)
	}
	r, err := s.store.Get(ctx, s.store.db, k, op.Resource.ID)
	if err != nil {
		return op, err
	}
	if r.Operation != op.ID || r.Status != PendingDeletion {
		return op, operation.NotCancellable(op.ID)
	}
	if err := s.decider.Authorize(ctx, authn.FromContext(ctx), k.cancelDeletion, op.Resource); err != nil {
		return op, err
	}
	if _, err := s.cancelDeletion(ctx, k, r.ID); err != nil {
		return op, err
	}
	return s.operations.Get(ctx, op.ID)
}
