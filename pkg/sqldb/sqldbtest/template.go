package sqldbtest

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// server is a PostgreSQL server on which databases can be made.
type server struct {
	url  *url.URL
	pool *pgxpool.Pool
	keep io.Closer // the server ends when this is closed

	mu        sync.Mutex
	templates map[string]string // unit and series -> database
}

// names makes database names differ, also between processes on one server.
var (
	process = fmt.Sprintf("bindery_%d_%d", os.Getpid(), time.Now().UnixNano()%1e9)
	count   atomic.Int64
)

func newServer(u string, keep io.Closer) (*server, error) {
	parsed, err := url.Parse(u)
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.New(context.Background(), u)
	if err != nil {
		return nil, err
	}
	if err := pool.Ping(context.Background()); err != nil {
		return nil, err
	}
	return &server{url: parsed, pool: pool, keep: keep, templates: map[string]string{}}, nil
}

// require returns the server, or skips the test; that is a failure when the
// environment asks for PostgreSQL.
func require(tb testing.TB) *server {
	tb.Helper()
	s, err := start()
	if err == nil {
		return s
	}
	if os.Getenv("BINDERY_REQUIRE_DB") == "1" || os.Getenv("BINDERY_TEST_POSTGRES_URL") != "" {
		tb.Fatalf("PostgreSQL is required (BINDERY_REQUIRE_DB=1 or BINDERY_TEST_POSTGRES_URL): %v", err)
	}
	tb.Skipf("SKIPPED, NOT PASSED: this test needs PostgreSQL: %v", err)
	return nil
}

// clone returns the URL of a fresh database at the last version of series.
func clone(tb testing.TB, unit string, series []sqldb.Migrations) string {
	tb.Helper()
	s := require(tb)
	template, err := s.template(unit, series)
	if err != nil {
		tb.Fatalf("make template database: %v", err)
	}
	return s.create(tb, template)
}

// template migrates a database once per process, to be cloned.
func (s *server) template(unit string, series []sqldb.Migrations) (string, error) {
	key := unit
	for _, m := range series {
		key += fmt.Sprintf("/%s:%v", m.Name, m.FS)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := s.templates[key]; name != "" {
		return name, nil
	}
	ctx := context.Background()
	name := fmt.Sprintf("%s_t%d", process, count.Add(1))
	if err := s.exec(ctx, `CREATE DATABASE %s`, name); err != nil {
		return "", err
	}
	db, err := sqldb.Open(ctx, sqldb.Config{URL: s.at(name), Schema: unit})
	if err != nil {
		return "", err
	}
	if err := sqldb.Migrate(ctx, db, series...); err != nil {
		return "", err
	}
	if err := db.Close(); err != nil {
		return "", err
	}
	s.templates[key] = name
	return name, nil
}

// create makes a database from a template and drops it with the test.
func (s *server) create(tb testing.TB, template string) string {
	tb.Helper()
	name := fmt.Sprintf("%s_%d", process, count.Add(1))
	s.mu.Lock() // a template must not be in use by another clone
	err := s.exec(context.Background(), `CREATE DATABASE %s TEMPLATE %s`, name, template)
	s.mu.Unlock()
	if err != nil {
		tb.Fatalf("create database: %v", err)
	}
	tb.Cleanup(func() {
		drop := func() error { return s.exec(context.Background(), `DROP DATABASE IF EXISTS %s WITH (FORCE)`, name) }
		if s.keep != nil { // it goes with the server at the latest: nobody waits for it
			go drop() //nolint:errcheck // as above
			return
		}
		if err := drop(); err != nil {
			tb.Errorf("drop database: %v", err)
		}
	})
	return s.at(name)
}

// exec runs a statement whose placeholders are names.
func (s *server) exec(ctx context.Context, statement string, names ...string) error {
	quoted := make([]any, len(names))
	for i, n := range names {
		quoted[i] = pgx.Identifier{n}.Sanitize()
	}
	_, err := s.pool.Exec(ctx, fmt.Sprintf(statement, quoted...))
	return err
}

// at returns the URL of a database of the server.
func (s *server) at(database string) string {
	u := *s.url
	u.Path = "/" + database
	return u.String()
}
