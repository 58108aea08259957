package sqldb_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// behind opens a database through a proxy, with a table of numbers in it.
func behind(t *testing.T, conns int) (*sqldb.DB, *sqldbtest.Proxy) {
	t.Helper()
	p := sqldbtest.NewProxy(t, sqldbtest.URL(t))
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: p.URL, MaxConns: conns})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	exec(t, db, `CREATE TABLE numbers (number TEXT NOT NULL)`)
	return db, p
}

// fill opens as many connections as the pool holds.
func fill(t *testing.T, db *sqldb.DB, conns int) {
	t.Helper()
	for range conns {
		c, err := db.Pool().Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
}

// insert adds a number in a transaction and counts how often it was tried.
func insert(ctx context.Context, db *sqldb.DB, number string) (tries int, err error) {
	err = sqldb.InTx(ctx, db, func(ctx context.Context, tx *sql.Tx) error {
		tries++
		_, err := tx.ExecContext(ctx, `INSERT INTO numbers VALUES ($1)`, number)
		return err
	})
	return tries, err
}

// Connections that ended while nobody looked cost nobody a call.
func TestStaleConnections(t *testing.T) {
	const conns = 8
	here := sqldbtest.URL(t)
	for name, do := range map[string]func(*sqldb.DB) error{
		"row": func(db *sqldb.DB) error {
			var n int
			return db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM numbers WHERE number <> $1`, "x").Scan(&n)
		},
		"rows": func(db *sqldb.DB) error {
			rows, err := db.QueryContext(t.Context(), `SELECT number FROM numbers WHERE number <> $1`, "x")
			if err != nil {
				return err
			}
			defer rows.Close()
			return rows.Err()
		},
		"transaction": func(db *sqldb.DB) error { _, err := insert(t.Context(), db, "1"); return err },
		"snapshot": func(db *sqldb.DB) error {
			return sqldb.Snapshot(t.Context(), db, func(context.Context, *sql.Tx) error { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			db, err := sqldb.Open(t.Context(), sqldb.Config{URL: here, MaxConns: conns})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			exec(t, db, `CREATE TABLE IF NOT EXISTS numbers (number TEXT NOT NULL)`)
			fill(t, db, conns)
			killer, err := sqldb.Open(t.Context(), sqldb.Config{URL: here, MaxConns: 1})
			if err != nil {
				t.Fatal(err)
			}
			defer killer.Close()
			if n := len(strs(t, killer, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`)); n < conns { // others, of the case before, may still be on their way out
				t.Fatalf("%d connections ended, want %d at least", n, conns)
			}
			for range 2 * conns {
				if err := do(db); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// What breaks before COMMIT is done again, and once; what breaks after is not
// repeated, and its caller learns that the outcome is unknown.
func TestCutTransaction(t *testing.T) {
	db, proxy := behind(t, 2)
	for _, tt := range []struct {
		name   string
		where  sqldbtest.Cut
		tries  int
		reason string
	}{
		{"after a statement", sqldbtest.AfterStatement, 2, ""},
		{"before commit", sqldbtest.BeforeCommit, 1, apierr.ReasonOutcomeUnknown},
		{"after commit", sqldbtest.AfterCommit, 1, apierr.ReasonOutcomeUnknown},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done := proxy.Cut(tt.where)
			tries, err := insert(t.Context(), db, tt.name)
			<-done
			err = sqldb.Outward(t.Context(), err)
			if tries != tt.tries || apierr.ReasonOf(err) != tt.reason {
				t.Errorf("%d tries, %v; want %d, %q", tries, err, tt.tries, tt.reason)
			}
			if err != nil && apierr.CodeOf(err) != codes.Unavailable {
				t.Errorf("leaves as %v, want Unavailable", apierr.CodeOf(err))
			}
		})
	}
	want := []string{"after a statement", "after commit"}
	if got := strs(t, db, `SELECT number FROM numbers ORDER BY number`); !slices.Equal(got, want) {
		t.Errorf("stored %q, want %q", got, want)
	}
}

// A server that is away is waited for a little, and no longer than the caller does.
func TestServerAway(t *testing.T) {
	server := sqldbtest.NewServer(t)
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: server.URL, MaxConns: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec(t, db, `CREATE TABLE numbers (number TEXT NOT NULL)`)
	server.Stop(sqldbtest.Fast)
	began := time.Now()
	_, err = insert(t.Context(), db, "away")
	err = sqldb.Outward(t.Context(), err)
	if took := time.Since(began); apierr.CodeOf(err) != codes.Unavailable || took < time.Second || took > 5*time.Second {
		t.Errorf("%v after %v, want Unavailable after 2 s", err, took)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	began = time.Now()
	_, err = insert(ctx, db, "away")
	err = sqldb.Outward(ctx, err)
	if took := time.Since(began); apierr.CodeOf(err) != codes.DeadlineExceeded || took > time.Second {
		t.Errorf("%v after %v, want the caller's deadline", err, took)
	}
	server.Start()
	if _, err := insert(t.Context(), db, "back"); err != nil {
		t.Error(err)
	}
	server.Kill()
	back := make(chan error)
	go func() { _, err := insert(t.Context(), db, "again"); back <- err }()
	server.Start()
	if err := <-back; err != nil {
		t.Errorf("a start while a call waits: %v", err)
	}
	if got := strs(t, db, `SELECT number FROM numbers ORDER BY number`); !slices.Equal(got, []string{"again", "back"}) {
		t.Errorf("stored %q, want again and back", got)
	}
}

// Of half-open connections that wait in the pool one costs a call its deadline, and not each.
func TestDropIdle(t *testing.T) {
	const conns = 8
	db, proxy := behind(t, conns)
	fill(t, db, conns)
	within := func(d time.Duration, number string) error {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		_, err := insert(ctx, db, number)
		return err
	}
	proxy.Swallow()
	if err := within(200*time.Millisecond, "swallowed"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("by a half-open connection: %v, want the deadline", err)
	}
	proxy.Heal(false)
	db.DropIdle()
	if err := within(10*time.Second, "after"); err != nil {
		t.Fatalf("after the idle connections were dropped: %v", err)
	}
	fill(t, db, conns)
	if n := db.Pool().Stats().Idle; n != conns {
		t.Errorf("%d connections are kept since, want %d as before", n, conns)
	}
}

// Nobody waits for ever behind a half-open connection, deadline or not: neither for one
// that the pool began to make meanwhile, nor with one that waited there.
func TestHalfOpenConnectionsAreGivenUp(t *testing.T) {
	db, proxy := behind(t, 1)
	throughBy := func(what, number string, begin func()) {
		t.Helper()
		done := make(chan error, 1)
		go func() { _, err := insert(t.Context(), db, number); done <- err }()
		begin()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s: still waiting after 30 s", what)
		}
	}
	only, err := db.Pool().Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	throughBy("a connection that is made for who waits", "1", func() {
		for db.Pool().Stats().WaitCount == 0 {
			time.Sleep(time.Millisecond) // until it waits for the only one
		}
		proxy.Swallow()
		_ = only.Raw(func(any) error { return driver.ErrBadConn }) // it answers what it is given
		time.Sleep(100 * time.Millisecond)                         // the pool makes another one
		proxy.Heal(false)
	})
	time.Sleep(1100 * time.Millisecond) // what waited for less the driver takes for good
	proxy.Swallow()
	proxy.Heal(false)
	throughBy("a connection that waited", "2", func() {})
}

// Whoever listens by a connection that is half-open finds out, however little is said, and
// a connection that is only quiet stays.
func TestListenByHalfOpenConnection(t *testing.T) {
	db, proxy := behind(t, 2)
	begun, heard, ended := make(chan struct{}), make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- sqldb.Listen(t.Context(), db, []string{"news"}, func(_, payload string) {
			if payload == "" {
				close(begun)
			} else {
				heard <- payload
			}
		})
	}()
	<-begun
	select {
	case err := <-ended:
		t.Fatalf("ended while it was quiet: %v", err)
	case <-time.After(7 * time.Second): // it has been asked meanwhile
	}
	exec(t, db, `SELECT pg_notify('news', 'said')`)
	select {
	case <-heard:
	case <-time.After(10 * time.Second):
		t.Fatal("nothing is heard after it was quiet")
	}
	proxy.Swallow()
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		t.Error("listens for 30 s by a connection that is half-open")
	}
}

// Connections to a server that has stopped to take changes do not stay: calls go
// on as soon as a new connection finds one that does.
func TestReadOnlyServer(t *testing.T) {
	const conns = 4
	here := sqldbtest.URL(t)
	u, err := url.Parse(here)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := sqldb.Open(t.Context(), sqldb.Config{URL: here, MaxConns: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	alter := func(what string) {
		t.Helper()
		if _, err := admin.Pool().ExecContext(t.Context(), `ALTER DATABASE "`+strings.TrimPrefix(u.Path, "/")+`" `+what); err != nil {
			t.Fatal(err)
		}
	}
	exec(t, admin, `CREATE TABLE numbers (number TEXT NOT NULL)`)
	alter(`SET default_transaction_read_only = on`)
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: here, MaxConns: conns})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := insert(t.Context(), db, "1"); apierr.CodeOf(sqldb.Outward(t.Context(), err)) != codes.Unavailable {
		t.Errorf("on a server that takes no changes: %v, want Unavailable", err)
	}
	fill(t, db, conns)
	alter(`RESET default_transaction_read_only`)
	if tries, err := insert(t.Context(), db, "2"); tries < 2 || err != nil {
		t.Errorf("%d tries, %v; want another connection to be tried", tries, err)
	}
}

func TestOutward(t *testing.T) {
	pg := func(code string) error { return &pgconn.PgError{Code: code, Message: "secret"} }
	for _, tt := range []struct {
		name   string
		err    error
		code   codes.Code
		reason string
	}{
		{"admin shutdown", pg("57P01"), codes.Unavailable, apierr.ReasonUnavailable},
		{"crash shutdown", pg("57P02"), codes.Unavailable, apierr.ReasonUnavailable},
		{"cannot connect now", pg("57P03"), codes.Unavailable, apierr.ReasonUnavailable},
		{"connection failure", pg("08006"), codes.Unavailable, apierr.ReasonUnavailable},
		{"too many connections", pg("53300"), codes.Unavailable, apierr.ReasonUnavailable},
		{"endless conflict", pg("40P01"), codes.Unavailable, apierr.ReasonUnavailable},
		{"statement timeout", pg("57014"), codes.Unavailable, apierr.ReasonUnavailable},
		{"read only", pg("25006"), codes.Unavailable, apierr.ReasonUnavailable},
		{"disk full", pg("53100"), codes.Unavailable, apierr.ReasonStorageFull},
		{"bad connection", driver.ErrBadConn, codes.Unavailable, apierr.ReasonUnavailable},
		{"closed connection", io.ErrUnexpectedEOF, codes.Unavailable, apierr.ReasonUnavailable},
		{"reset connection", syscall.ECONNRESET, codes.Unavailable, apierr.ReasonUnavailable},
		{"our own deadline", context.DeadlineExceeded, codes.Unavailable, apierr.ReasonUnavailable},
		{"a refusal", apierr.NotFound("X", "x").WithCause(io.EOF), codes.NotFound, "X"},
		{"syntax error", pg("42601"), codes.Internal, apierr.ReasonInternal},
		{"another error", errors.New("secret"), codes.Internal, apierr.ReasonInternal},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := sqldb.Outward(t.Context(), fmt.Errorf("insert: %w", tt.err))
			if apierr.CodeOf(err) != tt.code || apierr.ReasonOf(err) != tt.reason {
				t.Errorf("%v %s, want %v %s", apierr.CodeOf(err), apierr.ReasonOf(err), tt.code, tt.reason)
			}
			if !errors.Is(err, tt.err) {
				t.Error("the cause is not for the log")
			}
			if text := apierr.Edge(err, "").Proto().String(); strings.Contains(text, "secret") {
				t.Errorf("internal text leaves: %s", text)
			}
		})
	}
	if sqldb.Outward(t.Context(), nil) != nil {
		t.Error("made an error of success")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if code := apierr.CodeOf(sqldb.Outward(ended, pg("57014"))); code != codes.Canceled {
		t.Errorf("after the caller's end: %v, want Canceled", code)
	}
}

// A SQLite file that has no room left, or cannot be written, refuses a change
// whole, says so, and goes on when it can.
func TestNoRoom(t *testing.T) {
	db, err := sqldb.Open(t.Context(), sqldb.Config{URL: filepath.Join(t.TempDir(), "x.db"), NoSync: true})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec(t, db, `CREATE TABLE numbers (number TEXT NOT NULL)`)
	pages := strs(t, db, `PRAGMA page_count`)[0]
	pragma := func(text string) {
		t.Helper()
		if _, err := db.Pool().ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	write := func() error {
		return sqldb.Outward(t.Context(), sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
			if _, err := tx.ExecContext(ctx, `INSERT INTO numbers VALUES ('small')`); err != nil {
				return err
			}
			_, err := tx.ExecContext(ctx, `INSERT INTO numbers VALUES ($1)`, strings.Repeat("x", 1<<20))
			return err
		}))
	}
	for _, tt := range []struct{ break_, mend, reason string }{
		{`PRAGMA max_page_count = ` + pages, `PRAGMA max_page_count = 1000000`, apierr.ReasonStorageFull},
		{`PRAGMA query_only = 1`, `PRAGMA query_only = 0`, apierr.ReasonUnavailable},
	} {
		pragma(tt.break_)
		if err := write(); apierr.CodeOf(err) != codes.Unavailable || apierr.ReasonOf(err) != tt.reason {
			t.Errorf("%s: %v, want Unavailable %s", tt.break_, err, tt.reason)
		}
		if got := strs(t, db, `SELECT number FROM numbers`); len(got) != 0 {
			t.Errorf("%s: %d rows are there", tt.break_, len(got))
		}
		pragma(tt.mend)
	}
	if err := write(); err != nil {
		t.Errorf("with room: %v", err)
	}
}
