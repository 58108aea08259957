package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// What a caller is told when the database fails it. Each may pass with time, so
// each is UNAVAILABLE, on which clients try again.
var (
	errUnavailable = apierr.Unavailable(apierr.ReasonUnavailable, "the database cannot be reached, try again")
	errBusy        = apierr.Unavailable(apierr.ReasonUnavailable, "the database did not answer in time, try again")
	errReadOnly    = apierr.Unavailable(apierr.ReasonUnavailable, "the database takes no changes at the moment, try again")
	errFull        = apierr.Unavailable(apierr.ReasonStorageFull, "the database has no room for changes")
	errUnknown     = apierr.Unavailable(apierr.ReasonOutcomeUnknown,
		"the database was lost while it stored the change, which may have been made: send it again with the same idempotency key")
)

// Outward returns what the caller of an RPC is told about err when the database
// failed: a refusal that wraps err. Another error is returned as it is. ctx is
// that of the call: when it has ended, its end is the reason.
func Outward(ctx context.Context, err error) error {
	if _, ours := apierr.As(err); ours {
		return err
	}
	e := refusal(err)
	switch {
	case e == nil:
		return err
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), err)
	default:
		return e.WithCause(err)
	}
}

// Away reports whether a failure is the database's own and would meet any other
// transaction as well: it is away, full, busy, or takes no changes.
func Away(err error) bool { return refusal(err) != nil }

// refusal returns the refusal that stands for a failure of the database, nil for
// other errors.
func refusal(err error) *apierr.Error {
	switch code := state(err); {
	case errors.As(err, new(*unknownError)):
		return errUnknown
	case full[code]:
		return errFull
	case readOnly[code]:
		return errReadOnly
	case lost(err):
		return errUnavailable
	case busy[code] || errors.Is(err, context.DeadlineExceeded):
		return errBusy
	default:
		return nil
	}
}

// States of the two engines by what they mean: SQLSTATE of PostgreSQL, and what
// state makes of the codes of SQLite.
var (
	full     = set("53100 53200 53400 SQLITE_FULL SQLITE_NOMEM")
	readOnly = set(readOnlyTransaction + " SQLITE_READONLY")
	busy     = set("40001 40P01 55P03 57014 58030 SQLITE_BUSY SQLITE_LOCKED SQLITE_IOERR SQLITE_CANTOPEN")
	gone     = set(readOnlyTransaction + " 25P03 53300 57P01 57P02 57P03 57P05") // and all of class 08
)

// readOnlyTransaction is what a server says to a change that is a standby.
const readOnlyTransaction = "25006"

func set(codes string) map[string]bool {
	s := map[string]bool{}
	for code := range strings.FieldsSeq(codes) {
		s[code] = true
	}
	return s
}

// state returns the code of an error of either engine, "" of another error.
func state(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return ""
	}
	switch lite.Code() & 0xff { // the rest is detail
	case sqlite3.SQLITE_FULL:
		return "SQLITE_FULL"
	case sqlite3.SQLITE_NOMEM:
		return "SQLITE_NOMEM"
	case sqlite3.SQLITE_READONLY:
		return "SQLITE_READONLY"
	case sqlite3.SQLITE_BUSY:
		return "SQLITE_BUSY"
	case sqlite3.SQLITE_LOCKED:
		return "SQLITE_LOCKED"
	case sqlite3.SQLITE_IOERR:
		return "SQLITE_IOERR"
	case sqlite3.SQLITE_CANTOPEN:
		return "SQLITE_CANTOPEN"
	}
	return ""
}

// lost reports whether there is no connection to the database, or no longer, or not
// to the one that takes changes. What a transaction did on one that broke before it
// committed is undone.
func lost(err error) bool {
	if code := state(err); gone[code] || strings.HasPrefix(code, "08") {
		return true
	}
	for _, e := range []error{driver.ErrBadConn, sql.ErrConnDone, pgconn.ErrConnClosed, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.As(err, new(*pgconn.ConnectError)) || errors.As(err, new(*net.OpError))
}

// unknownError is a COMMIT that was sent and not answered: the change is made, or
// it is not.
type unknownError struct{ err error }

func (e *unknownError) Error() string { return "commit, with unknown outcome: " + e.err.Error() }
func (e *unknownError) Unwrap() error { return e.err }

// unsure reports whether the outcome of a COMMIT is unknown that ended with err:
// the database did not say that it refused. A server that is told to end (57P01)
// may say so after it has committed; and pgx says "conn closed", safe to retry, of
// a COMMIT that was sent and carried out.
func unsure(err error) bool {
	return lost(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// Unsure reports whether a transaction of InTx ended with an outcome that is unknown: it
// was to be committed, and the database did not answer.
func Unsure(err error) bool { return errors.As(err, new(*unknownError)) }
