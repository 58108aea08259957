package identity

import (
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/id"
)

// Reasons of this unit.
const (
	ReasonLoginTaken         = "LOGIN_TAKEN"
	ReasonEmailTaken         = "EMAIL_TAKEN"
	ReasonUserNotFound       = "USER_NOT_FOUND"
	ReasonCredentialsInvalid = "CREDENTIALS_INVALID"

	ReasonKeyScoped = "API_KEY_SCOPED"

	ReasonAPIKeyNotFound    = "API_KEY_NOT_FOUND"
	ReasonAccessKeyNotFound = "ACCESS_KEY_NOT_FOUND"

	ReasonAccountNotFound      = "SERVICE_ACCOUNT_NOT_FOUND"
	ReasonAccountNameTaken     = "SERVICE_ACCOUNT_NAME_TAKEN" // NM-3
	ReasonAccountNotActive     = "SERVICE_ACCOUNT_NOT_ACTIVE" // SK-1
	ReasonAccountBusy          = "SERVICE_ACCOUNT_BUSY"       // one change after the other
	ReasonBeingDeleted         = "BEING_DELETED"
	ReasonAccountParentDeleted = "PARENT_DELETED" // what an operation ends with that the folder's deletion overtook

	ReasonAuthorizedKeyNotFound = "AUTHORIZED_KEY_NOT_FOUND"
	ReasonRefreshTokenNotFound  = "REFRESH_TOKEN_NOT_FOUND"

	ReasonExternalLoginTaken    = "EXTERNAL_LOGIN_TAKEN"
	ReasonExternalLoginNotFound = "EXTERNAL_LOGIN_NOT_FOUND"

	ReasonFederationNotFound          = "FEDERATION_NOT_FOUND"
	ReasonFederationNameTaken         = "FEDERATION_NAME_TAKEN"
	ReasonFederatedCredentialNotFound = "FEDERATED_CREDENTIAL_NOT_FOUND"
	ReasonFederatedCredentialExists   = "FEDERATED_CREDENTIAL_EXISTS"
	ReasonIssuerUnavailable           = "ISSUER_UNAVAILABLE"
)

// Every "no" of this unit.
var (
	errLoginTaken   = apierr.AlreadyExists(ReasonLoginTaken, "a user with this login exists")
	errEmailTaken   = apierr.AlreadyExists(ReasonEmailTaken, "a user with this e-mail address exists")
	errUserNotFound = apierr.NotFound(ReasonUserNotFound, "user not found")

	errOAuthToken = apierr.Unauthenticated(ReasonCredentialsInvalid, "yandex_passport_oauth_token is not a token of a user of this installation")
	errJWT        = apierr.Unauthenticated(ReasonCredentialsInvalid, "jwt is not good") // whatever is wrong with it
	errNoIdentity = apierr.Unauthenticated(ReasonCredentialsInvalid, "the request holds no credentials")

	errRefreshToken         = apierr.Unauthenticated(ReasonCredentialsInvalid, "refresh_token is not good") // whatever is wrong with it
	errSessionOver          = apierr.Unauthenticated(apierr.ReasonTokenExpired, "the session of the IAM token is over")
	errRefreshTokenNotFound = apierr.NotFound(ReasonRefreshTokenNotFound, "refresh token not found")
	errKeyScoped            = apierr.Denied(ReasonKeyScoped, "the API key is restricted to scopes, and a token has none: use the key itself")

	errExternalLoginTaken    = apierr.AlreadyExists(ReasonExternalLoginTaken, "another user signs in by this account of the provider")
	errExternalLoginNotFound = apierr.NotFound(ReasonExternalLoginNotFound, "nobody signs in by this account of the provider")

	// One answer for every bad credential, so that it tells nothing.
	errCredential = apierr.Unauthenticated(ReasonCredentialsInvalid, "the credentials are not valid")

	errSubjectToken = apierr.Unauthenticated(ReasonCredentialsInvalid, "subject_token is not good for the service account") // whatever is wrong with it
	errIssuerKeys   = apierr.Unavailable(ReasonIssuerUnavailable, "the keys of the token's issuer cannot be read at the moment, try again")

	errFederationParentDeleted   = apierr.Precondition(ReasonAccountParentDeleted, "the folder of the federation was deleted")
	errFederatedCredentialExists = apierr.AlreadyExists(ReasonFederatedCredentialExists, "the service account has a credential for this subject of the federation")

	errWithdrawn = apierr.Unavailable(apierr.ReasonUnavailable, "the user could not be registered and was withdrawn, try again")

	errDescription          = apierr.InvalidField("description", "must be valid UTF-8 without NUL")
	errPastEnd              = apierr.InvalidField("expires_at", "must be later than now")
	errAccountParentDeleted = apierr.Precondition(ReasonAccountParentDeleted, "the folder of the service account was deleted")
)

func errFederationNotFound(federationID string) *apierr.Error {
	return apierr.NotFound(ReasonFederationNotFound, "workload identity federation %s not found", federationID)
}

func errFederationNameTaken(name string) *apierr.Error {
	return apierr.AlreadyExists(ReasonFederationNameTaken, "a workload identity federation named %q exists in the folder", name)
}

func errAccountNotFound(accountID string) *apierr.Error {
	return apierr.NotFound(ReasonAccountNotFound, "service account %s not found", accountID)
}

// errAuthorizedKeyNotFound repeats an id only: a key itself may have been sent instead.
func errAuthorizedKeyNotFound(keyID string) *apierr.Error {
	if !id.Valid(keyID) {
		return apierr.NotFound(ReasonAuthorizedKeyNotFound, "authorized key not found")
	}
	return apierr.NotFound(ReasonAuthorizedKeyNotFound, "authorized key %s not found", keyID)
}

func errAccountNameTaken(name string) *apierr.Error {
	return apierr.AlreadyExists(ReasonAccountNameTaken, "a service account named %q exists in the cloud", name)
}

func errAccountNotActive(a ServiceAccount, now time.Time) *apierr.Error {
	if a.State == Active && !a.MayAct(now) {
		return apierr.Precondition(ReasonAccountNotActive, "service account %s has ended", a.ID)
	}
	return apierr.Precondition(ReasonAccountNotActive, "service account %s is %s", a.ID, a.State)
}

func errAccountBusy(a ServiceAccount) *apierr.Error {
	return apierr.Conflict(ReasonAccountBusy, "operation %s on service account %s is under way: try again when it is done", a.Operation, a.ID)
}

func errAccountBeingDeleted(a ServiceAccount) *apierr.Error {
	return apierr.Precondition(ReasonBeingDeleted, "service account %s is being deleted", a.ID)
}
