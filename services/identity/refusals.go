package identity

import "github.com/bindery-iam/bindery/pkg/apierr"

// Reasons of this unit.
const (
	ReasonLoginTaken         = "LOGIN_TAKEN"
	ReasonEmailTaken         = "EMAIL_TAKEN"
	ReasonUserNotFound       = "USER_NOT_FOUND"
	ReasonCredentialsInvalid = "CREDENTIALS_INVALID"
)

// Every "no" of this unit.
var (
	errLoginTaken   = apierr.AlreadyExists(ReasonLoginTaken, "a user with this login exists")
	errEmailTaken   = apierr.AlreadyExists(ReasonEmailTaken, "a user with this e-mail address exists")
	errUserNotFound = apierr.NotFound(ReasonUserNotFound, "user not found")

	errOAuthToken = apierr.Unauthenticated(ReasonCredentialsInvalid, "yandex_passport_oauth_token is not a token of a user of this installation")
	errJWT        = apierr.Unauthenticated(ReasonCredentialsInvalid, "jwt is not signed by a key of this installation: no service account has keys here")
	errNoIdentity = apierr.Unauthenticated(ReasonCredentialsInvalid, "the request holds no credentials")

	errWithdrawn = apierr.Unavailable(apierr.ReasonUnavailable, "the user could not be registered and was withdrawn, try again")

	errNoServiceAccounts = apierr.Unimplemented("tokens of service accounts are not issued by this version")
)
