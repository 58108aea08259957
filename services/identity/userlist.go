package identity

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Users reads those of the named users that are there, in any state, ordered by
// id. It takes some thousands of ids at most.
func (s *Store) Users(ctx context.Context, q sqldb.Querier, ids []string) ([]User, error) {
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	if len(ids) == 0 {
		return nil, nil
	}
	args := make([]any, len(ids))
	for i, userID := range ids {
		args[i] = userID
	}
	return s.users(ctx, q, `WHERE u.id IN (`+places(1, len(ids))+`) ORDER BY u.id`, args...)
}

// users reads the users that a condition finds.
func (s *Store) users(ctx context.Context, q sqldb.Querier, where string, args ...any) ([]User, error) {
	rows, err := q.QueryContext(ctx, selectUser+where, args...)
	return collect(rows, err, scanUser)
}

// collect reads all rows of a query.
func collect[T any](rows *sql.Rows, err error, scan func(row) (T, error)) ([]T, error) {
	if err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	var all []T
	for rows.Next() {
		one, err := scan(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read rows: %w", err)
	}
	return all, nil
}

// row is a row of a query: one of several, or the only one.
type row interface{ Scan(into ...any) error }

// places are n placeholders, the first of them $first.
func places(first, n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("$%d", first+i)
	}
	return strings.Join(all, ", ")
}

// UsersByEmail reads the active users of some addresses, which are in lower case.
func (s *Store) UsersByEmail(ctx context.Context, q sqldb.Querier, addresses []string) ([]User, error) {
	args := []any{string(Active)}
	for _, address := range addresses {
		args = append(args, address)
	}
	return s.users(ctx, q, `WHERE u.state = $1 AND u.deleting = 0 AND u.email_folded IN (`+places(2, len(addresses))+`) ORDER BY u.id`, args...)
}

// AccountsOfClouds reads at most limit service accounts in use of some clouds, by id,
// with an id after another one.
func (s *Store) AccountsOfClouds(ctx context.Context, cloudIDs []string, after string, limit int) ([]ServiceAccount, error) {
	args := []any{after, limit, string(Active), string(Suspended)}
	for _, cloudID := range cloudIDs {
		args = append(args, cloudID)
	}
	rows, err := s.db.QueryContext(ctx, `SELECT `+accountColumns+` FROM identity_service_accounts
		WHERE id > $1 AND status IN ($3, $4) AND cloud_id IN (`+places(5, len(cloudIDs))+`) ORDER BY id LIMIT $2`, args...)
	return collect(rows, err, func(r row) (ServiceAccount, error) { return scanAccount(r.Scan) })
}
