package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// SessionRevoked is the state of a session that was ended and of which the permission
// checker may not know yet.
const SessionRevoked State = "REVOKED"

// Session is a login session: what its refresh tokens stand for.
type Session struct {
	ID         string        // of the refresh token, whatever its text is just now
	Key        authn.TokenID // in the IAM tokens of the session
	UserID     string
	ClientID   string
	Instance   string // client_instance_info
	State      State  // Active or SessionRevoked
	CreatedAt  time.Time
	ExpiresAt  time.Time
	LastUsedAt time.Time
	Uses       int64 // refresh tokens spent
}

// live reports whether the session can be used at a time.
func (s Session) live(now time.Time) bool { return s.State == Active && s.ExpiresAt.After(now) }

func (s Session) position() page.Position {
	return page.Position{Time: sqldb.Micros(s.CreatedAt), ID: s.ID}
}

// InsertSession adds a session with its first refresh token.
func (s *Store) InsertSession(ctx context.Context, tx *sql.Tx, n Session, hash []byte) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_sessions
			(id, session_id, user_id, client_id, client_instance_info, state, created_at, expires_at, last_used_at, uses)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
		n.ID, n.Key[:], n.UserID, n.ClientID, n.Instance, string(n.State),
		sqldb.Micros(n.CreatedAt), sqldb.Micros(n.ExpiresAt), sqldb.Micros(n.LastUsedAt), n.Uses)
	if err != nil {
		return fmt.Errorf("insert session: %w", err)
	}
	return s.insertRefreshToken(ctx, tx, n.ID, hash)
}

func (s *Store) insertRefreshToken(ctx context.Context, tx *sql.Tx, sessionID string, hash []byte) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_refresh_tokens (hash, session, used) VALUES ($1, $2, $3)`, hash, sessionID, false)
	if err != nil {
		return fmt.Errorf("insert refresh token: %w", err)
	}
	return nil
}

// SpendRefreshToken takes another refresh token for one, which is kept as used.
func (s *Store) SpendRefreshToken(ctx context.Context, tx *sql.Tx, n Session, old, next []byte) error {
	if _, err := tx.ExecContext(ctx, `UPDATE identity_refresh_tokens SET used = $2 WHERE hash = $1`, old, true); err != nil {
		return fmt.Errorf("spend refresh token: %w", err)
	}
	_, err := tx.ExecContext(ctx, `
		UPDATE identity_sessions SET last_used_at = $2, uses = $3 WHERE id = $1`, n.ID, sqldb.Micros(n.LastUsedAt), n.Uses)
	if err != nil {
		return fmt.Errorf("spend refresh token: %w", err)
	}
	return s.insertRefreshToken(ctx, tx, n.ID, next)
}

// RefreshTokenUsed reports whether a refresh token of a session was used. Fails:
// REFRESH_TOKEN_NOT_FOUND for one that never was one.
func (s *Store) RefreshTokenUsed(ctx context.Context, q sqldb.Querier, sessionID string, hash []byte) (used bool, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT used FROM identity_refresh_tokens WHERE hash = $1 AND session = $2`, hash, sessionID).Scan(&used)
	if errors.Is(err, sql.ErrNoRows) {
		return false, errRefreshTokenNotFound
	}
	if err != nil {
		return false, fmt.Errorf("read refresh token: %w", err)
	}
	return used, nil
}

const selectSession = `
	SELECT id, session_id, user_id, client_id, client_instance_info, state, created_at, expires_at, last_used_at, uses FROM identity_sessions `

// Session reads a session by the id of its refresh token, in any state. Fails:
// REFRESH_TOKEN_NOT_FOUND.
func (s *Store) Session(ctx context.Context, q sqldb.Querier, sessionID string) (Session, error) {
	return s.session(ctx, q, sessionID, "")
}

// LockSession is Session that keeps other transactions from changing it until this
// one ends.
func (s *Store) LockSession(ctx context.Context, tx *sql.Tx, sessionID string) (Session, error) {
	return s.session(ctx, tx, sessionID, s.db.ForUpdate())
}

func (s *Store) session(ctx context.Context, q sqldb.Querier, sessionID, suffix string) (Session, error) {
	n, err := scanSession(q.QueryRowContext(ctx, selectSession+`WHERE id = $1`+suffix, sessionID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, errRefreshTokenNotFound
	}
	if err != nil {
		return Session{}, fmt.Errorf("read session: %w", err)
	}
	return n, nil
}

// SessionQuery picks sessions of one user; an empty text is not looked at.
type SessionQuery struct {
	UserID   string
	ClientID string
	Instance string
	LiveAt   time.Time // only those that can be used then; zero for all
}

// Sessions reads at most limit sessions that follow after, oldest first: by
// created_at, then id.
func (s *Store) Sessions(ctx context.Context, q sqldb.Querier, query SessionQuery, after page.Position, limit int) (all []Session, err error) {
	text := selectSession + `WHERE user_id = $1 AND (created_at, id) > ($2, $3)`
	args := []any{query.UserID, after.Time, after.ID, limit}
	for _, part := range []struct{ column, value string }{{"client_id", query.ClientID}, {"client_instance_info", query.Instance}} {
		if part.value != "" {
			args = append(args, part.value)
			text += fmt.Sprintf(" AND %s = $%d", part.column, len(args))
		}
	}
	if !query.LiveAt.IsZero() {
		args = append(args, string(Active), sqldb.Micros(query.LiveAt))
		text += fmt.Sprintf(" AND state = $%d AND expires_at > $%d", len(args)-1, len(args))
	}
	rows, err := q.QueryContext(ctx, text+` ORDER BY created_at, id LIMIT $4`, args...)
	if err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		n, err := scanSession(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list sessions: %w", err)
		}
		all = append(all, n)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list sessions: %w", err)
	}
	return all, nil
}

// RevokeSession makes a session useless.
func (s *Store) RevokeSession(ctx context.Context, tx *sql.Tx, sessionID string) error {
	_, err := tx.ExecContext(ctx, `UPDATE identity_sessions SET state = $2 WHERE id = $1`, sessionID, string(SessionRevoked))
	if err != nil {
		return fmt.Errorf("revoke session: %w", err)
	}
	return nil
}

// DeleteSession removes a session with its refresh tokens.
func (s *Store) DeleteSession(ctx context.Context, tx *sql.Tx, sessionID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM identity_sessions WHERE id = $1`, sessionID); err != nil {
		return fmt.Errorf("delete session: %w", err)
	}
	return nil
}

// DropSessions removes the sessions that ended by themselves before a time.
func (s *Store) DropSessions(ctx context.Context, tx *sql.Tx, before time.Time) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM identity_sessions WHERE expires_at < $1`, sqldb.Micros(before)); err != nil {
		return fmt.Errorf("drop sessions: %w", err)
	}
	return nil
}

func scanSession(scan func(...any) error) (Session, error) {
	var n Session
	var key []byte
	var created, expires, used int64
	if err := scan(&n.ID, &key, &n.UserID, &n.ClientID, &n.Instance, &n.State, &created, &expires, &used, &n.Uses); err != nil {
		return Session{}, err
	}
	if len(key) != len(n.Key) {
		return Session{}, fmt.Errorf("session %s has an id of %d bytes", n.ID, len(key))
	}
	n.Key = authn.TokenID(key)
	n.CreatedAt, n.ExpiresAt, n.LastUsedAt = sqldb.Time(created), sqldb.Time(expires), sqldb.Time(used)
	return n, nil
}
