package sqldb

import (
	"context"
	"fmt"
)

// settings of PostgreSQL that make an acknowledged commit one that may be lost,
// by what their bad value means.
var settings = []struct{ name, bad, means string }{
	{"synchronous_commit", "off", "a crash of the database server loses changes that were acknowledged: set it to on"},
	{"fsync", "off", "a crash of the machine can destroy the database: set it to on"},
	{"full_page_writes", "off", "a crash of the machine can destroy the database: set it to on"},
}

// Unsafe reports what about the database server may lose changes that were
// acknowledged. Nothing on SQLite, which is opened so that it does not.
func Unsafe(ctx context.Context, db *DB) (warnings []string, err error) {
	if db.engine == SQLite {
		return nil, nil
	}
	for _, s := range settings {
		value, err := setting(ctx, db, s.name)
		if err != nil {
			return nil, err
		}
		if value == s.bad {
			warnings = append(warnings, fmt.Sprintf("%s is %s: %s", s.name, value, s.means))
		}
	}
	commit, err := setting(ctx, db, "synchronous_commit")
	if err != nil {
		return nil, err
	}
	standbys, err := setting(ctx, db, "synchronous_standby_names")
	if err != nil {
		return nil, err
	}
	if standbys != "" && commit == "local" {
		warnings = append(warnings, "synchronous_commit is local: a failover loses changes that were acknowledged: set it to on")
	}
	return warnings, nil
}

func setting(ctx context.Context, q Querier, name string) (value string, err error) {
	if err := q.QueryRowContext(ctx, `SELECT current_setting($1)`, name).Scan(&value); err != nil {
		return "", fmt.Errorf("read setting %s: %w", name, err)
	}
	return value, nil
}

// Unequal reports what makes texts equal that differ in their bytes, or keeps some
// out: names and ids of two resources would become one. schemas are those looked
// at. A database with any of it must not be used.
func Unequal(ctx context.Context, db *DB, schemas ...string) (faults []string, err error) {
	if db.engine == SQLite {
		return unequalSQLite(ctx, db)
	}
	encoding, err := setting(ctx, db, "server_encoding")
	if err != nil {
		return nil, err
	}
	if encoding != "UTF8" {
		faults = append(faults, fmt.Sprintf("the encoding of the database is %s, not UTF8: make a database with ENCODING 'UTF8'", encoding))
	}
	for _, schema := range schemas {
		found, err := texts(ctx, db, `
			SELECT c.relname || '.' || a.attname || ' has the collation ' || l.collname
			FROM pg_attribute a
			JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'i')
			JOIN pg_namespace n ON n.oid = c.relnamespace
			JOIN pg_collation l ON l.oid = a.attcollation
			WHERE n.nspname = $1 AND NOT l.collisdeterministic
			ORDER BY 1`, schema)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			faults = append(faults, fmt.Sprintf("in schema %s, %s, by which different texts are equal: give it COLLATE \"C\"", schema, f))
		}
	}
	return faults, nil
}

// unequalSQLite looks for indexes, those of primary keys included, that do not
// compare by byte.
func unequalSQLite(ctx context.Context, db *DB) ([]string, error) {
	found, err := texts(ctx, db, `
		SELECT DISTINCT m.name || '.' || x.name || ' has the collation ' || x.coll
		FROM sqlite_master m JOIN pragma_index_list(m.name) l JOIN pragma_index_xinfo(l.name) x
		WHERE m.type = 'table' AND x.name IS NOT NULL AND x.coll <> 'BINARY'
		ORDER BY 1`)
	for i := range found {
		found[i] += ", by which different texts are equal"
	}
	return found, err
}

// texts reads the one column of a query.
func texts(ctx context.Context, q Querier, query string, args ...any) (all []string, err error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("read the catalogue of the database: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, fmt.Errorf("read the catalogue of the database: %w", err)
		}
		all = append(all, s)
	}
	return all, rows.Err()
}
