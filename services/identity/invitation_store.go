package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

const invitationColumns = `id, organization_id, organization_name, email, state, created_by, created_at, expires_at, sends, sent_at, answered_by, ended_at, operation`

// InsertInvitation adds an invitation. Fails: INVITATION_EXISTS for an address that
// has an open one of the organization.
func (s *Store) InsertInvitation(ctx context.Context, tx *sql.Tx, i Invitation) error {
	res, err := tx.ExecContext(ctx, `
		INSERT INTO identity_invitations (`+invitationColumns+`) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING`,
		i.ID, i.OrganizationID, i.OrganizationName, i.Email, string(i.State), i.CreatedBy, sqldb.Micros(i.CreatedAt),
		sqldb.Micros(i.ExpiresAt), i.Sends, sqldb.Micros(i.SentAt), i.AnsweredBy, sqldb.Micros(i.EndedAt), i.Operation)
	if err != nil {
		return fmt.Errorf("insert invitation: %w", err)
	}
	if n, err := res.RowsAffected(); err != nil {
		return fmt.Errorf("insert invitation: %w", err)
	} else if n == 0 {
		return errInvitationExists(i.Email)
	}
	return nil
}

// UpdateInvitation writes what can change of an invitation, which the caller has
// locked.
func (s *Store) UpdateInvitation(ctx context.Context, tx *sql.Tx, i Invitation) error {
	_, err := tx.ExecContext(ctx, `
		UPDATE identity_invitations
		SET state = $2, expires_at = $3, sends = $4, sent_at = $5, answered_by = $6, ended_at = $7, operation = $8
		WHERE id = $1`,
		i.ID, string(i.State), sqldb.Micros(i.ExpiresAt), i.Sends, sqldb.Micros(i.SentAt), i.AnsweredBy, sqldb.Micros(i.EndedAt), i.Operation)
	if err != nil {
		return fmt.Errorf("update invitation: %w", err)
	}
	return nil
}

// Invitation reads an invitation. Fails: INVITATION_NOT_FOUND.
func (s *Store) Invitation(ctx context.Context, q sqldb.Querier, invitationID string) (Invitation, error) {
	return s.invitation(ctx, q, invitationID, "")
}

// LockInvitation is Invitation that keeps other transactions from changing it. Who
// also takes lockInvitations takes it before.
func (s *Store) LockInvitation(ctx context.Context, tx *sql.Tx, invitationID string) (Invitation, error) {
	return s.invitation(ctx, tx, invitationID, s.db.ForUpdate())
}

func (s *Store) invitation(ctx context.Context, q sqldb.Querier, invitationID, suffix string) (Invitation, error) {
	i, err := scanInvitation(q.QueryRowContext(ctx, `SELECT `+invitationColumns+` FROM identity_invitations WHERE id = $1`+suffix, invitationID))
	if errors.Is(err, sql.ErrNoRows) {
		return Invitation{}, errInvitationNotFound
	}
	return i, err
}

// lockInvitations makes those follow one another who make invitations of an
// organization pending, marks those that have expired, and returns how many are
// pending.
func (s *Store) lockInvitations(ctx context.Context, tx *sql.Tx, organizationID string, now time.Time) (pending int64, err error) {
	if err := sqldb.Lock(ctx, s.db, tx, "invitations of "+organizationID); err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, `
		UPDATE identity_invitations SET state = $3, ended_at = expires_at
		WHERE organization_id = $1 AND state = $2 AND expires_at <= $4`,
		organizationID, string(Pending), string(Expired), sqldb.Micros(now))
	if err != nil {
		return 0, fmt.Errorf("expire invitations: %w", err)
	}
	return s.CountPending(ctx, tx, organizationID, now)
}

// CountPending counts the invitations of an organization that can be answered.
func (s *Store) CountPending(ctx context.Context, q sqldb.Querier, organizationID string, now time.Time) (n int64, err error) {
	err = q.QueryRowContext(ctx, `
		SELECT COUNT(*) FROM identity_invitations
		WHERE organization_id = $1 AND (state = $2 AND expires_at > $4 OR state = $3)`,
		organizationID, string(Pending), string(Accepting), sqldb.Micros(now)).Scan(&n)
	if err != nil {
		return 0, fmt.Errorf("count invitations: %w", err)
	}
	return n, nil
}

// InvitationQuery narrows a list to those of an organization, to an address, or in a
// public state as of Now.
type InvitationQuery struct {
	OrganizationID, Email string
	State                 InvitationState // not Accepting
	Now                   time.Time
}

// ListInvitations reads at most limit invitations that follow after, newest first.
func (s *Store) ListInvitations(ctx context.Context, q sqldb.Querier, query InvitationQuery, after page.Position, limit int) ([]Invitation, error) {
	text, args := `SELECT `+invitationColumns+` FROM identity_invitations WHERE 0 = 0`, []any{limit}
	and := func(condition string, values ...any) {
		marks := make([]any, len(values))
		for i := range values {
			marks[i] = len(args) + 1 + i
		}
		args = append(args, values...)
		text += " AND " + fmt.Sprintf(condition, marks...)
	}
	if after != (page.Position{}) {
		and(`(created_at, id) < ($%d, $%d)`, after.Time, after.ID)
	}
	if query.OrganizationID != "" {
		and(`organization_id = $%d`, query.OrganizationID)
	}
	if query.Email != "" {
		and(`email = $%d`, query.Email)
	}
	now := sqldb.Micros(query.Now)
	switch query.State {
	case "":
	case Pending:
		and(`(state = $%d AND expires_at > $%d OR state = $%d)`, string(Pending), now, string(Accepting))
	case Expired:
		and(`(state = $%d OR state = $%d AND expires_at <= $%d)`, string(Expired), string(Pending), now)
	default:
		and(`state = $%d`, string(query.State))
	}
	rows, err := q.QueryContext(ctx, text+` ORDER BY created_at DESC, id DESC LIMIT $1`, args...)
	all, err := collect(rows, err, scanInvitation)
	if err != nil {
		return nil, fmt.Errorf("list invitations: %w", err)
	}
	return all, nil
}

// DeleteInvitationsOf removes the invitations of an organization that is gone.
func (s *Store) DeleteInvitationsOf(ctx context.Context, tx *sql.Tx, organizationID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM identity_invitations WHERE organization_id = $1`, organizationID); err != nil {
		return fmt.Errorf("delete invitations: %w", err)
	}
	return nil
}

func scanInvitation(row row) (Invitation, error) {
	var i Invitation
	var created, expires, sent, ended int64
	err := row.Scan(&i.ID, &i.OrganizationID, &i.OrganizationName, &i.Email, &i.State, &i.CreatedBy, &created, &expires,
		&i.Sends, &sent, &i.AnsweredBy, &ended, &i.Operation)
	if err != nil {
		return Invitation{}, fmt.Errorf("read invitation: %w", err)
	}
	i.CreatedAt, i.ExpiresAt, i.SentAt, i.EndedAt = sqldb.Time(created), sqldb.Time(expires), sqldb.Time(sent), sqldb.Time(ended)
	return i, nil
}
