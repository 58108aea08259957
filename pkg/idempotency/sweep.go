package idempotency

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Bounds of the sweep.
const (
	sweepEvery = time.Minute
	sweepMost  = 500 // rows of one transaction, so that writers wait little
)

// Run sweeps until ctx ends. What fails is reported and tried again next time.
func (s *Store) Run(ctx context.Context, report func(error)) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
				report(err)
			}
		}
	}
}

// Sweep drops the keys that count no more, in as many transactions as it takes.
func (s *Store) Sweep(ctx context.Context) error {
	for {
		due, err := s.due(ctx)
		if err != nil || !due {
			return err
		}
		err = sqldb.InTx(ctx, s.db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, s.sql(`
				DELETE FROM {{unit}}_idempotency WHERE ref IN (
					SELECT ref FROM {{unit}}_idempotency WHERE created_at <= $1 ORDER BY created_at LIMIT $2
				) AND created_at <= $1`), s.horizon(), sweepMost)
			return err
		})
		if err != nil {
			return fmt.Errorf("sweep idempotency keys: %w", err)
		}
	}
}

// due looks without a lock whether there is something to sweep.
func (s *Store) due(ctx context.Context) (bool, error) {
	var one int
	err := s.db.QueryRowContext(ctx, s.sql(`SELECT 1 FROM {{unit}}_idempotency WHERE created_at <= $1 LIMIT 1`), s.horizon()).Scan(&one)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for old idempotency keys: %w", err)
	}
	return true, nil
}
