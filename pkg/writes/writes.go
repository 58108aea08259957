// Package writes makes the writes of a unit that answer with an operation: one
// transaction, once for each idempotency key, and after it the job that ends it. Units
// that group their commits (accessbindings' facts) have a way of their own.
package writes

import (
	"context"
	"database/sql"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Writer makes writes of one unit. All fields are required. It is safe for concurrent
// use.
type Writer struct {
	DB         *sqldb.DB
	Keys       *idempotency.Store
	Operations *operation.Store
	Jobs       *jobs.Queue
}

// Made is what a write made: its operation, and the job that ends it, if any.
type Made struct {
	Op     operation.Operation
	Ticket *jobs.Ticket
	Rest   sqldb.Batch // its last statements, which Make sends together with COMMIT
}

// Make makes one write in a transaction, once for each idempotency key, executes its
// job at once, and answers with the operation as it stands then. One that could not
// succeed is the error of the call (clients.md 18).
func (w Writer) Make(ctx context.Context, fn func(context.Context, *sql.Tx) (Made, error)) (*operationpb.Operation, error) {
	var m Made
	var again bool
	err := sqldb.InBatches(ctx, w.DB, func(ctx context.Context, tx *sql.Tx) error {
		opID, replay, err := w.Keys.Operation(ctx, tx, func() (string, error) {
			made, err := fn(ctx, tx)
			m = made
			return made.Op.ID, err
		})
		if again = replay; err == nil && again {
			m.Op, err = w.Operations.GetIn(ctx, tx, opID)
		}
		if err != nil || again {
			return err
		}
		return m.Rest.Commit(ctx, w.DB, tx)
	})
	if err != nil {
		return nil, err
	}
	w.Jobs.Kick() // notices are due
	if again || m.Ticket == nil {
		return m.Op.Answer()
	}
	if err := w.Jobs.Do(ctx, *m.Ticket); err != nil {
		return m.Op.Proto(), nil //nolint:nilerr // logged there; a worker goes on, and the operation tells
	}
	op, err := w.Operations.Get(ctx, m.Op.ID)
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// Operation makes an operation of the caller in the transaction of a write.
func (w Writer) Operation(ctx context.Context, tx *sql.Tx, made operation.New) (operation.Operation, error) {
	made.CreatedBy = authn.FromContext(ctx).ID
	return w.Operations.Insert(ctx, tx, made)
}
