// Package secret keeps what must not be known, in two ways.
//
// Get keeps random keys of a unit in its own database: made on first use, the same
// for all processes of the unit, never shown. They seal page tokens and the like,
// and are no credentials of anybody.
//
// A Sealer seals what is one (private keys, the secrets of access keys) before it
// goes into a database, by keys in a file beside it.
package secret

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the table <unit>_secrets.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_secrets", Unit: unit, FS: files}
}

// Get returns the key of a unit with the given name, making it with size random
// bytes when there is none. Processes that call at once get the same key. A key
// that exists with another size is an error.
func Get(ctx context.Context, db *sqldb.DB, unit, name string, size int) ([]byte, error) {
	key, err := read(ctx, db, unit, name)
	if errors.Is(err, sql.ErrNoRows) {
		key, err = create(ctx, db, unit, name, size)
	}
	if err != nil {
		return nil, fmt.Errorf("get secret %s of %s: %w", name, unit, err)
	}
	if len(key) != size {
		return nil, fmt.Errorf("get secret %s of %s: it has %d bytes, not %d", name, unit, len(key), size)
	}
	return key, nil
}

func create(ctx context.Context, db *sqldb.DB, unit, name string, size int) (key []byte, err error) {
	fresh := make([]byte, size)
	_, _ = rand.Read(fresh) // never fails: the runtime ends the process instead
	err = sqldb.InTx(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, forUnit(unit, `
			INSERT INTO {{unit}}_secrets (name, value, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING`),
			name, fresh, sqldb.Micros(time.Now()))
		if err != nil {
			return err
		}
		key, err = read(ctx, tx, unit, name)
		return err
	})
	return key, err
}

func read(ctx context.Context, q sqldb.Querier, unit, name string) (key []byte, err error) {
	err = q.QueryRowContext(ctx, forUnit(unit, `SELECT value FROM {{unit}}_secrets WHERE name = $1`), name).Scan(&key)
	return key, err
}

func forUnit(unit, query string) string { return strings.ReplaceAll(query, "{{unit}}", unit) }
