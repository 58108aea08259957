package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // registers the driver "sqlite"
)

// Engine is the kind of a database.
type Engine string

// The two engines.
const (
	SQLite     Engine = "sqlite"
	PostgreSQL Engine = "postgresql"
)

// Config says which database to open.
type Config struct {
	// URL is a URL of PostgreSQL (postgres:// or postgresql://); anything else is
	// the path of a SQLite file, which is made when absent.
	URL string

	// Schema is the schema that holds the tables, on PostgreSQL: the name of the
	// unit. Migrate makes it. Empty means the search path of the server. SQLite
	// has no schemas and ignores it.
	Schema string

	// MaxConns bounds the connections to PostgreSQL, and those that read from
	// SQLite. 0 means 4 per processor, at least 8.
	MaxConns int

	// ReadOnly opens a database that is there, to read from it beside the process
	// that writes: a SQLite file is not locked. Every write fails.
	ReadOnly bool

	// Abandon is how long a client may be silent in a transaction before PostgreSQL ends
	// it, so that what it has locked is free again: of a machine that is lost without a
	// word, whose connection the server takes for good. 0 means for ever.
	Abandon time.Duration

	// NoSync gives up durability for speed, on SQLite. For tests only.
	NoSync bool
}

// DB is an open database. It is safe for concurrent use.
type DB struct {
	engine Engine
	schema string
	write  *sql.DB // on SQLite a single connection
	read   *sql.DB // on PostgreSQL the same as write
	lock   *os.File
	idle   int // connections to PostgreSQL that are kept for the next one
}

// DropIdle closes the connections to PostgreSQL that nobody uses. One of them that did not
// answer in time was half-open, and so may all of those be that are as old.
func (db *DB) DropIdle() {
	if db.engine == PostgreSQL && db.idle > 0 {
		db.write.SetMaxIdleConns(-1)
		db.write.SetMaxIdleConns(db.idle)
	}
}

// Open opens a database and checks that it answers. A SQLite file can be open in
// one process at a time: the second one is refused with a text that says so.
func Open(ctx context.Context, cfg Config) (*DB, error) {
	if cfg.URL == "" {
		return nil, errors.New("open database: no URL")
	}
	if cfg.MaxConns == 0 {
		cfg.MaxConns = max(8, 4*runtime.GOMAXPROCS(0))
	}
	db, err := open(cfg)
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := db.ping(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open database: %w", err), db.Close())
	}
	return db, nil
}

func (db *DB) ping(ctx context.Context) error {
	if err := db.write.PingContext(ctx); err != nil || db.read == db.write {
		return err
	}
	return db.read.PingContext(ctx)
}

func open(cfg Config) (*DB, error) {
	if strings.HasPrefix(cfg.URL, "postgres://") || strings.HasPrefix(cfg.URL, "postgresql://") {
		return openPostgreSQL(cfg)
	}
	if strings.Contains(cfg.URL, "://") || strings.Contains(cfg.URL, "password=") {
		return nil, errNoURL
	}
	return openSQLite(cfg)
}

// errNoURL refuses what would become the name of a SQLite file. It does not show it.
var errNoURL = errors.New("the database is named by a URL that begins with postgres:// or postgresql://, or by the path of a SQLite file")

// What is half-open answers never. The pool makes its connections one after another and
// without a deadline of anybody's, and a loop in the background may wait without one.
const (
	connectTimeout = 10 * time.Second // of each address, where the URL has no connect_timeout
	aliveTimeout   = 5 * time.Second  // of a connection that waited in the pool
)

func openPostgreSQL(cfg Config) (*DB, error) {
	conf, err := pgx.ParseConfig(cfg.URL)
	if err != nil {
		return nil, err
	}
	if conf.ConnectTimeout == 0 {
		conf.ConnectTimeout = connectTimeout
	}
	if cfg.ReadOnly {
		conf.RuntimeParams["default_transaction_read_only"] = "on"
	}
	if cfg.Abandon > 0 {
		conf.RuntimeParams["idle_in_transaction_session_timeout"] = strconv.FormatInt(cfg.Abandon.Milliseconds(), 10)
	}
	if cfg.Schema != "" {
		conf.RuntimeParams["search_path"] = pgx.Identifier{cfg.Schema}.Sanitize()
	}
	pool := sql.OpenDB(commenting{stdlib.GetConnector(*conf)})
	pool.SetMaxOpenConns(cfg.MaxConns)
	pool.SetMaxIdleConns(cfg.MaxConns)
	pool.SetConnMaxIdleTime(5 * time.Minute)
	return &DB{engine: PostgreSQL, schema: cfg.Schema, write: pool, read: pool, idle: cfg.MaxConns}, nil
}

// openSQLite opens the file twice: one connection that begins every transaction
// as a writer (so that none fails half-way for want of the lock) and a pool that
// only reads, which the write-ahead log lets run beside it.
func openSQLite(cfg Config) (*DB, error) {
	path, err := filepath.Abs(cfg.URL)
	if err != nil {
		return nil, err
	}
	if cfg.ReadOnly {
		return readSQLite(path, cfg.MaxConns)
	}
	lock, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	if err := private(path); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	sync := "FULL"
	if cfg.NoSync {
		sync = "OFF"
	}
	common := []string{"busy_timeout(10000)", "foreign_keys(1)", "synchronous(" + sync + ")"}
	write, err := sql.Open("sqlite", dsn(path, "immediate", append(common, "journal_mode(WAL)")))
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	read, err := sql.Open("sqlite", dsn(path, "deferred", append(common, "query_only(1)")))
	if err != nil {
		return nil, errors.Join(err, write.Close(), lock.Close())
	}
	write.SetMaxOpenConns(1)
	write.SetMaxIdleConns(1)
	read.SetMaxOpenConns(cfg.MaxConns)
	read.SetMaxIdleConns(cfg.MaxConns)
	return &DB{engine: SQLite, write: write, read: read, lock: lock}, nil
}

// readSQLite opens a file to read only. The connections may recover the log that a
// killed process left, so they are not opened as SQLite's own mode ro.
func readSQLite(path string, conns int) (*DB, error) {
	if _, err := os.Stat(path); err != nil {
		return nil, err
	}
	pool, err := sql.Open("sqlite", dsn(path, "deferred", []string{"busy_timeout(10000)", "query_only(1)"}))
	if err != nil {
		return nil, err
	}
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(conns)
	return &DB{engine: SQLite, write: pool, read: pool}, nil
}

// private makes the file readable by its owner alone, before anything is in it:
// SQLite gives its side files the same mode.
func private(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the operator names the path
	if err != nil {
		return err
	}
	return f.Close()
}

func dsn(path, txlock string, pragmas []string) string {
	u := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"_txlock": {txlock}, "_pragma": pragmas}.Encode()}
	return u.String()
}

// Close closes all connections, after the running statements have ended.
func (db *DB) Close() error {
	if db.lock == nil { // PostgreSQL, or read only: one pool
		return db.write.Close()
	}
	return errors.Join(db.read.Close(), db.write.Close(), db.lock.Close())
}

// Engine tells the engine. Services do not ask: what differs belongs in here.
func (db *DB) Engine() Engine { return db.engine }

// QueryContext reads rows, outside any transaction. What was committed before
// the call is seen. It is sent again when the connection was lost.
func (db *DB) QueryContext(ctx context.Context, query string, args ...any) (rows *sql.Rows, err error) {
	err = db.again(ctx, func() (bool, error) {
		rows, err = db.read.QueryContext(ctx, query, args...) //nolint:rowserrcheck,sqlclosecheck // the caller's
		return lost(err), err
	})
	return rows, err
}

// QueryRowContext reads one row as QueryContext does.
func (db *DB) QueryRowContext(ctx context.Context, query string, args ...any) (row *sql.Row) {
	_ = db.again(ctx, func() (bool, error) { // the row keeps the error
		row = db.read.QueryRowContext(ctx, query, args...)
		return lost(row.Err()), row.Err()
	})
	return row
}

// Querier reads: a DB, or a transaction. A store method that takes one can be
// called in both.
type Querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// Pool returns the pool that writes, for a library that wants one of its own
// making. Services use InTx.
func (db *DB) Pool() *sql.DB { return db.write }

// ForUpdate is the end of a SELECT that locks its rows until the transaction
// ends: " FOR UPDATE" on PostgreSQL, nothing on SQLite, whose transactions have
// the whole database to themselves.
func (db *DB) ForUpdate() string {
	if db.engine == PostgreSQL {
		return " FOR UPDATE"
	}
	return ""
}

// ForUpdateSkipLocked is ForUpdate, but a row that another transaction has locked is
// not found.
func (db *DB) ForUpdateSkipLocked() string {
	if db.engine == PostgreSQL {
		return " FOR UPDATE SKIP LOCKED"
	}
	return ""
}
