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

// UserByExternalLogin reads the user who signs in by an account of an issuer, in any
// state. Fails: USER_NOT_FOUND.
func (s *Store) UserByExternalLogin(ctx context.Context, q sqldb.Querier, issuer, subject string) (User, error) {
	return scanUser(q.QueryRowContext(ctx, selectUser+`JOIN identity_external_logins l ON l.user_id = u.id WHERE l.issuer = $1 AND l.subject = $2`,
		issuer, subject))
}

// InsertExternalLogin lets a user sign in by an account of an issuer, which nobody does
// yet.
func (s *Store) InsertExternalLogin(ctx context.Context, tx *sql.Tx, issuer, subject, userID string, at time.Time) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_external_logins (issuer, subject, user_id, created_at, last_used_at) VALUES ($1, $2, $3, $4, 0)`,
		issuer, subject, userID, sqldb.Micros(at))
	if err != nil {
		return fmt.Errorf("insert external login: %w", err)
	}
	return nil
}

// ExternalLoginUsed notes that a user signed in by an account of an issuer.
func (s *Store) ExternalLoginUsed(ctx context.Context, tx *sql.Tx, issuer, subject string, at time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE identity_external_logins SET last_used_at = $3 WHERE issuer = $1 AND subject = $2`,
		issuer, subject, sqldb.Micros(at))
	if err != nil {
		return fmt.Errorf("note sign-in: %w", err)
	}
	return nil
}

// DeleteExternalLogin ends that a user may sign in by an account of an issuer.
func (s *Store) DeleteExternalLogin(ctx context.Context, tx *sql.Tx, issuer, subject string) error {
	_, err := tx.ExecContext(ctx, `DELETE FROM identity_external_logins WHERE issuer = $1 AND subject = $2`, issuer, subject)
	if err != nil {
		return fmt.Errorf("delete external login: %w", err)
	}
	return nil
}

// Spend notes that something was used that may be used once. Fails: signin.ErrSpent.
func (s *Store) Spend(ctx context.Context, tx *sql.Tx, hash []byte, until time.Time) error {
	res, err := tx.ExecContext(ctx, `INSERT INTO identity_spent (hash, expires_at) VALUES ($1, $2) ON CONFLICT DO NOTHING`, hash, sqldb.Micros(until))
	if err != nil {
		return fmt.Errorf("spend: %w", err)
	}
	n, err := res.RowsAffected()
	if err == nil && n == 0 {
		err = signin.ErrSpent
	}
	return err
}

// InsertCode adds a code of a session.
func (s *Store) InsertCode(ctx context.Context, tx *sql.Tx, hash []byte, sessionID string, c signin.Code) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_login_codes (hash, session, client_id, redirect, challenge, device, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)`,
		hash, sessionID, c.ClientID, c.Redirect, c.Challenge, c.Device, sqldb.Micros(c.Ends))
	if err != nil {
		return fmt.Errorf("insert code: %w", err)
	}
	return nil
}

// TakeCode removes a code and returns it with its session. Fails: signin.ErrSpent.
func (s *Store) TakeCode(ctx context.Context, tx *sql.Tx, hash []byte) (c signin.Code, sessionID string, err error) {
	var ends int64
	err = tx.QueryRowContext(ctx, `
		DELETE FROM identity_login_codes WHERE hash = $1 RETURNING session, client_id, redirect, challenge, device, expires_at`, hash,
	).Scan(&sessionID, &c.ClientID, &c.Redirect, &c.Challenge, &c.Device, &ends)
	if errors.Is(err, sql.ErrNoRows) {
		return c, "", signin.ErrSpent
	}
	if err != nil {
		return c, "", fmt.Errorf("take code: %w", err)
	}
	c.Ends = sqldb.Time(ends)
	return c, sessionID, nil
}

// DropSignIns removes what sign-ins have left behind that ended before a time.
func (s *Store) DropSignIns(ctx context.Context, tx *sql.Tx, before time.Time) error {
	for _, table := range []string{"identity_spent", "identity_login_codes", "identity_device_logins"} {
		if _, err := tx.ExecContext(ctx, `DELETE FROM `+table+` WHERE expires_at < $1`, sqldb.Micros(before)); err != nil { //nolint:gosec // one of these names
			return fmt.Errorf("drop sign-ins: %w", err)
		}
	}
	return nil
}
