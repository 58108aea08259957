package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

const certificateNames = "identity_saml_certificates_federation_id_name_key"

const certificateColumns = `id, federation_id, name, description, certificate, created_at`

// InsertCertificate adds a certificate. Fails: CERTIFICATE_NAME_TAKEN.
func (s *Store) InsertCertificate(ctx context.Context, tx *sql.Tx, c SAMLCertificate) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO identity_saml_certificates (`+certificateColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
		c.ID, c.FederationID, c.Name, c.Description, c.DER, sqldb.Micros(c.CreatedAt))
	return refuseCertificate(err, "insert", c)
}

// UpdateCertificate writes name, description and certificate. Fails:
// CERTIFICATE_NAME_TAKEN.
func (s *Store) UpdateCertificate(ctx context.Context, tx *sql.Tx, c SAMLCertificate) error {
	_, err := tx.ExecContext(ctx, `UPDATE identity_saml_certificates SET name = $2, description = $3, certificate = $4 WHERE id = $1`,
		c.ID, c.Name, c.Description, c.DER)
	return refuseCertificate(err, "update", c)
}

func refuseCertificate(err error, verb string, c SAMLCertificate) error {
	switch {
	case err == nil:
		return nil
	case sqldb.ConstraintName(err) == certificateNames:
		return errCertificateNameTaken(c.Name)
	default:
		return fmt.Errorf("%s certificate %s: %w", verb, c.ID, err)
	}
}

// DeleteCertificate removes a certificate; one that is not there changes nothing.
func (s *Store) DeleteCertificate(ctx context.Context, tx *sql.Tx, certificateID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM identity_saml_certificates WHERE id = $1`, certificateID); err != nil {
		return fmt.Errorf("delete certificate: %w", err)
	}
	return nil
}

// Certificate reads a certificate by id. Fails: CERTIFICATE_NOT_FOUND.
func (s *Store) Certificate(ctx context.Context, q sqldb.Querier, certificateID string) (SAMLCertificate, error) {
	c, err := scanCertificate(q.QueryRowContext(ctx, `SELECT `+certificateColumns+` FROM identity_saml_certificates WHERE id = $1`, certificateID))
	if errors.Is(err, sql.ErrNoRows) {
		return SAMLCertificate{}, errCertificateNotFound(certificateID)
	}
	if err != nil {
		return SAMLCertificate{}, fmt.Errorf("read certificate %s: %w", certificateID, err)
	}
	return c, nil
}

// CertificatesOf reads at most limit certificates of a federation that follow after,
// oldest first. An empty name means all.
func (s *Store) CertificatesOf(ctx context.Context, q sqldb.Querier, federationID, name string, after page.Position, limit int) ([]SAMLCertificate, error) {
	text := `SELECT ` + certificateColumns + ` FROM identity_saml_certificates WHERE federation_id = $1 AND (created_at, id) > ($2, $3)`
	args := []any{federationID, after.Time, after.ID, limit}
	if name != "" {
		args = append(args, name)
		text += ` AND name = $5`
	}
	rows, err := q.QueryContext(ctx, text+` ORDER BY created_at, id LIMIT $4`, args...)
	return collect(rows, err, scanCertificate)
}

// CountCertificates counts the certificates of a federation.
func (s *Store) CountCertificates(ctx context.Context, q sqldb.Querier, federationID string) (int64, error) {
	return s.count(ctx, q, `SELECT COUNT(*) FROM identity_saml_certificates WHERE federation_id = $1`, federationID)
}

func scanCertificate(r row) (SAMLCertificate, error) {
	var c SAMLCertificate
	var created int64
	err := r.Scan(&c.ID, &c.FederationID, &c.Name, &c.Description, &c.DER, &created)
	c.CreatedAt = sqldb.Time(created)
	return c, err
}
