package identity

import (
	"context"
	"database/sql"
	"errors"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// LinkUser lets a user sign in by an account of a provider. Fails: USER_NOT_FOUND,
// EXTERNAL_LOGIN_TAKEN.
func (s *operators) LinkUser(ctx context.Context, req *identityv1.LinkUserRequest) (*identityv1.LinkUserResponse, error) {
	var u User
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if err := s.lockExternalLogin(ctx, tx, req.GetIssuer(), req.GetSubject()); err != nil {
			return err
		}
		if u, err = s.store.LockUser(ctx, tx, req.GetLogin()); err != nil {
			return err
		}
		if !u.exists() {
			return errUserNotFound
		}
		switch before, err := s.store.UserByExternalLogin(ctx, tx, req.GetIssuer(), req.GetSubject()); {
		case err == nil && before.ID == u.ID:
			return nil
		case err == nil:
			return errExternalLoginTaken
		case !errors.Is(err, errUserNotFound):
			return err
		}
		if err := s.store.InsertExternalLogin(ctx, tx, req.GetIssuer(), req.GetSubject(), u.ID, s.now()); err != nil {
			return err
		}
		return s.record(ctx, tx, "LinkUser", u.ID, map[string]any{"login": u.Login, "issuer": req.GetIssuer(), "subject": req.GetSubject()})
	})
	if err != nil {
		return nil, err
	}
	return &identityv1.LinkUserResponse{Id: u.ID}, nil
}

// UnlinkUser ends that somebody may sign in by an account of a provider. Fails:
// EXTERNAL_LOGIN_NOT_FOUND.
func (s *operators) UnlinkUser(ctx context.Context, req *identityv1.UnlinkUserRequest) (*identityv1.UnlinkUserResponse, error) {
	var u User
	err := sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if err := s.lockExternalLogin(ctx, tx, req.GetIssuer(), req.GetSubject()); err != nil {
			return err
		}
		u, err = s.store.UserByExternalLogin(ctx, tx, req.GetIssuer(), req.GetSubject())
		if errors.Is(err, errUserNotFound) {
			return errExternalLoginNotFound
		}
		if err != nil {
			return err
		}
		if err := s.store.DeleteExternalLogin(ctx, tx, req.GetIssuer(), req.GetSubject()); err != nil {
			return err
		}
		return s.record(ctx, tx, "UnlinkUser", u.ID, map[string]any{"login": u.Login, "issuer": req.GetIssuer(), "subject": req.GetSubject()})
	})
	if err != nil {
		return nil, err
	}
	return &identityv1.UnlinkUserResponse{Id: u.ID}, nil
}

// lockExternalLogin makes those follow one another who change by which account of a
// provider somebody signs in.
func (s *Service) lockExternalLogin(ctx context.Context, tx *sql.Tx, issuer, subject string) error {
	return sqldb.Lock(ctx, s.store.db, tx, "external login "+issuer+" "+subject)
}
