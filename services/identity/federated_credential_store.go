package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// FederatedCredential lets a workload of an issuer act as a service account.
type FederatedCredential struct {
	ID           string
	AccountID    string
	FederationID string
	Subject      string        // sub of its tokens, to the letter
	Session      authn.TokenID // in the IAM tokens that were issued for it
	CreatedAt    time.Time
	LastUsedAt   time.Time // zero when never; exact to a minute
}

func (c FederatedCredential) position() page.Position {
	return page.Position{Time: sqldb.Micros(c.CreatedAt), ID: c.ID}
}

// newTokenSession is what tokens are ended by, all at once.
func newTokenSession() (id authn.TokenID) {
	_, _ = rand.Read(id[:]) // never fails: the runtime ends the process instead
	return id
}

func hashSubject(subject string) []byte {
	h := sha256.Sum256([]byte(subject))
	return h[:]
}

// InsertFederatedCredential adds a credential. Fails: FEDERATED_CREDENTIAL_EXISTS.
func (s *Store) InsertFederatedCredential(ctx context.Context, tx *sql.Tx, c FederatedCredential) error {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO identity_federated_credentials (id, account_id, federation_id, subject, subject_hash, session_id, created_at, last_used_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, 0) ON CONFLICT DO NOTHING`,
		c.ID, c.AccountID, c.FederationID, c.Subject, hashSubject(c.Subject), c.Session[:], sqldb.Micros(c.CreatedAt))
	if err != nil {
		return fmt.Errorf("insert federated credential: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return fmt.Errorf("insert federated credential: %w", err)
	} else if n == 0 {
		return errFederatedCredentialExists
	}
	return nil
}

const federatedCredentialColumns = `k.id, k.account_id, k.federation_id, k.subject, k.session_id, k.created_at, k.last_used_at`

// FederatedCredential reads a credential by id. Fails: FEDERATED_CREDENTIAL_NOT_FOUND.
func (s *Store) FederatedCredential(ctx context.Context, q sqldb.Querier, credentialID string) (FederatedCredential, error) {
	return s.federatedCredential(ctx, q, credentialID, "")
}

// LockFederatedCredential is FederatedCredential that keeps other transactions from
// changing it until this one ends.
func (s *Store) LockFederatedCredential(ctx context.Context, tx *sql.Tx, credentialID string) (FederatedCredential, error) {
	return s.federatedCredential(ctx, tx, credentialID, s.db.ForUpdate())
}

func (s *Store) federatedCredential(ctx context.Context, q sqldb.Querier, credentialID, suffix string) (FederatedCredential, error) {
	c, err := scanFederatedCredential(q.QueryRowContext(ctx,
		`SELECT `+federatedCredentialColumns+` FROM identity_federated_credentials k WHERE k.id = $1`+suffix, credentialID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return FederatedCredential{}, federatedCredentialKind.errNotFound(credentialID)
	}
	if err != nil {
		return FederatedCredential{}, fmt.Errorf("read federated credential: %w", err)
	}
	return c, nil
}

// FederatedCredentials reads at most limit credentials of an account that follow after,
// oldest first.
func (s *Store) FederatedCredentials(ctx context.Context, accountID string, after page.Position, limit int) ([]FederatedCredential, error) {
	return keysOf(ctx, s, &federatedCredentialKind, federatedCredentialColumns, accountID, after, limit, scanFederatedCredential)
}

// trust is a credential with the federation that it relies on.
type trust struct {
	FederatedCredential
	Federation Federation
}

// TrustsIn reads the credentials by which a subject of any issuer may act as an account
// now, oldest first: those of federations that are neither disabled nor on their way in
// or out.
func (s *Store) TrustsIn(ctx context.Context, accountID, subject string) (all []trust, err error) {
	rows, err := s.db.QueryContext(ctx, `SELECT `+federatedCredentialColumns+`, `+federationColumns+`
		FROM identity_federated_credentials k JOIN identity_workload_federations f ON f.id = k.federation_id
		WHERE k.account_id = $1 AND k.subject_hash = $2 AND NOT f.disabled AND f.state = 'ACTIVE' ORDER BY k.created_at, k.id`,
		accountID, hashSubject(subject))
	if err != nil {
		return nil, fmt.Errorf("read federated credentials: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		t, err := scanTrust(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read federated credentials: %w", err)
		}
		all = append(all, t)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read federated credentials: %w", err)
	}
	return all, nil
}

func scanTrust(scan func(...any) error) (t trust, err error) {
	var r federationRow
	t.FederatedCredential, err = scanFederatedCredential(func(into ...any) error { return scan(append(into, r.into()...)...) })
	if err == nil {
		t.Federation, err = r.value()
	}
	return t, err
}

// CredentialsOfFederation reads all credentials of a federation.
func (s *Store) CredentialsOfFederation(ctx context.Context, q sqldb.Querier, federationID string) (all []FederatedCredential, err error) {
	rows, err := q.QueryContext(ctx, `SELECT `+federatedCredentialColumns+` FROM identity_federated_credentials k WHERE k.federation_id = $1 ORDER BY k.id`,
		federationID)
	if err != nil {
		return nil, fmt.Errorf("read credentials of a federation: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		c, err := scanFederatedCredential(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("read credentials of a federation: %w", err)
		}
		all = append(all, c)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read credentials of a federation: %w", err)
	}
	return all, nil
}

// RenewTokenSession gives the tokens to come of a credential another session.
func (s *Store) RenewTokenSession(ctx context.Context, tx *sql.Tx, credentialID string) error {
	session := newTokenSession()
	if _, err := tx.ExecContext(ctx, `UPDATE identity_federated_credentials SET session_id = $2 WHERE id = $1`, credentialID, session[:]); err != nil {
		return fmt.Errorf("renew the session of a federated credential: %w", err)
	}
	return nil
}

// FederatedCredentialUsed notes that a credential, and with it its account, was
// accepted at that time.
func (s *Store) FederatedCredentialUsed(ctx context.Context, tx *sql.Tx, c FederatedCredential, at time.Time) error {
	_, err := tx.ExecContext(ctx, `UPDATE identity_federated_credentials SET last_used_at = $2 WHERE id = $1 AND last_used_at < $2`, c.ID, sqldb.Micros(at))
	if err != nil {
		return fmt.Errorf("note the use of a federated credential: %w", err)
	}
	return s.AccountAuthenticated(ctx, tx, c.AccountID, at)
}

func scanFederatedCredential(scan func(...any) error) (c FederatedCredential, err error) {
	var session []byte
	var created, used int64
	if err := scan(&c.ID, &c.AccountID, &c.FederationID, &c.Subject, &session, &created, &used); err != nil {
		return FederatedCredential{}, err
	}
	if len(session) != len(c.Session) {
		return FederatedCredential{}, fmt.Errorf("federated credential %s has a session of %d bytes", c.ID, len(session))
	}
	c.Session, c.CreatedAt, c.LastUsedAt = authn.TokenID(session), sqldb.Time(created), sqldb.Time(used)
	return c, nil
}
