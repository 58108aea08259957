package partner

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// write makes one write of a request in a transaction, once for each idempotency
// key. fn returns the operation that it made; again says that it was not run, and
// that the operation is the one of the first time, as it stands now.
func (s *Service) write(ctx context.Context, fn func(context.Context, *sql.Tx) (operation.Operation, error)) (op operation.Operation, again bool, err error) {
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		var opID string
		opID, again, err = s.keys.Operation(ctx, tx, func() (string, error) {
			op, err = fn(ctx, tx)
			return op.ID, err
		})
		if err == nil && again {
			op, err = s.operations.GetIn(ctx, tx, opID)
		}
		return err
	})
	return op, again, err
}

// writeNow is write of an operation that is done with its transaction.
func (s *Service) writeNow(ctx context.Context, fn func(context.Context, *sql.Tx) (operation.Operation, error)) (*operationpb.Operation, error) {
	op, _, err := s.write(ctx, fn)
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// writeThen is write of an operation that a job ends. The job is executed at once, so
// that the call returns an operation that is done, or the error that it ended with
// (clients.md 18); while a peer is away it is under way.
func (s *Service) writeThen(ctx context.Context, fn func(context.Context, *sql.Tx) (operation.Operation, jobs.Ticket, error)) (*operationpb.Operation, error) {
	return s.writeMaybe(ctx, func(ctx context.Context, tx *sql.Tx) (operation.Operation, *jobs.Ticket, error) {
		op, ticket, err := fn(ctx, tx)
		return op, &ticket, err
	})
}

// writeMaybe is writeThen where the write itself says whether a job ends the operation: nil
// when it is done with the transaction.
func (s *Service) writeMaybe(ctx context.Context, fn func(context.Context, *sql.Tx) (operation.Operation, *jobs.Ticket, error)) (*operationpb.Operation, error) {
	var ticket *jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		op, ticket, err = fn(ctx, tx)
		return op, err
	})
	if err != nil {
		return nil, err
	}
	if again || ticket == nil {
		return op.Answer()
	}
	if err := s.jobs.Do(ctx, *ticket); err != nil {
		return op.Proto(), nil //nolint:nilerr // logged there; a worker goes on, and the operation tells
	}
	if op, err = s.operations.Get(ctx, op.ID); err != nil {
		return nil, err
	}
	return op.Answer()
}

// begun makes an operation of the caller on an account.
func (s *Service) begun(ctx context.Context, tx *sql.Tx, accountID string, n operation.New) (operation.Operation, error) {
	n.Resource, n.CreatedBy = accountResource(accountID), authn.FromContext(ctx).ID
	if n.ViewPermission == "" {
		n.ViewPermission = permGet
	}
	return s.operations.Insert(ctx, tx, n)
}
