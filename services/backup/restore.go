package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// errNotEmpty refuses a store in which something is.
var errNotEmpty = errors.New("the target is not empty: a backup is restored into an installation without any data")

// Options of a restore.
type Options struct {
	// KeepEpoch keeps the tokens of the store good. It is right only when nothing
	// happened after the backup: the server was stopped before it.
	KeepEpoch bool

	// Now makes the new epoch.
	Now time.Time
}

// Empty refuses a database in which any table of a unit holds rows. Tables that are
// not there, or that only migrations have touched, are empty.
func (b *File) Empty(ctx context.Context, db *sqldb.DB) error {
	return b.layout.each(func(u Unit, t sqldb.Table) error {
		exists, err := db.Exists(ctx, db, u.Name, t.Name)
		if err != nil || !exists {
			return err
		}
		return empty(ctx, db, db, u.Name, t)
	})
}

func empty(ctx context.Context, db *sqldb.DB, q sqldb.Querier, unit string, t sqldb.Table) error {
	c, err := db.Contents(ctx, q, unit, t)
	if err != nil {
		return err
	}
	holds, err := c.Holds(ctx, q)
	if err == nil && holds {
		err = fmt.Errorf("%w (there are rows in %s)", errNotEmpty, t.Name)
	}
	return err
}

// Restore fills a database that is empty and at the version of the program, in one
// transaction. db was opened without a schema. It returns the epoch from then on.
func (b *File) Restore(ctx context.Context, db *sqldb.DB, o Options) (epoch int64, err error) {
	err = sqldb.InTx(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
		if err := b.claim(ctx, db, tx); err != nil {
			return err
		}
		if err := b.fill(ctx, db, tx); err != nil {
			return err
		}
		revision, kept, err := b.layout.head(ctx, db, tx)
		if err != nil {
			return err
		}
		if revision != b.Revision || kept != b.Epoch {
			return fmt.Errorf("%w: it is of revision %d and holds %d", errDamaged, b.Revision, revision)
		}
		if epoch = kept; o.KeepEpoch {
			return nil
		}
		epoch = nextEpoch(kept, o.Now)
		return b.layout.setEpoch(ctx, db, tx, epoch)
	})
	if err != nil {
		return 0, fmt.Errorf("restore: %w", err)
	}
	return epoch, nil
}

// fill inserts every row.
func (b *File) fill(ctx context.Context, db *sqldb.DB, tx *sql.Tx) error {
	var names []string
	for _, u := range b.layout.units {
		names = append(names, u.Name)
	}
	settle, err := db.DeferKeys(ctx, tx, names)
	if err != nil {
		return err
	}
	in := &inserter{ctx: ctx, db: db, tx: tx}
	if err := b.rows(in.table, in.row); err != nil {
		return err
	}
	if err := in.flush(); err != nil {
		return err
	}
	return settle(ctx)
}

// nextEpoch is one that no other restore of the same backup gets: two lines that
// went on from it would take each other's tokens.
func nextEpoch(old int64, now time.Time) int64 { return max(old+1, now.UnixMilli()) }

// claim locks all tables and refuses when one of them holds something.
func (b *File) claim(ctx context.Context, db *sqldb.DB, tx *sql.Tx) error {
	return b.layout.each(func(u Unit, t sqldb.Table) error {
		c, err := db.Contents(ctx, tx, u.Name, t)
		if err != nil {
			return err
		}
		if err := c.Lock(ctx, tx); err != nil {
			return err
		}
		if err := empty(ctx, db, tx, u.Name, t); err != nil {
			return err
		}
		return c.Clear(ctx, tx)
	})
}

// setEpoch gives every unit that keeps the epoch the same one.
func (l *layout) setEpoch(ctx context.Context, db *sqldb.DB, tx *sql.Tx, epoch int64) error {
	for _, u := range l.units {
		if u.EpochTable == "" {
			continue
		}
		_, err := tx.ExecContext(ctx, `UPDATE `+db.Qualified(u.Name, u.EpochTable)+` SET epoch = $1`, epoch) //nolint:gosec // a name of our migrations
		if err != nil {
			return fmt.Errorf("begin epoch of %s: %w", u.Name, err)
		}
	}
	return nil
}

// inserter puts the rows of a file into their tables, several at a time.
type inserter struct {
	ctx context.Context
	db  *sqldb.DB
	tx  *sql.Tx

	into  *sqldb.Contents
	rows  [][]any
	bytes int
}

// batchBytes is roughly how much is held in memory before it is written.
const batchBytes = 1 << 20

func (in *inserter) table(head *tableHead, t sqldb.Table) error {
	if err := in.flush(); err != nil {
		return err
	}
	var err error
	if in.into, err = in.db.Contents(in.ctx, in.tx, head.Unit, t); err != nil {
		return err
	}
	return in.into.SetCounter(in.ctx, in.tx, head.Counter)
}

func (in *inserter) row(values []any) error {
	in.rows = append(in.rows, values)
	for _, v := range values {
		switch v := v.(type) {
		case string:
			in.bytes += len(v)
		case []byte:
			in.bytes += len(v)
		}
	}
	if len(in.rows) < in.into.MaxRows() && in.bytes < batchBytes {
		return nil
	}
	return in.flush()
}

func (in *inserter) flush() error {
	if in.into == nil || len(in.rows) == 0 {
		return nil
	}
	err := in.into.Insert(in.ctx, in.tx, in.rows)
	in.rows, in.bytes = nil, 0
	return err
}
