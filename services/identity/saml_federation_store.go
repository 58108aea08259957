package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// federationNames keeps names unique in an organization (NM-3).
const federationNames = "identity_saml_federations_organization_id_name_key"

const samlFederationColumns = `id, organization_id, name, description, labels, cookie_max_age, auto_create, issuer, sso_binding, sso_url,
	encrypted_assertions, force_authn, case_insensitive, state, operation, created_at`

// InsertSAMLFederation adds a federation. Fails: FEDERATION_NAME_TAKEN (NM-3).
func (s *Store) InsertSAMLFederation(ctx context.Context, tx *sql.Tx, f SAMLFederation) error {
	labels, err := encodeLabels(f.Labels)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO identity_saml_federations (`+samlFederationColumns+`)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)`,
		f.ID, f.OrganizationID, f.Name, f.Description, labels, f.CookieMaxAge.Microseconds(), f.AutoCreate, f.Issuer, f.Binding, f.SSOURL,
		f.EncryptedAssertions, f.ForceAuthn, f.CaseInsensitive, string(f.State), f.Operation, sqldb.Micros(f.CreatedAt))
	return refuseSAMLFederation(err, "insert", f)
}

// UpdateSAMLFederation writes all that may change: everything but id, organization_id and
// created_at. Fails: FEDERATION_NAME_TAKEN (NM-3).
func (s *Store) UpdateSAMLFederation(ctx context.Context, tx *sql.Tx, f SAMLFederation) error {
	labels, err := encodeLabels(f.Labels)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE identity_saml_federations SET name = $2, description = $3, labels = $4, cookie_max_age = $5, auto_create = $6, issuer = $7,
			sso_binding = $8, sso_url = $9, encrypted_assertions = $10, force_authn = $11, case_insensitive = $12, state = $13, operation = $14
		WHERE id = $1`,
		f.ID, f.Name, f.Description, labels, f.CookieMaxAge.Microseconds(), f.AutoCreate, f.Issuer, f.Binding, f.SSOURL,
		f.EncryptedAssertions, f.ForceAuthn, f.CaseInsensitive, string(f.State), f.Operation)
	return refuseSAMLFederation(err, "update", f)
}

func refuseSAMLFederation(err error, verb string, f SAMLFederation) error {
	switch {
	case err == nil:
		return nil
	case sqldb.ConstraintName(err) == federationNames:
		return errSAMLFederationNameTaken(f.Name)
	default:
		return fmt.Errorf("%s federation %s: %w", verb, f.ID, err)
	}
}

// DeleteSAMLFederation removes a federation, whose users are gone, with all that refers
// to it; one that is not there changes nothing.
func (s *Store) DeleteSAMLFederation(ctx context.Context, tx *sql.Tx, federationID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM identity_saml_federations WHERE id = $1`, federationID); err != nil {
		return fmt.Errorf("delete federation %s: %w", federationID, err)
	}
	return nil
}

// SAMLFederation reads a federation by id, in any state. Fails: FEDERATION_NOT_FOUND.
func (s *Store) SAMLFederation(ctx context.Context, q sqldb.Querier, federationID string) (SAMLFederation, error) {
	return s.samlFederation(ctx, q, federationID, "")
}

// LockSAMLFederation is Federation that keeps other transactions from changing it, and
// those that lock it as well from changing its users.
func (s *Store) LockSAMLFederation(ctx context.Context, tx *sql.Tx, federationID string) (SAMLFederation, error) {
	return s.samlFederation(ctx, tx, federationID, s.db.ForUpdate())
}

func (s *Store) samlFederation(ctx context.Context, q sqldb.Querier, federationID, suffix string) (SAMLFederation, error) {
	f, err := scanSAMLFederation(q.QueryRowContext(ctx, `SELECT `+samlFederationColumns+` FROM identity_saml_federations WHERE id = $1`+suffix, federationID))
	if errors.Is(err, sql.ErrNoRows) {
		return SAMLFederation{}, errSAMLFederationNotFound(federationID)
	}
	if err != nil {
		return SAMLFederation{}, fmt.Errorf("read federation %s: %w", federationID, err)
	}
	return f, nil
}

// SAMLFederationsOf reads at most limit federations of an organization that follow
// after, oldest first. An empty name means all.
func (s *Store) SAMLFederationsOf(ctx context.Context, organizationID, name string, after page.Position, limit int) ([]SAMLFederation, error) {
	text := `SELECT ` + samlFederationColumns + ` FROM identity_saml_federations WHERE organization_id = $1 AND (created_at, id) > ($2, $3)`
	args := []any{organizationID, after.Time, after.ID, limit}
	if name != "" {
		args = append(args, name)
		text += ` AND name = $5`
	}
	rows, err := s.db.QueryContext(ctx, text+` ORDER BY created_at, id LIMIT $4`, args...)
	return collect(rows, err, scanSAMLFederation)
}

// FederationNames reads what federations are called, by id. Those that are not there
// are left out.
func (s *Store) FederationNames(ctx context.Context, q sqldb.Querier, ids []string) (map[string]string, error) {
	names := make(map[string]string, len(ids))
	if len(ids) == 0 {
		return names, nil
	}
	args := make([]any, len(ids))
	for i, federationID := range ids {
		args[i] = federationID
	}
	rows, err := q.QueryContext(ctx, `SELECT id, name FROM identity_saml_federations WHERE id IN (`+places(1, len(ids))+`)`, args...)
	_, err = collect(rows, err, func(r row) (string, error) {
		var federationID, name string
		err := r.Scan(&federationID, &name)
		names[federationID] = name
		return name, err
	})
	return names, err
}

// CountSAMLFederations counts the federations of an organization, whatever their state.
func (s *Store) CountSAMLFederations(ctx context.Context, q sqldb.Querier, organizationID string) (int64, error) {
	return s.count(ctx, q, `SELECT COUNT(*) FROM identity_saml_federations WHERE organization_id = $1`, organizationID)
}

// count reads one number.
func (s *Store) count(ctx context.Context, q sqldb.Querier, query string, args ...any) (n int64, err error) {
	if err := q.QueryRowContext(ctx, query, args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("count: %w", err)
	}
	return n, nil
}

func scanSAMLFederation(r row) (SAMLFederation, error) {
	var f SAMLFederation
	var labels string
	var age, created int64
	err := r.Scan(&f.ID, &f.OrganizationID, &f.Name, &f.Description, &labels, &age, &f.AutoCreate, &f.Issuer, &f.Binding, &f.SSOURL,
		&f.EncryptedAssertions, &f.ForceAuthn, &f.CaseInsensitive, &f.State, &f.Operation, &created)
	if err != nil {
		return SAMLFederation{}, err
	}
	f.CookieMaxAge, f.CreatedAt = time.Duration(age)*time.Microsecond, sqldb.Time(created)
	if err := json.Unmarshal([]byte(labels), &f.Labels); err != nil {
		return SAMLFederation{}, fmt.Errorf("read labels: %w", err)
	}
	return f, nil
}
