package oauthclients

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// store is the tables of the package.
type store struct{ db *sqldb.DB }

const clientColumns = `id, folder_id, cloud_id, name, profile, pkce_required, redirect_uris, post_logout_redirect_uris, scopes, authentication_methods, created_at`

func scanClient(scan func(...any) error) (c Client, err error) {
	var created int64
	var redirects, logouts, scopes, methods string
	err = scan(&c.ID, &c.FolderID, &c.CloudID, &c.Name, &c.Profile, &c.PKCE, &redirects, &logouts, &scopes, &methods, &created)
	if err != nil {
		return c, err
	}
	c.CreatedAt = sqldb.Time(created)
	return c, errors.Join(json.Unmarshal([]byte(redirects), &c.RedirectURIs), json.Unmarshal([]byte(logouts), &c.LogoutURIs),
		json.Unmarshal([]byte(scopes), &c.Scopes), json.Unmarshal([]byte(methods), &c.Methods))
}

// list is a list as it is kept; an empty one is not null.
func list(all []string) string {
	if len(all) == 0 {
		return "[]"
	}
	raw, _ := json.Marshal(all) //nolint:errchkjson // strings marshal
	return string(raw)
}

// client reads a client. Fails: OAUTH_CLIENT_NOT_FOUND.
func (s *store) client(ctx context.Context, q sqldb.Querier, clientID, suffix string) (Client, error) {
	c, err := scanClient(q.QueryRowContext(ctx, `SELECT `+clientColumns+` FROM identity_oauth_clients WHERE id = $1`+suffix, clientID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Client{}, errClientNotFound
	}
	if err != nil {
		return Client{}, fmt.Errorf("read OAuth client: %w", err)
	}
	return c, nil
}

// clients reads at most limit clients of a folder that follow after, oldest first.
func (s *store) clients(ctx context.Context, folderID string, after page.Position, limit int) ([]Client, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT `+clientColumns+` FROM identity_oauth_clients
		WHERE folder_id = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4`, folderID, after.Time, after.ID, limit)
	return collect(rows, err, "list OAuth clients", scanClient)
}

// collect reads all rows of a query.
func collect[T any](rows *sql.Rows, err error, what string, scan func(func(...any) error) (T, error)) (all []T, _ error) {
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	for rows.Next() {
		one, err := scan(rows.Scan)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return all, nil
}

func (s *store) countClients(ctx context.Context, q sqldb.Querier, cloudID string) (int64, error) {
	return s.count(ctx, q, `identity_oauth_clients WHERE cloud_id = $1`, cloudID)
}

func (s *store) countSecrets(ctx context.Context, q sqldb.Querier, clientID string) (int64, error) {
	return s.count(ctx, q, `identity_oauth_client_secrets WHERE client_id = $1`, clientID)
}

func (s *store) count(ctx context.Context, q sqldb.Querier, what, arg string) (n int64, err error) {
	if err := q.QueryRowContext(ctx, `SELECT COUNT(*) FROM `+what, arg).Scan(&n); err != nil {
		return 0, fmt.Errorf("count OAuth clients: %w", err)
	}
	return n, nil
}

func (s *store) insertClient(ctx context.Context, tx *sql.Tx, c Client) error {
	return s.exec(ctx, tx, "insert OAuth client", `
		INSERT INTO identity_oauth_clients (`+clientColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)`,
		c.ID, c.FolderID, c.CloudID, c.Name, c.Profile, c.PKCE, list(c.RedirectURIs), list(c.LogoutURIs), list(c.Scopes), list(c.Methods),
		sqldb.Micros(c.CreatedAt))
}

// updateClient writes what may change of a client.
func (s *store) updateClient(ctx context.Context, tx *sql.Tx, c Client) error {
	return s.exec(ctx, tx, "update OAuth client", `
		UPDATE identity_oauth_clients SET name = $2, pkce_required = $3, redirect_uris = $4, post_logout_redirect_uris = $5, scopes = $6,
			authentication_methods = $7
		WHERE id = $1`, c.ID, c.Name, c.PKCE, list(c.RedirectURIs), list(c.LogoutURIs), list(c.Scopes), list(c.Methods))
}

func (s *store) deleteClient(ctx context.Context, tx *sql.Tx, clientID string) error {
	return s.exec(ctx, tx, "delete OAuth client", `DELETE FROM identity_oauth_clients WHERE id = $1`, clientID)
}

// deleteOf removes the clients of a folder.
func (s *store) deleteOf(ctx context.Context, tx *sql.Tx, folderID string) error {
	return s.exec(ctx, tx, "delete OAuth clients", `DELETE FROM identity_oauth_clients WHERE folder_id = $1`, folderID)
}

func (s *store) exec(ctx context.Context, tx *sql.Tx, what, query string, args ...any) error {
	if _, err := tx.ExecContext(ctx, query, args...); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

const secretColumns = `id, client_id, hash, mask, description, created_at`

func scanSecret(scan func(...any) error) (x Secret, err error) {
	var created int64
	err = scan(&x.ID, &x.ClientID, &x.Hash, &x.Mask, &x.Description, &created)
	x.CreatedAt = sqldb.Time(created)
	return x, err
}

// secret reads a secret. Fails: OAUTH_CLIENT_SECRET_NOT_FOUND.
func (s *store) secret(ctx context.Context, q sqldb.Querier, secretID string) (Secret, error) {
	x, err := scanSecret(q.QueryRowContext(ctx, `SELECT `+secretColumns+` FROM identity_oauth_client_secrets WHERE id = $1`, secretID).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Secret{}, errSecretNotFound
	}
	if err != nil {
		return Secret{}, fmt.Errorf("read OAuth client secret: %w", err)
	}
	return x, nil
}

// secrets reads at most limit secrets of a client that follow after, oldest first.
func (s *store) secrets(ctx context.Context, clientID string, after page.Position, limit int) ([]Secret, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT `+secretColumns+` FROM identity_oauth_client_secrets
		WHERE client_id = $1 AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4`, clientID, after.Time, after.ID, limit)
	return collect(rows, err, "list OAuth client secrets", scanSecret)
}

func (s *store) insertSecret(ctx context.Context, tx *sql.Tx, x Secret) error {
	return s.exec(ctx, tx, "insert OAuth client secret", `
		INSERT INTO identity_oauth_client_secrets (`+secretColumns+`) VALUES ($1, $2, $3, $4, $5, $6)`,
		x.ID, x.ClientID, x.Hash, x.Mask, x.Description, sqldb.Micros(x.CreatedAt))
}

// deleteSecret removes a secret. Fails: OAUTH_CLIENT_SECRET_NOT_FOUND.
func (s *store) deleteSecret(ctx context.Context, tx *sql.Tx, secretID string) error {
	res, err := tx.ExecContext(ctx, `DELETE FROM identity_oauth_client_secrets WHERE id = $1`, secretID)
	if err != nil {
		return fmt.Errorf("delete OAuth client secret: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return fmt.Errorf("delete OAuth client secret: %w", err)
	} else if n == 0 {
		return errSecretNotFound
	}
	return nil
}
