package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// Types of resources of this unit. A user account stands in no tree: it is the
// resource of the rights that everybody has over themselves.
const (
	typeServiceAccount = "iam.serviceAccount"
	typeUserAccount    = authz.UserAccount
	typeAuthorizedKey  = "iam.authorizedKey"
)

// AuthorizedKey is a key pair of which the private part is its holder's (SK-3).
type AuthorizedKey struct {
	ID          string
	Holder      Holder
	Algorithm   iamv1.Key_Algorithm
	Public      []byte // SubjectPublicKeyInfo, DER
	Description string
	CreatedAt   time.Time
	LastUsedAt  time.Time // zero when never; exact to a minute
}

// Holder is the account that a key proves: one of them is set.
type Holder struct{ AccountID, UserID string }

// holderOf reads the id of an account, whose prefix says of which kind it is.
func holderOf(accountID string) Holder {
	if isUser(accountID) {
		return Holder{UserID: accountID}
	}
	return Holder{AccountID: accountID}
}

// ID is that of the account; iss of the tokens that the key signs.
func (h Holder) ID() string { return h.AccountID + h.UserID }

// subjectType is that of the account.
func (h Holder) subjectType() string {
	if h.UserID != "" {
		return subjectTypeOf(h.UserID)
	}
	return authn.ServiceAccount
}

// resource is where the rights on the key come from (SK-2).
func (h Holder) resource() authz.Resource {
	if h.UserID != "" {
		return authz.Resource{Type: typeUserAccount, ID: h.UserID}
	}
	return authz.Resource{Type: typeServiceAccount, ID: h.AccountID}
}

func (k AuthorizedKey) resource() authz.Resource {
	return authz.Resource{Type: typeAuthorizedKey, ID: k.ID}
}

func (k AuthorizedKey) position() page.Position {
	return page.Position{Time: sqldb.Micros(k.CreatedAt), ID: k.ID}
}

// InsertAuthorizedKey adds a key.
func (s *Store) InsertAuthorizedKey(ctx context.Context, tx *sql.Tx, k AuthorizedKey) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_authorized_keys (id, account_id, user_id, algorithm, public_key, description, created_at, last_used_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		k.ID, nullable(k.Holder.AccountID), nullable(k.Holder.UserID), k.Algorithm.String(), k.Public, k.Description,
		sqldb.Micros(k.CreatedAt), sqldb.Micros(k.LastUsedAt))
	if err != nil {
		return fmt.Errorf("insert authorized key: %w", err)
	}
	return nil
}

// nullable is NULL for an empty text.
func nullable(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

const selectAuthorizedKey = `
	SELECT id, account_id, user_id, algorithm, public_key, description, created_at, last_used_at FROM identity_authorized_keys `

// AuthorizedKey reads a key. Fails: AUTHORIZED_KEY_NOT_FOUND.
func (s *Store) AuthorizedKey(ctx context.Context, q sqldb.Querier, keyID string) (AuthorizedKey, error) {
	return s.authorizedKey(ctx, q, keyID, "")
}

// LockAuthorizedKey is AuthorizedKey that keeps other transactions from changing it
// until this one ends.
func (s *Store) LockAuthorizedKey(ctx context.Context, tx *sql.Tx, keyID string) (AuthorizedKey, error) {
	return s.authorizedKey(ctx, tx, keyID, s.db.ForUpdate())
}

func (s *Store) authorizedKey(ctx context.Context, q sqldb.Querier, keyID, suffix string) (AuthorizedKey, error) {
	k, err := scanAuthorizedKey(q.QueryRowContext(ctx, selectAuthorizedKey+`WHERE id = $1`+suffix, keyID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return AuthorizedKey{}, errAuthorizedKeyNotFound(keyID)
	}
	if err != nil {
		return AuthorizedKey{}, fmt.Errorf("read authorized key: %w", err)
	}
	return k, nil
}

// AuthorizedKeys reads at most limit keys of an account that follow after, oldest
// first: by created_at, then id.
func (s *Store) AuthorizedKeys(ctx context.Context, h Holder, after page.Position, limit int) (all []AuthorizedKey, err error) {
	column := "account_id"
	if h.UserID != "" {
		column = "user_id"
	}
	rows, err := s.db.QueryContext(ctx, selectAuthorizedKey+`
		WHERE `+column+` = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4`, h.ID(), after.Time, after.ID, limit)
	if err != nil {
		return nil, fmt.Errorf("list authorized keys: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		k, err := scanAuthorizedKey(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("list authorized keys: %w", err)
		}
		all = append(all, k)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("list authorized keys: %w", err)
	}
	return all, nil
}

func scanAuthorizedKey(scan func(...any) error) (AuthorizedKey, error) {
	var k AuthorizedKey
	var account, user sql.NullString
	var algorithm string
	var created, used int64
	if err := scan(&k.ID, &account, &user, &algorithm, &k.Public, &k.Description, &created, &used); err != nil {
		return AuthorizedKey{}, err
	}
	k.Holder = Holder{AccountID: account.String, UserID: user.String}
	k.Algorithm = iamv1.Key_Algorithm(iamv1.Key_Algorithm_value[algorithm])
	k.CreatedAt, k.LastUsedAt = sqldb.Time(created), sqldb.Time(used)
	return k, nil
}

// CountAuthorizedKeys counts the keys of the service accounts of a cloud.
func (s *Store) CountAuthorizedKeys(ctx context.Context, q sqldb.Querier, cloudID string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM identity_authorized_keys k JOIN identity_service_accounts a ON a.id = k.account_id WHERE a.cloud_id = $1`,
		cloudID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count authorized keys: %w", err)
	}
	return n, nil
}

// CountOwnAuthorizedKeys counts the keys of a user.
func (s *Store) CountOwnAuthorizedKeys(ctx context.Context, q sqldb.Querier, userID string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COUNT(*) FROM identity_authorized_keys WHERE user_id = $1`, userID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count authorized keys: %w", err)
	}
	return n, nil
}

// DescribeAuthorizedKey changes the description of a key.
func (s *Store) DescribeAuthorizedKey(ctx context.Context, tx *sql.Tx, keyID, description string) error {
	_, err := tx.ExecContext(ctx, `UPDATE identity_authorized_keys SET description = $2 WHERE id = $1`, keyID, description)
	if err != nil {
		return fmt.Errorf("describe authorized key: %w", err)
	}
	return nil
}

// DeleteAuthorizedKey removes a key.
func (s *Store) DeleteAuthorizedKey(ctx context.Context, tx *sql.Tx, keyID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM identity_authorized_keys WHERE id = $1`, keyID); err != nil {
		return fmt.Errorf("delete authorized key: %w", err)
	}
	return nil
}

// AuthorizedKeyUsed notes that a key proved its account at that time.
func (s *Store) AuthorizedKeyUsed(ctx context.Context, tx *sql.Tx, keyID string, at time.Time) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE identity_authorized_keys SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2`, keyID, sqldb.Micros(at))
	if err != nil {
		return fmt.Errorf("note the use of an authorized key: %w", err)
	}
	return nil
}

// AccountAuthenticated notes that a service account proved itself at that time.
func (s *Store) AccountAuthenticated(ctx context.Context, tx *sql.Tx, accountID string, at time.Time) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE identity_service_accounts SET last_authenticated_at = $2 WHERE id = $1 AND last_authenticated_at < $2`,
		accountID, sqldb.Micros(at))
	if err != nil {
		return fmt.Errorf("note the authentication of a service account: %w", err)
	}
	return nil
}
