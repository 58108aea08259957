package tickets

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

const (
	sweepEvery = 10 * time.Minute
	sweepBatch = 100
)

// Run sweeps again and again until ctx ends; what fails is tried again.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
				s.Log.Warn("tickets were not swept", zap.Error(err))
			}
		}
	}
}

// Sweep removes what uploads of processes that are gone have left, and what belongs to
// nothing any more.
func (s *Service) Sweep(ctx context.Context) error {
	return errors.Join(s.sweepUploads(ctx), s.sweepGone(ctx))
}

func (s *Service) sweepUploads(ctx context.Context) error {
	lost, err := s.store.underWay(ctx, s.Writes.DB, s.Now().Add(-abandonAfter), sweepBatch)
	for _, a := range lost {
		s.abandon(ctx, a)
	}
	return err
}

// sweepGone is ST-6 [ours]: tickets go, with all that they have, after the cloud or the
// organization that they were filed under. From its deletion on nobody but the operators
// sees them.
func (s *Service) sweepGone(ctx context.Context) error {
	for after := (authz.Resource{}); ; {
		places, err := s.store.places(ctx, after, sweepBatch)
		if err != nil || len(places) == 0 {
			return err
		}
		for _, on := range places {
			_, err := s.path(ctx, on)
			if err != nil && apierr.CodeOf(err) != codes.NotFound {
				return err
			}
			if err == nil {
				continue
			}
			err = sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error { return s.store.removeAll(ctx, tx, on) })
			if err != nil {
				return err
			}
		}
		after = places[len(places)-1]
	}
}
