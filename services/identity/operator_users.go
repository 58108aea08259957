package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// Kinds of the jobs that tell the permission checker whether a user may act, and
// that a user is gone. Their payload is a registration.
const (
	jobSetState   = "set-user-state"
	jobDeleteUser = "delete-user"
)

// ListUsers reads one page of all users of the platform, by id. Those of a federation
// are listed by its FederationService.
func (s *operators) ListUsers(ctx context.Context, req *identityv1.ListUsersRequest) (*identityv1.ListUsersResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "login", "email", "id")
	if err != nil {
		return nil, err
	}
	scope := []string{"users", f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	users, err := s.store.ListUsers(ctx, f, after.ID, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(identityv1.ListUsersResponse)
	for _, u := range users {
		resp.Users = append(resp.Users, u.operators())
	}
	if fit := page.Fit(min(len(users), size), func(i int) int { return proto.Size(resp.GetUsers()[i]) }); fit < len(users) {
		resp.Users = resp.GetUsers()[:fit]
		resp.NextPageToken, err = s.pages.Seal(page.Position{ID: users[fit-1].ID}, scope...)
	}
	return resp, err
}

// ListUsers reads at most limit users of the platform with an id after another one.
func (s *Store) ListUsers(ctx context.Context, f filter.Filter, after string, limit int) ([]User, error) {
	where, args := `WHERE u.id > $1 AND u.federation_id = ''`, []any{after, limit}
	switch f.Field {
	case "login":
		where, args = where+` AND u.login_folded = $3`, append(args, fold(f.Value))
	case "email":
		where, args = where+` AND u.email_folded = $3`, append(args, email.Fold(f.Value))
	case "id":
		where, args = where+` AND u.id = $3`, append(args, f.Value)
	}
	return s.users(ctx, s.db, where+` ORDER BY u.id LIMIT $2`, args...)
}

// operators is a user as the operator sees it.
func (u User) operators() *identityv1.OperatorUser {
	msg := &identityv1.OperatorUser{
		Id: u.ID, Login: u.Login, Email: u.Email, CreatedAt: timestamppb.New(u.CreatedAt), SuspendReason: u.SuspendReason,
		State: identityv1.OperatorUser_ACTIVE,
	}
	switch {
	case u.Deleting:
		msg.State = identityv1.OperatorUser_DELETING
	case u.State == Creating:
		msg.State = identityv1.OperatorUser_CREATING
	case !u.SuspendedAt.IsZero():
		msg.State = identityv1.OperatorUser_SUSPENDED
	}
	if !u.LastAuthenticatedAt.IsZero() {
		msg.LastAuthenticatedAt = timestamppb.New(u.LastAuthenticatedAt)
	}
	return msg
}

// SuspendUser stops a user everywhere before it answers. An owner is stopped like
// anybody else, the last one, too: the ownership stays (OW-1), and whom an attacker
// acts as must be stopped. Fails: USER_NOT_FOUND, UNAVAILABLE while the permission
// checker is away, which is told as soon as it is back.
func (s *operators) SuspendUser(ctx context.Context, req *identityv1.SuspendUserRequest) (*identityv1.SuspendUserResponse, error) {
	u, err := s.changeUser(ctx, req.GetLogin(), "SuspendUser", jobSetState, func(u *User) {
		if u.SuspendedAt.IsZero() {
			u.SuspendedAt = s.now()
		}
		u.SuspendReason = req.GetReason()
	})
	if err != nil {
		return nil, err
	}
	return &identityv1.SuspendUserResponse{User: u.operators()}, nil
}

// ReactivateUser ends a suspension before it answers. Fails as SuspendUser does.
func (s *operators) ReactivateUser(ctx context.Context, req *identityv1.ReactivateUserRequest) (*identityv1.ReactivateUserResponse, error) {
	u, err := s.changeUser(ctx, req.GetLogin(), "ReactivateUser", jobSetState, func(u *User) {
		u.SuspendedAt, u.SuspendReason = sqldb.Time(0), ""
	})
	if err != nil {
		return nil, err
	}
	return &identityv1.ReactivateUserResponse{User: u.operators()}, nil
}

// DeleteUser deletes a user with all that it holds. Fails: USER_NOT_FOUND,
// LAST_OWNER, after which everything is as before; UNAVAILABLE while the permission
// checker is away: the user may not sign in any more and is deleted later.
func (s *operators) DeleteUser(ctx context.Context, req *identityv1.DeleteUserRequest) (*identityv1.DeleteUserResponse, error) {
	u, err := s.changeUser(ctx, req.GetLogin(), "DeleteUser", jobDeleteUser, func(u *User) { u.Deleting = true })
	if err != nil {
		return nil, err
	}
	return &identityv1.DeleteUserResponse{Id: u.ID}, nil
}

// changeUser changes a user that exists, and tells the permission checker by a job
// before it returns.
func (s *Service) changeUser(ctx context.Context, login, event, job string, change func(*User)) (u User, err error) {
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if u, err = s.store.LockUser(ctx, tx, login); err != nil {
			return err
		}
		if u.State != Active || u.Deleting && job != jobDeleteUser {
			return errUserNotFound
		}
		change(&u)
		if err := s.store.UpdateUser(ctx, tx, u); err != nil {
			return err
		}
		if err := s.record(ctx, tx, event, u.ID, map[string]any{"login": u.Login}); err != nil {
			return err
		}
		_, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: job, Payload: registration{u.ID}})
		return err
	})
	if err != nil {
		return User{}, err
	}
	// The job comes a lease later and finds it done, unless this process dies.
	if job == jobDeleteUser {
		err = s.deleteUser(ctx, registration{u.ID})
	} else {
		err = s.setState(ctx, registration{u.ID})
	}
	return u, err
}

// LockUser is UserByLogin that keeps other transactions from changing the user.
func (s *Store) LockUser(ctx context.Context, tx *sql.Tx, login string) (User, error) {
	return scanUser(tx.QueryRowContext(ctx, selectUser+`WHERE u.login_folded = $1 AND u.federation_id = ''`+s.db.ForUpdate(), fold(login)))
}

// UpdateUser writes whether a user may act and is being deleted.
func (s *Store) UpdateUser(ctx context.Context, tx *sql.Tx, u User) error {
	deleting := 0
	if u.Deleting {
		deleting = 1
	}
	_, err := tx.ExecContext(ctx, `UPDATE identity_users SET suspended_at = $2, suspend_reason = $3, deleting = $4 WHERE id = $1`,
		u.ID, sqldb.Micros(u.SuspendedAt), u.SuspendReason, deleting)
	if err != nil {
		return fmt.Errorf("update user: %w", err)
	}
	return nil
}

// setState tells the permission checker whether a user may act, as the user stands,
// until both agree: two at once may tell it in any order.
func (s *Service) setState(ctx context.Context, r registration) error {
	for told := (*bool)(nil); ; {
		u, err := s.store.User(ctx, s.store.db, r.UserID)
		if errors.Is(err, errUserNotFound) || err == nil && u.Deleting {
			return nil // its end is told by another job
		}
		if err != nil {
			return err
		}
		suspended := !u.SuspendedAt.IsZero()
		if told != nil && *told == suspended {
			return nil
		}
		state := accessv1.SetSubjectRequest_ACTIVE
		if suspended {
			state = accessv1.SetSubjectRequest_SUSPENDED
		}
		if err := s.tellState(ctx, r.UserID, state); err != nil {
			return err
		}
		told = &suspended
	}
}

func (s *Service) tellState(ctx context.Context, userID string, state accessv1.SetSubjectRequest_State) error {
	_, err := s.subjects.SetSubject(server.AsUnit(ctx), &accessv1.SetSubjectRequest{
		Subject: &accessv1.Subject{Type: subjectTypeOf(userID), Id: userID}, State: state,
	})
	if err != nil {
		return fmt.Errorf("set subject: %w", apierr.FromRPC(err))
	}
	return nil
}

// deleteUser makes the end of a user known to the permission checker, which drops
// its roles and memberships, and then removes its row, with its credentials. A
// refusal takes the deletion back and is returned.
func (s *Service) deleteUser(ctx context.Context, r registration) error {
	u, err := s.store.User(ctx, s.store.db, r.UserID)
	if errors.Is(err, errUserNotFound) || err == nil && !u.Deleting {
		return nil // done before, or taken back
	}
	if err != nil {
		return err
	}
	refusal := s.tellState(ctx, u.ID, accessv1.SetSubjectRequest_DELETED)
	if refusal != nil && !final(refusal) {
		return refusal
	}
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		if refusal == nil {
			for _, also := range s.deletions {
				if err := also(ctx, tx, u.ID); err != nil {
					return err
				}
			}
			return s.store.DeleteUser(ctx, tx, u.ID)
		}
		u.Deleting = false
		if err := s.store.UpdateUser(ctx, tx, u); err != nil {
			return err
		}
		return s.record(ctx, tx, "KeepUser", u.ID, map[string]any{"login": u.Login, "reason": apierr.ReasonOf(refusal)})
	})
	return errors.Join(refusal, err)
}

// DeleteUser removes a user with its credentials; one that is not there changes
// nothing.
func (s *Store) DeleteUser(ctx context.Context, tx *sql.Tx, userID string) error {
	if _, err := tx.ExecContext(ctx, `DELETE FROM identity_users WHERE id = $1`, userID); err != nil {
		return fmt.Errorf("delete user: %w", err)
	}
	return nil
}

// deleteUserJob is deleteUser as a job: one that was refused is over.
func (s *Service) deleteUserJob(ctx context.Context, r registration) error {
	if err := s.deleteUser(ctx, r); err != nil && !final(err) {
		return err
	}
	return nil
}
