package identity

import (
	"context"
	"database/sql"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// How long a write waits for another one of the same thing that is under way: no client
// sends again what was ABORTED (clients.md B3), so such conflicts end here.
const (
	busyPatience = 5 * time.Second
	busyPause    = 50 * time.Millisecond
)

// write makes one write of a request in a transaction, once for each idempotency
// key. fn returns the operation that it made; again says that it was not run, and
// that the operation is the one of the first time, as it stands now. A conflict with a
// write under way is waited for; ABORTED is what one meets that does not end.
func (s *Service) write(ctx context.Context, fn func(context.Context, *sql.Tx) (operation.Operation, error)) (op operation.Operation, again bool, err error) {
	for begun := time.Now(); ; {
		op, again, err = s.tryWrite(ctx, fn)
		if apierr.CodeOf(err) != codes.Aborted || time.Since(begun) > busyPatience {
			return op, again, err
		}
		select {
		case <-ctx.Done():
			return op, again, err
		case <-time.After(busyPause):
		}
	}
}

func (s *Service) tryWrite(ctx context.Context, fn func(context.Context, *sql.Tx) (operation.Operation, error)) (op operation.Operation, again bool, err error) {
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		var opID string
		opID, again, err = s.once.Operation(ctx, tx, func() (string, error) {
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

// finish executes the last step of an operation at once and returns where the
// operation stands: done, or under way when a peer is away. One that could not
// succeed is the error of the call (clients.md 18).
func (s *Service) finish(ctx context.Context, op operation.Operation, ticket jobs.Ticket) (*operationpb.Operation, error) {
	if err := s.jobs.Do(ctx, ticket); err != nil {
		return op.Proto(), nil //nolint:nilerr // logged there; a worker goes on, and the operation tells
	}
	op, err := s.operations.Get(ctx, op.ID)
	if err != nil {
		return nil, err
	}
	return op.Answer()
}
