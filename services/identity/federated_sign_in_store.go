package identity

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/identity/saml"
)

// DescribeFederatedUser writes what the provider says of a user.
func (s *Store) DescribeFederatedUser(ctx context.Context, tx *sql.Tx, u FederatedUser) error {
	attributes, err := json.Marshal(u.Attributes)
	if err != nil {
		return fmt.Errorf("write attributes: %w", err)
	}
	_, err = tx.ExecContext(ctx, `UPDATE identity_users SET email = $2, given_name = $3, family_name = $4, phone = $5 WHERE id = $1`,
		u.ID, u.Email, u.GivenName, u.FamilyName, u.Phone)
	if err == nil {
		_, err = tx.ExecContext(ctx, `UPDATE identity_federated_users SET attributes = $2 WHERE user_id = $1`, u.ID, string(attributes))
	}
	if err != nil {
		return fmt.Errorf("describe user of federation: %w", err)
	}
	return nil
}

// FederationOfDomain is the federation in which a domain is proven; sql.ErrNoRows where
// it is in none.
func (s *Store) FederationOfDomain(ctx context.Context, q sqldb.Querier, domain string) (federationID string, err error) {
	err = q.QueryRowContext(ctx, `SELECT federation_id FROM identity_saml_domains WHERE claimed = $1`, domain).Scan(&federationID)
	return federationID, err
}

// MappedGroups are the groups that groups of a provider are, each once.
func (s *Store) MappedGroups(ctx context.Context, q sqldb.Querier, federationID string, external []string) ([]string, error) {
	if len(external) == 0 {
		return nil, nil
	}
	args := []any{federationID}
	for _, name := range external {
		key := sha256.Sum256([]byte(name))
		args = append(args, key[:])
	}
	rows, err := q.QueryContext(ctx, `
		SELECT DISTINCT internal_group_id FROM identity_group_mapping_items
		WHERE federation_id = $1 AND external_key IN (`+places(2, len(external))+`) ORDER BY internal_group_id`, args...)
	return collect(rows, err, scanText)
}

// mapped is a group in which a user is because the provider said so, as a sign-in noted it.
type mapped struct{ GroupID, Token string }

// MappedMemberships are the groups in which a user is because the provider said so.
func (s *Store) MappedMemberships(ctx context.Context, q sqldb.Querier, userID string) ([]mapped, error) {
	rows, err := q.QueryContext(ctx, `SELECT group_id, token FROM identity_mapped_members WHERE user_id = $1 ORDER BY group_id`, userID)
	return collect(rows, err, func(r row) (m mapped, err error) {
		err = r.Scan(&m.GroupID, &m.Token)
		return m, err
	})
}

func scanText(r row) (text string, err error) {
	err = r.Scan(&text)
	return text, err
}

// ChangeMappedMemberships notes in which groups a user is because the provider said so. It
// forgets those out only as they were read: not what somebody has noted since.
func (s *Store) ChangeMappedMemberships(ctx context.Context, tx *sql.Tx, userID string, in, out []mapped) error {
	for _, m := range in {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO identity_mapped_members (user_id, group_id, token) VALUES ($1, $2, $3)
			ON CONFLICT (user_id, group_id) DO UPDATE SET token = excluded.token`, userID, m.GroupID, m.Token)
		if err != nil {
			return fmt.Errorf("note membership: %w", err)
		}
	}
	for _, m := range out {
		_, err := tx.ExecContext(ctx, `DELETE FROM identity_mapped_members WHERE user_id = $1 AND group_id = $2 AND token = $3`, userID, m.GroupID, m.Token)
		if err != nil {
			return fmt.Errorf("forget membership: %w", err)
		}
	}
	return nil
}

// FederationNameOf is the name of the federation that a user is of.
func (s *Store) FederationNameOf(ctx context.Context, q sqldb.Querier, userID string) (name string, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT f.name FROM identity_federated_users u JOIN identity_saml_federations f ON f.id = u.federation_id WHERE u.user_id = $1`, userID).Scan(&name)
	if err != nil {
		return "", fmt.Errorf("read federation of user: %w", err)
	}
	return name, nil
}

// federationKey is the key of a federation; it is made when first asked for, by whichever
// process is first.
func (s *Service) federationKey(ctx context.Context, federationID string) (saml.Key, error) {
	certificate, sealed, err := s.store.federationKey(ctx, s.store.db, federationID)
	if errors.Is(err, sql.ErrNoRows) {
		// Anybody may be the first to ask, and many at once: one of them makes it.
		_, err, _ = s.federationKeys.Do(federationID, func() (any, error) { return nil, s.makeFederationKey(context.WithoutCancel(ctx), federationID) })
		if err == nil {
			certificate, sealed, err = s.store.federationKey(ctx, s.store.db, federationID)
		}
	}
	if err != nil {
		return saml.Key{}, fmt.Errorf("key of federation %s: %w", federationID, err)
	}
	private, err := saml.SealedKeys.Open(s.sealer, federationID, sealed)
	if err != nil {
		return saml.Key{}, err
	}
	return saml.ReadKey(private, certificate)
}

// makeFederationKey makes the key of a federation that has none.
func (s *Service) makeFederationKey(ctx context.Context, federationID string) error {
	made, err := saml.NewKey(federationID, s.now())
	if err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `
			INSERT INTO identity_saml_keys (federation_id, certificate, private_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
			federationID, made.Certificate.Raw, s.sealer.Seal(saml.SealedKeys.Purpose(federationID), x509.MarshalPKCS1PrivateKey(made.Private)))
		return err
	})
}

// federationKey reads the key of a federation; sql.ErrNoRows where it has none.
func (s *Store) federationKey(ctx context.Context, q sqldb.Querier, federationID string) (certificate, sealed []byte, err error) {
	err = q.QueryRowContext(ctx, `SELECT certificate, private_key FROM identity_saml_keys WHERE federation_id = $1`, federationID).Scan(&certificate, &sealed)
	return certificate, sealed, err
}

// resealFederationKeys seals by the key that seals now what an older one sealed.
func (s *Service) resealFederationKeys(ctx context.Context) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return reseal(ctx, tx, s.sealer, saml.SealedKeys)
	})
}
