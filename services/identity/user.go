package identity

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// users is yandex.cloud.iam.v1.UserAccountService.
type users struct {
	iamv1.UnimplementedUserAccountServiceServer
	*Service
}

// Get returns a user. Fails: USER_NOT_FOUND.
func (s *users) Get(ctx context.Context, req *iamv1.GetUserAccountRequest) (*iamv1.UserAccount, error) {
	if err := sqldb.CheckText(req.GetUserAccountId()); err != nil {
		return nil, apierr.InvalidField("user_account_id", "must not contain NUL")
	}
	u, err := s.store.User(ctx, s.store.db, req.GetUserAccountId())
	return s.shown(ctx, u, err)
}

// logins is yandex.cloud.iam.v1.YandexPassportUserAccountService.
type logins struct {
	iamv1.UnimplementedYandexPassportUserAccountServiceServer
	*Service
}

// GetByLogin returns the user with a login, whatever its case (TK-6). Fails:
// USER_NOT_FOUND.
func (s *logins) GetByLogin(ctx context.Context, req *iamv1.GetUserAccountByLoginRequest) (*iamv1.UserAccount, error) {
	if err := sqldb.CheckText(req.GetLogin()); err != nil {
		return nil, apierr.InvalidField("login", "must not contain NUL")
	}
	u, err := s.store.UserByLogin(ctx, s.store.db, req.GetLogin())
	return s.shown(ctx, u, err)
}

// shown is the public message of a user; one that is being created or deleted is not
// there. Who knows a login or an id is told the other, since roles are given by them.
// The e-mail address and the time of the last visit are for the user itself and for
// who may see them in an organization of the user.
func (s *Service) shown(ctx context.Context, u User, err error) (*iamv1.UserAccount, error) {
	if err == nil && !u.exists() {
		err = errUserNotFound
	}
	if err != nil {
		return nil, err
	}
	account := &iamv1.YandexPassportUserAccount{Login: u.Login}
	msg := &iamv1.UserAccount{
		Id: u.ID, UserAccount: &iamv1.UserAccount_YandexPassportUserAccount{YandexPassportUserAccount: account},
	}
	if u.FederationID != "" {
		msg.UserAccount = &iamv1.UserAccount_SamlUserAccount{SamlUserAccount: &iamv1.SamlUserAccount{FederationId: u.FederationID, NameId: u.Login}}
	}
	v, err := s.viewerOf(ctx, nil, nil, "")
	if err != nil {
		return nil, err
	}
	seen, err := v.show(ctx, entity{user: &u})
	if err != nil {
		return nil, err
	}
	account.DefaultEmail, msg.LastAuthenticatedAt = seen.GetUserAccount().GetEmail(), seen.GetLastAuthenticatedAt()
	return msg, nil
}
