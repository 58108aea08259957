package identity

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// FederatedUser is a user of a federation: Login is the name id.
type FederatedUser struct {
	User
	Attributes map[string][]string // of the last sign-in
	Operation  string              // that adds or deletes it; "" when none is under way
}

// position is where u stands in a list.
func (u FederatedUser) position() page.Position {
	return page.Position{Time: sqldb.Micros(u.CreatedAt), ID: u.ID}
}

// federatedNameKeys keeps name ids unique in a federation.
const federatedNameKeys = "identity_federated_users_federation_id_name_key_key"

// InsertFederatedUser adds a user of a federation, whose name id is free: the caller
// has locked the federation.
func (s *Store) InsertFederatedUser(ctx context.Context, tx *sql.Tx, f SAMLFederation, u FederatedUser) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_users (id, login, login_folded, email, email_folded, state, created_at, last_authenticated_at, federation_id)
		VALUES ($1, $2, $1, '', $1, $3, $4, 0, $5)`, u.ID, u.Login, string(u.State), sqldb.Micros(u.CreatedAt), f.ID)
	if err != nil {
		return fmt.Errorf("insert user of federation: %w", err)
	}
	_, err = tx.ExecContext(ctx, `
		INSERT INTO identity_federated_users (user_id, federation_id, name_key, name_folded, attributes, operation, created_at)
		VALUES ($1, $2, $3, $4, '{}', $5, $6)`, u.ID, f.ID, f.key(u.Login), fold(u.Login), u.Operation, sqldb.Micros(u.CreatedAt))
	if err != nil {
		return fmt.Errorf("insert user of federation: %w", err)
	}
	return nil
}

// MarkFederatedUser writes which operation is under way on a user.
func (s *Store) MarkFederatedUser(ctx context.Context, tx *sql.Tx, userID, operation string) error {
	if _, err := tx.ExecContext(ctx, `UPDATE identity_federated_users SET operation = $2 WHERE user_id = $1`, userID, operation); err != nil {
		return fmt.Errorf("mark user of federation: %w", err)
	}
	return nil
}

// RekeyFederatedUsers makes the name ids of a federation compare as it says now.
// Fails: NAME_IDS_COLLIDE.
func (s *Store) RekeyFederatedUsers(ctx context.Context, tx *sql.Tx, f SAMLFederation) error {
	text := `UPDATE identity_federated_users SET name_key = (SELECT login FROM identity_users WHERE id = user_id) WHERE federation_id = $1`
	if f.CaseInsensitive {
		text = `UPDATE identity_federated_users SET name_key = name_folded WHERE federation_id = $1`
	}
	_, err := tx.ExecContext(ctx, text, f.ID)
	if sqldb.ConstraintName(err) == federatedNameKeys {
		return errNameIDsCollide
	}
	if err != nil {
		return fmt.Errorf("rekey users of federation: %w", err)
	}
	return nil
}

const selectFederatedUser = `
	SELECT u.id, u.login, u.email, u.state, u.created_at, u.last_authenticated_at, u.given_name, u.family_name, u.phone, u.suspended_at,
		u.suspend_reason, u.deleting, u.federation_id, f.attributes, f.operation
	FROM identity_federated_users f JOIN identity_users u ON u.id = f.user_id `

// FederatedUsersNamed reads the users of a federation with some name ids, as the
// federation compares them, in any state. It takes some thousands at most.
func (s *Store) FederatedUsersNamed(ctx context.Context, q sqldb.Querier, f SAMLFederation, nameIDs []string) ([]FederatedUser, error) {
	args := []any{f.ID}
	for _, name := range nameIDs {
		args = append(args, f.key(name))
	}
	return s.federatedUsers(ctx, q, `WHERE f.federation_id = $1 AND f.name_key IN (`+places(2, len(nameIDs))+`)`, args...)
}

// FederatedUsersWith reads the users of a federation with some ids, in any state.
func (s *Store) FederatedUsersWith(ctx context.Context, q sqldb.Querier, federationID string, ids []string) ([]FederatedUser, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	args := []any{federationID}
	for _, userID := range ids {
		args = append(args, userID)
	}
	return s.federatedUsers(ctx, q, `WHERE f.federation_id = $1 AND f.user_id IN (`+places(2, len(ids))+`) ORDER BY f.user_id`, args...)
}

// FederatedUsersOf reads at most limit users of a federation that are seen, and
// follow after, oldest first.
func (s *Store) FederatedUsersOf(ctx context.Context, federationID string, after page.Position, limit int) ([]FederatedUser, error) {
	return s.federatedUsers(ctx, s.db, `WHERE f.federation_id = $1 AND u.state = $2 AND u.deleting = 0 AND (f.created_at, f.user_id) > ($3, $4)
		ORDER BY f.created_at, f.user_id LIMIT $5`, federationID, string(Active), after.Time, after.ID, limit)
}

// SomeFederatedUsers reads at most limit users of a federation, in any state.
func (s *Store) SomeFederatedUsers(ctx context.Context, federationID string, limit int) ([]FederatedUser, error) {
	return s.federatedUsers(ctx, s.db, `WHERE f.federation_id = $1 ORDER BY f.created_at, f.user_id LIMIT $2`, federationID, limit)
}

func (s *Store) federatedUsers(ctx context.Context, q sqldb.Querier, where string, args ...any) ([]FederatedUser, error) {
	rows, err := q.QueryContext(ctx, selectFederatedUser+where, args...)
	return collect(rows, err, func(r row) (u FederatedUser, err error) {
		var attributes string
		if u.User, err = scanUserAnd(r, &attributes, &u.Operation); err != nil {
			return u, err
		}
		if err := json.Unmarshal([]byte(attributes), &u.Attributes); err != nil {
			return u, fmt.Errorf("read attributes: %w", err)
		}
		return u, nil
	})
}

// CountFederatedUsers counts the users of a federation, whatever their state.
func (s *Store) CountFederatedUsers(ctx context.Context, q sqldb.Querier, federationID string) (int64, error) {
	return s.count(ctx, q, `SELECT COUNT(*) FROM identity_federated_users WHERE federation_id = $1`, federationID)
}
