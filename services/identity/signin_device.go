package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/identity/signin"
)

// waiting is a program that waits for a person, as it is stored.
type waiting struct {
	signin.Device
	hash    []byte
	session string // of who said yes; "" before
	denied  bool
	asked   time.Time // zero before
}

// Await notes a program that waits for a person.
func (s *signIns) Await(ctx context.Context, hash []byte, d signin.Device) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error { return s.store.InsertWaiting(ctx, tx, hash, d) })
}

// Waiting reads a program that waits, by the code that a person typed.
func (s *signIns) Waiting(ctx context.Context, userCode string) (d signin.Device, err error) {
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		w, err := s.store.LockWaiting(ctx, tx, "user_code", userCode)
		d = w.Device
		return s.unanswered(w, err)
	})
	return d, err
}

// unanswered refuses a program about which nobody can be asked any more.
func (s *signIns) unanswered(w waiting, err error) error {
	if err == nil && (!w.Ends.After(s.now()) || w.session != "" || w.denied) {
		return signin.ErrNoDevice
	}
	return err
}

// Answer says whether a program may act as the user of a live session.
func (s *signIns) Answer(ctx context.Context, text, userCode string, yes bool) error {
	n, _, err := s.provenSession(ctx, text)
	if err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		w, err := s.store.LockWaiting(ctx, tx, "user_code", userCode)
		if err := s.unanswered(w, err); err != nil {
			return err
		}
		w.denied = !yes
		if yes {
			w.session = n.ID
		}
		return s.store.UpdateWaiting(ctx, tx, w)
	})
}

// Outcome begins the session of a program whose person said yes, once.
func (s *signIns) Outcome(ctx context.Context, hash []byte, wait time.Duration) (signin.Grant, error) {
	var w waiting
	var outcome error // kept apart, since the transaction is not taken back by it
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if w, err = s.store.LockWaiting(ctx, tx, "hash", hash); err != nil {
			return err
		}
		now := s.now()
		switch {
		case !w.Ends.After(now):
			outcome = signin.ErrNoDevice
		case now.Sub(w.asked) < wait:
			outcome = signin.ErrTooSoon
		case w.denied:
			outcome = signin.ErrDenied
		case w.session == "":
			outcome = signin.ErrPending
		default:
			outcome = nil
			return s.store.DeleteWaiting(ctx, tx, hash)
		}
		w.asked = now
		return s.store.UpdateWaiting(ctx, tx, w)
	})
	if err = errors.Join(err, outcome); err != nil {
		return signin.Grant{}, err
	}
	g, err := s.programSession(ctx, w.session, signin.Code{ClientID: w.ClientID, Device: w.Name})
	if errors.Is(err, signin.ErrSpent) {
		err = signin.ErrOver
	}
	return g, err
}

// InsertWaiting adds a program that waits. Fails: signin.ErrSpent when its user code is
// taken.
func (s *Store) InsertWaiting(ctx context.Context, tx *sql.Tx, hash []byte, d signin.Device) error {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO identity_device_logins (hash, user_code, client_id, device, session, denied, asked_at, expires_at)
		VALUES ($1, $2, $3, $4, '', 0, 0, $5) ON CONFLICT DO NOTHING`, hash, d.UserCode, d.ClientID, d.Name, sqldb.Micros(d.Ends))
	if err != nil {
		return fmt.Errorf("insert waiting program: %w", err)
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = signin.ErrSpent
	}
	return err
}

// LockWaiting reads a program that waits by hash or user_code, and keeps other
// transactions from changing it. Fails: signin.ErrNoDevice.
func (s *Store) LockWaiting(ctx context.Context, tx *sql.Tx, column string, value any) (w waiting, err error) {
	var denied, asked, ends int64
	err = tx.QueryRowContext(ctx, `
		SELECT hash, user_code, client_id, device, session, denied, asked_at, expires_at FROM identity_device_logins
		WHERE `+column+` = $1`+s.db.ForUpdate(), value,
	).Scan(&w.hash, &w.UserCode, &w.ClientID, &w.Name, &w.session, &denied, &asked, &ends)
	if errors.Is(err, sql.ErrNoRows) {
		return w, signin.ErrNoDevice
	}
	if err != nil {
		return w, fmt.Errorf("read waiting program: %w", err)
	}
	w.denied, w.asked, w.Ends = denied != 0, sqldb.Time(asked), sqldb.Time(ends)
	return w, nil
}

// UpdateWaiting writes what became of a program that waits.
func (s *Store) UpdateWaiting(ctx context.Context, tx *sql.Tx, w waiting) error {
	denied := 0
	if w.denied {
		denied = 1
	}
	_, err := tx.ExecContext(ctx, `UPDATE identity_device_logins SET session = $2, denied = $3, asked_at = $4 WHERE hash = $1`,
		w.hash, w.session, denied, sqldb.Micros(w.asked))
	if err != nil {
		return fmt.Errorf("update waiting program: %w", err)
	}
	return nil
}

// DeleteWaiting removes a program that waits no more.
func (s *Store) DeleteWaiting(ctx context.Context, tx *sql.Tx, hash []byte) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM identity_device_logins WHERE hash = $1`, hash); err != nil {
		return fmt.Errorf("delete waiting program: %w", err)
	}
	return nil
}
