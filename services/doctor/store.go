package doctor

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

const (
	// oldestPostgreSQL is the oldest version that is supported, as the server
	// tells it.
	oldestPostgreSQL = 140000
	// maxSkew is how far apart the clocks of the machine and of its database may
	// be. Ends of bindings and tokens are told apart by seconds.
	maxSkew = 2 * time.Second
)

// engine looks at the database itself.
func (d *doctor) engine(ctx context.Context) {
	if d.db.Engine() == sqldb.SQLite {
		d.check("database", "the SQLite file is whole", func() ([]string, error) { return d.integrity(ctx) })
	} else {
		d.check("database", "PostgreSQL answers, and its version is supported", func() ([]string, error) { return d.version(ctx) })
		d.check("clock", fmt.Sprintf("that of the database is within %v of ours", maxSkew), func() ([]string, error) { return d.skew(ctx) })
		d.check("durability", "what the database acknowledges survives a crash", func() ([]string, error) { return sqldb.Unsafe(ctx, d.db) })
	}
	d.check("collation", "texts are told apart by their bytes", func() ([]string, error) {
		var names []string
		for _, u := range d.Units {
			names = append(names, u.Name)
		}
		return sqldb.Unequal(ctx, d.db, names...)
	})
}

// integrity has SQLite look through its file.
func (d *doctor) integrity(ctx context.Context) ([]string, error) {
	found, err := texts(ctx, d.db, `PRAGMA integrity_check(10)`)
	if err != nil {
		return nil, err
	}
	found = slices.DeleteFunc(found, func(s string) bool { return s == "ok" })
	loose, err := texts(ctx, d.db, `SELECT DISTINCT "table" || ' refers to rows of ' || parent || ' that are not there' FROM pragma_foreign_key_check`)
	found = append(found, loose...)
	for i := range found {
		found[i] = "the SQLite file is damaged, restore a backup: " + found[i]
	}
	return found, err
}

func (d *doctor) version(ctx context.Context) ([]string, error) {
	var number int
	if err := d.db.QueryRowContext(ctx, `SELECT current_setting('server_version_num')::int`).Scan(&number); err != nil {
		return nil, err
	}
	if number < oldestPostgreSQL {
		return []string{fmt.Sprintf("PostgreSQL is of version %d, and %d is the oldest that is supported", number/10000, oldestPostgreSQL/10000)}, nil
	}
	return nil, nil
}

// skew compares the clock of the database with ours, giving it the time that the
// question took.
func (d *doctor) skew(ctx context.Context) ([]string, error) {
	var micros int64
	before := d.Now()
	if err := d.db.QueryRowContext(ctx, `SELECT `+d.db.Clock()).Scan(&micros); err != nil {
		return nil, err
	}
	theirs, after := time.UnixMicro(micros), d.Now()
	switch {
	case theirs.Before(before.Add(-maxSkew)):
		return []string{fmt.Sprintf("the clock of the database is %v behind ours: let both follow a time server", before.Sub(theirs).Round(time.Second))}, nil
	case theirs.After(after.Add(maxSkew)):
		return []string{fmt.Sprintf("the clock of the database is %v ahead of ours: let both follow a time server", theirs.Sub(after).Round(time.Second))}, nil
	}
	return nil, nil
}

// schemas compares versions and reports whether the tables can be read.
func (d *doctor) schemas(ctx context.Context) bool {
	good := true
	d.check("schema", "all schemas are at the version of this program", func() (complaints []string, err error) {
		for _, u := range d.Units {
			known, err := sqldb.Versions(u.Migrations...)
			if err != nil {
				return nil, err
			}
			for _, series := range slices.Sorted(maps.Keys(known)) {
				have, err := sqldb.Version(ctx, d.db, d.db, u.Name, series)
				if err != nil {
					return complaints, err
				}
				switch want := known[series]; {
				case have < want:
					complaints = append(complaints, fmt.Sprintf("%s of %s is at version %d, and this program needs %d: run bindery migrate", series, u.Name, have, want))
				case have > want:
					complaints = append(complaints, fmt.Sprintf("%s of %s is at version %d, and this program knows only %d: use a newer bindery", series, u.Name, have, want))
				}
			}
		}
		good = len(complaints) == 0
		return complaints, nil
	})
	return good
}

// texts reads the one column of a query.
func texts(ctx context.Context, q sqldb.Querier, query string, args ...any) (all []string, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, rows.Err()
}

// few shows some of many.
func few(what string, all []string) []string {
	const shown = 3
	if len(all) == 0 {
		return nil
	}
	more := ""
	if len(all) > shown {
		more = fmt.Sprintf(" and %d more", len(all)-shown)
	}
	return []string{fmt.Sprintf("%s: %s%s", what, strings.Join(all[:min(shown, len(all))], ", "), more)}
}
