package oslogin

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

const profileColumns = `id, organization_id, subject_id, login, uid, home_directory, shell, is_default, created_at`

func scanProfile(scan func(...any) error) (p Profile, err error) {
	var created int64
	err = scan(&p.ID, &p.OrganizationID, &p.SubjectID, &p.Login, &p.UID, &p.HomeDirectory, &p.Shell, &p.Default, &created)
	p.CreatedAt = sqldb.Time(created)
	return p, err
}

// profile reads a profile. Fails: OS_LOGIN_PROFILE_NOT_FOUND.
func (s *store) profile(ctx context.Context, q sqldb.Querier, profileID, suffix string) (Profile, error) {
	return s.profileWhere(ctx, q, `id = $1`+suffix, profileID)
}

// defaultProfile reads the default profile of a subject. Fails:
// OS_LOGIN_PROFILE_NOT_FOUND.
func (s *store) defaultProfile(ctx context.Context, q sqldb.Querier, organizationID, subjectID string) (Profile, error) {
	return s.profileWhere(ctx, q, `organization_id = $1 AND subject_id = $2 AND is_default`, organizationID, subjectID)
}

// profileByLogin reads the profile with a login. Fails: OS_LOGIN_PROFILE_NOT_FOUND.
func (s *store) profileByLogin(ctx context.Context, q sqldb.Querier, organizationID, login string) (Profile, error) {
	return s.profileWhere(ctx, q, `organization_id = $1 AND login = $2`, organizationID, login)
}

func (s *store) profileWhere(ctx context.Context, q sqldb.Querier, condition string, args ...any) (Profile, error) {
	p, err := scanProfile(q.QueryRowContext(ctx, `SELECT `+profileColumns+` FROM identity_os_login_profiles WHERE `+condition, args...).Scan)
	if errors.Is(err, sql.ErrNoRows) {
		return Profile{}, errProfileNotFound
	}
	if err != nil {
		return Profile{}, fmt.Errorf("read OS Login profile: %w", err)
	}
	return p, nil
}

// profiles reads at most limit profiles of an organization that follow after, oldest
// first.
func (s *store) profiles(ctx context.Context, organizationID string, f filter.Filter, after page.Position, limit int) ([]Profile, error) {
	condition, args := "", []any{organizationID, after.Time, after.ID, limit}
	if f.Field != "" { // one of the two that the filter knows
		condition, args = ` AND `+f.Field+` = $5`, append(args, f.Value)
	}
	rows, err := s.db.QueryContext(ctx, `
		SELECT `+profileColumns+` FROM identity_os_login_profiles
		WHERE organization_id = $1 AND (created_at, id) > ($2, $3)`+condition+` ORDER BY created_at, id LIMIT $4`, args...)
	return collect(rows, err, "list OS Login profiles", scanProfile)
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

func (s *store) countProfiles(ctx context.Context, q sqldb.Querier, organizationID string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `SELECT COUNT(*) FROM identity_os_login_profiles WHERE organization_id = $1`, organizationID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count OS Login profiles: %w", err)
	}
	return n, nil
}

func (s *store) countProfilesOf(ctx context.Context, q sqldb.Querier, organizationID, subjectID string) (n int64, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM identity_os_login_profiles WHERE organization_id = $1 AND subject_id = $2`, organizationID, subjectID).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count OS Login profiles: %w", err)
	}
	return n, nil
}

func (s *store) insertProfile(ctx context.Context, tx *sql.Tx, p Profile) error {
	_, err := tx.ExecContext(ctx, `
		INSERT INTO identity_os_login_profiles (`+profileColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`,
		p.ID, p.OrganizationID, p.SubjectID, p.Login, p.UID, p.HomeDirectory, p.Shell, p.Default, sqldb.Micros(p.CreatedAt))
	return taken(err, p, "insert")
}

func (s *store) updateProfile(ctx context.Context, tx *sql.Tx, p Profile) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE identity_os_login_profiles SET login = $2, uid = $3, home_directory = $4, shell = $5, is_default = $6 WHERE id = $1`,
		p.ID, p.Login, p.UID, p.HomeDirectory, p.Shell, p.Default)
	return taken(err, p, "update")
}

// taken reads what a write of a profile failed with.
func taken(err error, p Profile, verb string) error {
	switch {
	case err == nil:
		return nil
	case sqldb.ConstraintName(err) == "identity_os_login_profiles_organization_id_login_key":
		return errLoginTaken(p.Login)
	case sqldb.ConstraintName(err) == "identity_os_login_profiles_organization_id_uid_key":
		return errUIDTaken
	default:
		return fmt.Errorf("%s OS Login profile: %w", verb, err)
	}
}
