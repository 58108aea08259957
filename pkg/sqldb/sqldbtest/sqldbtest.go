// Package sqldbtest gives every test a database of its own, on either engine.
//
// SQLite is a file in the test's folder. PostgreSQL is the server named by
// BINDERY_TEST_POSTGRES_URL, else one that the package starts for the test
// process from the server binaries of the machine (PATH, /usr/lib/postgresql);
// each test gets a database cloned from a migrated template. (On a server that is
// not its own the templates stay behind: bindery_<process>_t<number>.) The
// collation of its own server is not that of bytes where it can do better, so that
// a column which should have said so is found out.
//
// Without PostgreSQL the tests on it are skipped, loudly;
// BINDERY_REQUIRE_DB=1 makes that a failure.
package sqldbtest

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// ForEach runs f on SQLite and on PostgreSQL, in a subtest of each name, with an
// empty database at the last version of series. unit is the schema.
func ForEach(t *testing.T, unit string, series []sqldb.Migrations, f func(t *testing.T, db *sqldb.DB)) {
	t.Helper()
	for _, engine := range []sqldb.Engine{sqldb.SQLite, sqldb.PostgreSQL} {
		t.Run(string(engine), func(t *testing.T) { f(t, Open(t, engine, unit, series)) })
	}
}

// Open returns a database on one engine, migrated, which ends with the test.
func Open(tb testing.TB, engine sqldb.Engine, unit string, series []sqldb.Migrations) *sqldb.DB {
	tb.Helper()
	cfg := sqldb.Config{URL: filepath.Join(tb.TempDir(), "bindery.db"), NoSync: true, MaxConns: 8}
	if engine == sqldb.PostgreSQL {
		cfg = sqldb.Config{URL: clone(tb, unit, series), Schema: unit, MaxConns: 8}
	}
	db, err := sqldb.Open(context.Background(), cfg)
	if err != nil {
		tb.Fatalf("open %s: %v", engine, err)
	}
	tb.Cleanup(func() {
		if err := db.Close(); err != nil {
			tb.Errorf("close %s: %v", engine, err)
		}
	})
	if engine == sqldb.SQLite {
		if err := sqldb.Migrate(context.Background(), db, series...); err != nil {
			tb.Fatalf("migrate %s: %v", engine, err)
		}
	}
	return db
}

// URL returns the URL of an empty PostgreSQL database, dropped with the test. It
// skips the test when there is no PostgreSQL.
func URL(tb testing.TB) string {
	tb.Helper()
	return require(tb).create(tb, "template1")
}
