package backup

import (
	"context"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Unit is a unit whose tables a backup holds.
type Unit struct {
	Name       string
	Migrations []sqldb.Migrations

	// EpochTable is the table with the unit's copy of the epoch: one row, column
	// epoch. Empty for a unit without one.
	EpochTable string
	// HeadTable is the table with the revision of the deciding facts: one row,
	// column revision. One unit has it.
	HeadTable string
}

// layout is the tables of all units, as the program knows them.
type layout struct {
	units   []Unit
	tables  map[string][]sqldb.Table  // by unit
	schemas map[string]map[string]int // as in Header
}

func newLayout(ctx context.Context, units []Unit) (*layout, error) {
	l := &layout{units: units, tables: make(map[string][]sqldb.Table), schemas: make(map[string]map[string]int)}
	for _, u := range units {
		var err error
		if l.tables[u.Name], err = sqldb.Layout(ctx, u.Migrations...); err != nil {
			return nil, fmt.Errorf("unit %s: %w", u.Name, err)
		}
		if l.schemas[u.Name], err = sqldb.Versions(u.Migrations...); err != nil {
			return nil, fmt.Errorf("unit %s: %w", u.Name, err)
		}
	}
	return l, nil
}

// table finds a table of a unit.
func (l *layout) table(unit, name string) (sqldb.Table, bool) {
	for _, t := range l.tables[unit] {
		if t.Name == name {
			return t, true
		}
	}
	return sqldb.Table{}, false
}

// count is the number of all tables.
func (l *layout) count() (n int) {
	for _, tables := range l.tables {
		n += len(tables)
	}
	return n
}

// each calls fn for every table, those that others refer to first.
func (l *layout) each(fn func(u Unit, t sqldb.Table) error) error {
	for _, u := range l.units {
		for _, t := range l.tables[u.Name] {
			if err := fn(u, t); err != nil {
				return fmt.Errorf("unit %s: %w", u.Name, err)
			}
		}
	}
	return nil
}

// errEpochs says that the store is a mixture.
var errEpochs = errors.New("the units disagree about the epoch of the store: it was put together from different backups")

// head reads revision and epoch.
func (l *layout) head(ctx context.Context, db *sqldb.DB, q sqldb.Querier) (revision, epoch int64, err error) {
	for _, u := range l.units {
		if u.EpochTable != "" {
			var e int64
			err := q.QueryRowContext(ctx, `SELECT epoch FROM `+db.Qualified(u.Name, u.EpochTable)).Scan(&e)
			if err != nil {
				return 0, 0, fmt.Errorf("read epoch of %s: %w", u.Name, err)
			}
			if epoch != 0 && epoch != e {
				return 0, 0, errEpochs
			}
			epoch = e
		}
		if u.HeadTable != "" {
			err := q.QueryRowContext(ctx, `SELECT revision FROM `+db.Qualified(u.Name, u.HeadTable)).Scan(&revision)
			if err != nil {
				return 0, 0, fmt.Errorf("read revision: %w", err)
			}
		}
	}
	return revision, epoch, nil
}
