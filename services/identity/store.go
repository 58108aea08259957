package identity

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables of users, their credentials and signing keys.
func Migrations() sqldb.Migrations {
	return sqldb.Migrations{Name: Name, Unit: Name, FS: files}
}

// State is where a user stands.
type State string

// States. CREATING lasts until the permission checker knows the user; until then
// nobody sees it and it cannot sign in, but its login is taken.
const (
	Creating State = "CREATING"
	Active   State = "ACTIVE"
)

// User is a person known to the installation.
type User struct {
	ID                  string
	Login               string
	Email               string // vouched for by the operator or a provider; "" for none
	State               State
	CreatedAt           time.Time
	LastAuthenticatedAt time.Time // zero when never; exact to a minute
	GivenName           string
	FamilyName          string
	Phone               string
	SuspendedAt         time.Time // zero while the user may act
	SuspendReason       string
	Deleting            bool   // once the deletion was asked for
	FederationID        string // "" for a user of the platform; Login is the name id of another one
}

// exists reports whether anybody sees the user.
func (u User) exists() bool { return u.State == Active && !u.Deleting }

// mayAct reports whether the user may sign in.
func (u User) mayAct() bool { return u.exists() && u.SuspendedAt.IsZero() }

// fullName is the name that people read.
func (u User) fullName() string { return strings.TrimSpace(u.GivenName + " " + u.FamilyName) }

// Store is the users and their credentials.
type Store struct{ db *sqldb.DB }

// fold is how logins are compared.
func fold(s string) string { return strings.ToLower(s) }

// emailKey is how addresses are compared. Who has none has the id, which is no address
// and unique, too.
func (u User) emailKey() string {
	if u.Email == "" {
		return u.ID
	}
	return email.Fold(u.Email)
}

// InsertUser adds a user with its first credential. Fails: LOGIN_TAKEN, also when
// both are; EMAIL_TAKEN.
func (s *Store) InsertUser(ctx context.Context, tx *sql.Tx, u User, hash []byte) error {
	if err := s.insertUser(ctx, tx, u); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_oauth_tokens (hash, user_id, created_at) VALUES ($1, $2, $3)`,
		hash, u.ID, sqldb.Micros(u.CreatedAt))
	if err != nil {
		return fmt.Errorf("insert OAuth token: %w", err)
	}
	return nil
}

// insertUser adds a user. Fails as InsertUser does.
func (s *Store) insertUser(ctx context.Context, tx *sql.Tx, u User) error {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO identity_users
			(id, login, login_folded, email, email_folded, state, created_at, last_authenticated_at, given_name, family_name, phone)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING`,
		u.ID, u.Login, fold(u.Login), u.Email, u.emailKey(), string(u.State), sqldb.Micros(u.CreatedAt), sqldb.Micros(u.LastAuthenticatedAt),
		u.GivenName, u.FamilyName, u.Phone)
	if err != nil {
		return fmt.Errorf("insert user: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return fmt.Errorf("insert user: %w", err)
	} else if n == 0 {
		return s.taken(ctx, tx, u)
	}
	return nil
}

// taken says what an insert that did nothing met.
func (s *Store) taken(ctx context.Context, tx *sql.Tx, u User) error {
	_, err := s.UserByLogin(ctx, tx, u.Login)
	switch {
	case err == nil:
		return errLoginTaken
	case errors.Is(err, errUserNotFound):
		return errEmailTaken
	default:
		return err
	}
}

// Activate makes a user active; one that is not there stays so.
func (s *Store) Activate(ctx context.Context, tx *sql.Tx, userID string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE identity_users SET state = $2 WHERE id = $1`, userID, string(Active)); err != nil {
		return fmt.Errorf("activate user: %w", err)
	}
	return nil
}

// Withdraw removes a user that is still being created, and reports whether it did.
func (s *Store) Withdraw(ctx context.Context, tx *sql.Tx, userID string) (bool, error) {
	res, err := tx.ExecContext(ctx, `DELETE FROM identity_users WHERE id = $1 AND state = $2`, userID, string(Creating))
	if err != nil {
		return false, fmt.Errorf("withdraw user: %w", err)
	}
	n, err := res.RowsAffected()
	if err != nil {
		return false, fmt.Errorf("withdraw user: %w", err)
	}
	return n > 0, nil
}

// Authenticated notes that a user proved itself at that time.
func (s *Store) Authenticated(ctx context.Context, tx *sql.Tx, userID string, at time.Time) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE identity_users SET last_authenticated_at = $2 WHERE id = $1 AND last_authenticated_at < $2`, userID, sqldb.Micros(at))
	if err != nil {
		return fmt.Errorf("note authentication: %w", err)
	}
	return nil
}

const selectUser = `
	SELECT u.id, u.login, u.email, u.state, u.created_at, u.last_authenticated_at, u.given_name, u.family_name, u.phone, u.suspended_at,
		u.suspend_reason, u.deleting, u.federation_id
	FROM identity_users u `

// User reads a user by id, in any state. Fails: USER_NOT_FOUND.
func (s *Store) User(ctx context.Context, q sqldb.Querier, userID string) (User, error) {
	return scanUser(q.QueryRowContext(ctx, selectUser+`WHERE u.id = $1`, userID))
}

// UserByLogin reads a user of the platform by login, whatever its case. Fails:
// USER_NOT_FOUND.
func (s *Store) UserByLogin(ctx context.Context, q sqldb.Querier, login string) (User, error) {
	return scanUser(q.QueryRowContext(ctx, selectUser+`WHERE u.login_folded = $1 AND u.federation_id = ''`, fold(login)))
}

// UserByToken reads the user of an OAuth token by its hash. Fails: USER_NOT_FOUND.
func (s *Store) UserByToken(ctx context.Context, q sqldb.Querier, hash []byte) (User, error) {
	return scanUser(q.QueryRowContext(ctx, selectUser+`JOIN identity_oauth_tokens t ON t.user_id = u.id WHERE t.hash = $1`, hash))
}

func scanUser(row row) (User, error) { return scanUserAnd(row) }

// scanUserAnd reads a user, and what stands after it in the row.
func scanUserAnd(row row, more ...any) (User, error) {
	var u User
	var created, authenticated, suspended, deleting int64
	err := row.Scan(append([]any{
		&u.ID, &u.Login, &u.Email, &u.State, &created, &authenticated, &u.GivenName, &u.FamilyName, &u.Phone, &suspended,
		&u.SuspendReason, &deleting, &u.FederationID,
	}, more...)...)
	if errors.Is(err, sql.ErrNoRows) {
		return User{}, errUserNotFound
	}
	if err != nil {
		return User{}, fmt.Errorf("read user: %w", err)
	}
	u.CreatedAt, u.LastAuthenticatedAt, u.SuspendedAt, u.Deleting = sqldb.Time(created), sqldb.Time(authenticated), sqldb.Time(suspended), deleting != 0
	return u, nil
}
