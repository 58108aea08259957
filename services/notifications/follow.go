package notifications

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// How subscribers go with their resources.
const (
	goneFor     = time.Hour // for so long the last notices of a removed resource find them
	followBatch = 1000
)

// follow drops the subscribers of resources that were removed a while ago, and notes
// which have been removed since it was called last.
func (s *Service) follow(ctx context.Context) error {
	for _, typ := range named {
		if err := s.followType(ctx, typ); err != nil {
			return fmt.Errorf("follow removals of %s: %w", typ, err)
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return s.store.DropGone(ctx, tx, s.now().Add(-goneFor))
	})
}

func (s *Service) followType(ctx context.Context, typ string) error {
	for {
		at, err := s.store.RemovalPlace(ctx, s.store.db, typ)
		if err != nil {
			return err
		}
		req := &accessv1.ListRemovedResourcesRequest{Type: typ, PageSize: followBatch}
		if at != (removalPlace{}) {
			req.After = &accessv1.RemovalPlace{Epoch: at.epoch, Revision: at.revision, Id: at.id}
		}
		resp, err := s.tree.ListRemovedResources(server.AsUnit(ctx), req)
		if err != nil {
			return apierr.FromRPC(err)
		}
		if len(resp.GetIds()) == 0 {
			return nil
		}
		last := removalPlace{epoch: resp.GetLast().GetEpoch(), revision: resp.GetLast().GetRevision(), id: resp.GetLast().GetId()}
		err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
			return s.store.MarkGone(ctx, tx, typ, resp.GetIds(), s.now(), last)
		})
		if err != nil || len(resp.GetIds()) < followBatch {
			return err
		}
	}
}
