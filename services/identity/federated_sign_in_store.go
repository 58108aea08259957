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

// MappedMemberships are the groups in which a user is because the provider said so.
func (s *Store) MappedMemberships(ctx context.Context, q sqldb.Querier, userID string) ([]string, error) {
	rows, err := q.QueryContext(ctx, `SELECT group_id FROM identity_mapped_members WHERE user_id = $1 ORDER BY group_id`, userID)
	return collect(rows, err, scanText)
}

func scanText(r row) (text string, err error) {
	err = r.Scan(&text)
	return text, err
}

// ChangeMappedMemberships notes in which groups a user is because the provider said so.
func (s *Store) ChangeMappedMemberships(ctx context.Context, tx *sql.Tx, userID string, in, out []string) error {
	for _, groupID := range in {
		if _, err := tx.ExecContext(ctx, `INSERT INTO identity_mapped_members (user_id, group_id) VALUES ($1, $2) ON CONFLICT DO NOTHING`, userID, groupID); err != nil {
			return fmt.Errorf("note membership: %w", err)
		}
	}
	for _, groupID := range out {
		if _, err := tx.ExecContext(ctx, `DELETE FROM identity_mapped_members WHERE user_id = $1 AND group_id = $2`, userID, groupID); err != nil {
			return fmt.Errorf("forget membership: %w", err)
		}
	}
	return nil
}

// federationKey is the key of a federation; it is made when first asked for, by whichever
// process is first.
func (s *Service) federationKey(ctx context.Context, federationID string) (saml.Key, error) {
	certificate, sealed, err := s.store.federationKey(ctx, s.store.db, federationID)
	if errors.Is(err, sql.ErrNoRows) {
		made, makeErr := saml.NewKey(federationID, s.now())
		if makeErr != nil {
			return saml.Key{}, makeErr
		}
		err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `
				INSERT INTO identity_saml_keys (federation_id, certificate, private_key) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
				federationID, made.Certificate.Raw, s.sealer.Seal(saml.SealedKeys.Purpose(federationID), x509.MarshalPKCS1PrivateKey(made.Private)))
			if err != nil {
				return err
			}
			certificate, sealed, err = s.store.federationKey(ctx, tx, federationID)
			return err
		})
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
