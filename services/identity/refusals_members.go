package identity

import "github.com/bindery-iam/bindery/pkg/apierr"

// Reasons about members of organizations and those who are invited.
const (
	ReasonInvitationNotFound   = "INVITATION_NOT_FOUND"
	ReasonInvitationForAnother = "INVITATION_FOR_ANOTHER"    // the caller is not the invited person
	ReasonInvitationNotPending = "INVITATION_NOT_PENDING"    // answered, taken back or expired
	ReasonInvitationExists     = "INVITATION_EXISTS"         // the address has a pending one
	ReasonSentTooOften         = "INVITATION_SENT_TOO_OFTEN" // maxSends
	ReasonAlreadyMember        = "ALREADY_MEMBER"
	ReasonMembershipNotFound   = "MEMBERSHIP_NOT_FOUND"
	ReasonSubjectNotFound      = "SUBJECT_NOT_FOUND"
)

// Every "no" about them.
var (
	errInvitationNotFound   = apierr.NotFound(ReasonInvitationNotFound, "invitation not found")
	errInvitationForAnother = apierr.Denied(ReasonInvitationForAnother, "the invitation is not for the caller")
	errSentTooOften         = apierr.Precondition(ReasonSentTooOften, "an invitation is sent %d times at most", maxSends)
	errAlreadyMember        = apierr.AlreadyExists(ReasonAlreadyMember, "the invited person is a member of the organization")
	errMembershipNotFound   = apierr.NotFound(ReasonMembershipNotFound, "the subject is no member of the organization")
	errSubjectHidden        = apierr.Denied(apierr.ReasonPermissionDenied, "permission %s on an organization of the subject is missing", permMembers)
	errSubjectNotFound      = apierr.NotFound(ReasonSubjectNotFound, "subject not found")
)

func errInvitationExists(address string) *apierr.Error {
	return apierr.AlreadyExists(ReasonInvitationExists, "%s has a pending invitation to the organization", address)
}

func errInvitationNotPending(i Invitation) *apierr.Error {
	return apierr.Precondition(ReasonInvitationNotPending, "the invitation is %s", publicState[i.State]).WithMeta("state", publicState[i.State].String())
}
