package identity

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

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
	return shown(s.store.User(ctx, s.store.db, req.GetUserAccountId()))
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
	return shown(s.store.UserByLogin(ctx, s.store.db, req.GetLogin()))
}

// shown is the public message of a user; one that is being created is not there.
func shown(u User, err error) (*iamv1.UserAccount, error) {
	if err == nil && u.State != Active {
		err = errUserNotFound
	}
	if err != nil {
		return nil, err
	}
	msg := &iamv1.UserAccount{
		Id: u.ID,
		UserAccount: &iamv1.UserAccount_YandexPassportUserAccount{
			YandexPassportUserAccount: &iamv1.YandexPassportUserAccount{Login: u.Login, DefaultEmail: u.Email},
		},
	}
	if !u.LastAuthenticatedAt.IsZero() {
		msg.LastAuthenticatedAt = timestamppb.New(u.LastAuthenticatedAt)
	}
	return msg, nil
}
