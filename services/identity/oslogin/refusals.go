package oslogin

import "github.com/bindery-iam/bindery/pkg/apierr"

// Reasons of refusals.
const (
	ReasonProfileNotFound      = "OS_LOGIN_PROFILE_NOT_FOUND"
	ReasonLoginTaken           = "OS_LOGIN_TAKEN"
	ReasonUIDTaken             = "OS_LOGIN_UID_TAKEN"
	ReasonProfileIsDefault     = "OS_LOGIN_PROFILE_IS_DEFAULT"
	ReasonKeyNotFound          = "USER_SSH_KEY_NOT_FOUND"
	ReasonKeyExists            = "USER_SSH_KEY_EXISTS"
	ReasonOwnKeysNotAllowed    = "OWN_SSH_KEYS_NOT_ALLOWED"
	ReasonCertificatesDisabled = "SSH_CERTIFICATES_DISABLED"
)

// Every "no" about signing in to machines.
var (
	errProfileNotFound  = apierr.NotFound(ReasonProfileNotFound, "OS Login profile not found")
	errNoSuchProfile    = apierr.NotFound(ReasonProfileNotFound, "the organization has no such OS Login profile of the subject")
	errUIDTaken         = apierr.AlreadyExists(ReasonUIDTaken, "the uid is that of another OS Login profile of the organization")
	errProfileIsDefault = apierr.Precondition(ReasonProfileIsDefault, "the profile is the default one of its subject, which has others: make one of them the default first")
	errKeyNotFound      = apierr.NotFound(ReasonKeyNotFound, "SSH key not found")
	errKeyExists        = apierr.AlreadyExists(ReasonKeyExists, "the subject has this SSH key in the organization")
	errCertificatesOff  = apierr.Precondition(ReasonCertificatesDisabled, "the organization does not allow SSH certificates: OsLoginService.UpdateSettings")

	errPastEnd = apierr.InvalidField("expires_at", "must be later than now")
)

func errLoginTaken(login string) *apierr.Error {
	return apierr.AlreadyExists(ReasonLoginTaken, "an OS Login profile with the login %s exists in the organization", login)
}

func errOwnKeys(permission string) *apierr.Error {
	return apierr.Denied(ReasonOwnKeysNotAllowed, "the organization does not let members manage their own SSH keys, and permission %s on it is missing", permission)
}
