package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// letGo drops what belonged to removed resources of a type, in the transaction that
// notes how far they were followed. It may be called again for the same ids.
type letGo func(ctx context.Context, tx *sql.Tx, ids []string) error

// removals follows the removal of resources, with all that was below them, in the
// tree: by then nothing of them decides any more, and their rows here are to go
// (DL-6, SK-2). How far it is stands in the table identity_removals.
type removals struct {
	db    *sqldb.DB
	tree  accessv1.ResourceServiceClient
	log   *zap.Logger
	types map[string][]letGo
}

const (
	followRemovalsEvery = 2 * time.Second
	removalsAtOnce      = 200
)

// on says what to do, beside what was said before, when resources of a type are removed.
// It is called before run.
func (r *removals) on(resourceType string, do letGo) {
	r.types[resourceType] = append(r.types[resourceType], do)
}

// run follows until ctx ends. What fails is tried again.
func (r *removals) run(ctx context.Context) error {
	tick := time.NewTicker(followRemovalsEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			for resourceType := range r.types {
				if err := r.follow(ctx, resourceType); err != nil && ctx.Err() == nil {
					r.log.Warn("removed resources were not followed", zap.String("type", resourceType), zap.Error(err))
				}
			}
		}
	}
}

// follow takes all removals of a type that there are.
func (r *removals) follow(ctx context.Context, resourceType string) error {
	for {
		at, err := r.place(ctx, r.db, resourceType, "")
		if err != nil {
			return err
		}
		resp, err := r.tree.ListRemovedResources(server.AsUnit(ctx), &accessv1.ListRemovedResourcesRequest{
			Type: resourceType, After: at.proto(), PageSize: removalsAtOnce,
		})
		if err != nil {
			return apierr.FromRPC(err)
		}
		next := removalPlace{resp.GetLast().GetEpoch(), resp.GetLast().GetRevision(), resp.GetLast().GetId()}
		if len(resp.GetIds()) == 0 && next == at {
			return nil
		}
		if err := r.take(ctx, resourceType, at, next, resp.GetIds()); err != nil {
			return err
		}
		if len(resp.GetIds()) < removalsAtOnce {
			return nil
		}
	}
}

// take lets go what belonged to the ids and notes the place, unless another process
// has meanwhile.
func (r *removals) take(ctx context.Context, resourceType string, at, next removalPlace, ids []string) error {
	return sqldb.InTx(ctx, r.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO identity_removals (type, epoch, revision, id) VALUES ($1, 0, 0, '') ON CONFLICT (type) DO NOTHING`, resourceType)
		if err != nil {
			return fmt.Errorf("note removals: %w", err)
		}
		if now, err := r.place(ctx, tx, resourceType, r.db.ForUpdate()); err != nil || now != at {
			return err
		}
		for _, do := range r.types[resourceType] {
			if err := do(ctx, tx, ids); err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `UPDATE identity_removals SET epoch = $2, revision = $3, id = $4 WHERE type = $1`,
			resourceType, next.epoch, next.revision, next.id)
		if err != nil {
			return fmt.Errorf("note removals: %w", err)
		}
		return nil
	})
}

// removalPlace is how far removals were followed; the zero value is the beginning.
type removalPlace struct {
	epoch, revision int64
	id              string
}

func (p removalPlace) proto() *accessv1.RemovalPlace {
	if p == (removalPlace{}) {
		return nil
	}
	return &accessv1.RemovalPlace{Epoch: p.epoch, Revision: p.revision, Id: p.id}
}

func (r *removals) place(ctx context.Context, q sqldb.Querier, resourceType, suffix string) (p removalPlace, err error) {
	err = q.QueryRowContext(ctx, `SELECT epoch, revision, id FROM identity_removals WHERE type = $1`+suffix, resourceType).
		Scan(&p.epoch, &p.revision, &p.id)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return p, fmt.Errorf("read place of removals: %w", err)
	}
	return p, nil
}
