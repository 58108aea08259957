package accessbindings

import (
	"context"
	"database/sql"
	"runtime"
	"testing"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// loadWorld fills PostgreSQL with a million resources, in organizations of 10 clouds of
// 10 folders of 100, a binding on each, and 100,000 users, each in an organization and
// two groups.
var loadWorld = []string{
	`INSERT INTO access_resources (type, id, parent_type, parent_id, removed)
	SELECT CASE WHEN n % 10000 = 0 THEN 'organization-manager.organization' WHEN n % 1000 = 0 THEN 'resource-manager.cloud'
			WHEN n % 100 = 0 THEN 'resource-manager.folder' ELSE 'kms.key' END,
		'res' || lpad(n::text, 17, '0'),
		CASE WHEN n % 10000 = 0 THEN '' WHEN n % 1000 = 0 THEN 'organization-manager.organization'
			WHEN n % 100 = 0 THEN 'resource-manager.cloud' ELSE 'resource-manager.folder' END,
		CASE WHEN n % 10000 = 0 THEN '' WHEN n % 1000 = 0 THEN 'res' || lpad((n - n % 10000)::text, 17, '0')
			WHEN n % 100 = 0 THEN 'res' || lpad((n - n % 1000)::text, 17, '0') ELSE 'res' || lpad((n - n % 100)::text, 17, '0') END, 0
	FROM generate_series(0, 999999) AS n`,
	`INSERT INTO access_bindings (resource_type, resource_id, role_id, subject_type, subject_id, source_kind, source_id, expires_at, number)
	SELECT type, id, CASE WHEN right(id, 1) < '5' THEN 'viewer' ELSE 'editor' END, 'userAccount',
		'usr' || lpad((hashtext(id)::bigint + 2147483648) % 100000 || '', 17, '0'), 0, '', 0, 1
	FROM access_resources`,
	`INSERT INTO access_subjects (type, id, state) SELECT 'userAccount', 'usr' || lpad(n::text, 17, '0'), 1 FROM generate_series(0, 99999) AS n`,
	`INSERT INTO access_subjects (type, id, state) SELECT 'group', 'grp' || lpad(n::text, 17, '0'), 1 FROM generate_series(0, 99) AS n`,
	`INSERT INTO access_members (container_type, container_id, subject_type, subject_id)
	SELECT 'organization-manager.organization', 'res' || lpad((n % 100 * 10000)::text, 17, '0'), 'userAccount', 'usr' || lpad(n::text, 17, '0')
	FROM generate_series(0, 99999) AS n`,
	`INSERT INTO access_members (container_type, container_id, subject_type, subject_id)
	SELECT 'organization-manager.group', 'grp' || lpad(((n + k) % 100)::text, 17, '0'), 'userAccount', 'usr' || lpad(n::text, 17, '0')
	FROM generate_series(0, 99999) AS n, generate_series(0, 1) AS k`,
	`ANALYZE`,
}

// BenchmarkLoad loads a million bindings from PostgreSQL until the graph could answer,
// and reports what one weighs, with its share of resources, subjects and names.
func BenchmarkLoad(b *testing.B) {
	db := sqldbtest.Open(b, sqldb.PostgreSQL, Name, migrationsOf())
	for _, fill := range loadWorld {
		if err := sqldb.InTx(b.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, fill)
			return err
		}); err != nil {
			b.Fatal(err)
		}
	}
	c := testCatalog(b)
	var before, after runtime.MemStats
	var held struct{ *graph } // one at a time
	for b.Loop() {
		held.graph = nil
		runtime.GC()
		runtime.ReadMemStats(&before)
		var err error
		if held.graph, err = (&store{db: db}).load(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "B/binding")
	runtime.KeepAlive(held)
}
