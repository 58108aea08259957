package notifications

import "github.com/bindery-iam/bindery/pkg/apierr"

// Every "no" of this unit, apart from those of the checker and of field constraints.
const (
	ReasonNotInOrganization  = "USER_NOT_IN_ORGANIZATION" // RH-6: strangers are told nothing
	ReasonNoticeTooShort     = "NOTICE_TOO_SHORT"         // NT-4
	ReasonTooManySubscribers = "TOO_MANY_SUBSCRIBERS"
)

// maxSubscribers is how many subscribers a resource has at most.
const maxSubscribers = 100

func errNotInOrganization(userID string) *apierr.Error {
	return apierr.Precondition(ReasonNotInOrganization, "user %s is no active member of the organization", userID)
}

var errTooShort = apierr.Precondition(ReasonNoticeTooShort,
	"planned work is announced %d calendar days ahead; where that is impossible, say that it is late", daysAhead)

var errTooManySubscribers = apierr.Precondition(ReasonTooManySubscribers, "a resource has at most %d subscribers", maxSubscribers)
