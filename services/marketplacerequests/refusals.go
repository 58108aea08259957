package marketplacerequests

import "github.com/bindery-iam/bindery/pkg/apierr"

// Every "no" of this unit, apart from those of the checker, of field constraints and of
// package request.
const (
	ReasonPublisherNotFound = "PUBLISHER_NOT_FOUND"
	ReasonPublisherExists   = "PUBLISHER_EXISTS"    // MR-4: one for a billing account
	ReasonPublisherNotEmpty = "PUBLISHER_NOT_EMPTY" // MR-21
	ReasonUserNotFound      = "USER_NOT_FOUND"      // MR-16
	ReasonProductNotFound   = "PRODUCT_NOT_FOUND"
	ReasonSlugTaken         = "SLUG_TAKEN"             // MR-3
	ReasonProductState      = "PRODUCT_STATE"          // MR-3, MR-20
	ReasonNotOnRequest      = "PRODUCT_NOT_ON_REQUEST" // MR-2
	ReasonNotEligible       = "REQUESTER_NOT_ELIGIBLE" // MR-24
	ReasonInstanceNotFound  = "PRODUCT_INSTANCE_NOT_FOUND"
	ReasonInstanceNameTaken = "PRODUCT_INSTANCE_NAME_TAKEN"
	ReasonParentDeleted     = "PARENT_DELETED"
)

var (
	errPublisherNotFound = apierr.NotFound(ReasonPublisherNotFound, "there is no such publisher")
	errPublisherExists   = apierr.AlreadyExists(ReasonPublisherExists, "the billing account has a publisher already")
	errPublisherNotEmpty = apierr.Precondition(ReasonPublisherNotEmpty, "the publisher has products that are not archived")
	errPublisherLeaving  = apierr.Precondition(ReasonPublisherNotEmpty, "the publisher is being deleted")
	errUserNotFound      = apierr.NotFound(ReasonUserNotFound, "no account has that address or name")
	errProductNotFound   = apierr.NotFound(ReasonProductNotFound, "there is no such product")
	errSlugTaken         = apierr.AlreadyExists(ReasonSlugTaken, "the name in links belongs to another product, or did")
	errProductState      = apierr.Precondition(ReasonProductState, "the state of the product does not allow it")
	errNotOnRequest      = apierr.Precondition(ReasonNotOnRequest, "the product is available to all: no request is needed")
	errNotEligible       = apierr.Precondition(ReasonNotEligible, "only people ask for access to a product")
	errInstanceNotFound  = apierr.NotFound(ReasonInstanceNotFound, "there is no such installed product")
	errInstanceNameTaken = apierr.AlreadyExists(ReasonInstanceNameTaken, "the folder has an installed product of that name")
	errParentDeleted     = apierr.Precondition(ReasonParentDeleted, "what it lies in was deleted meanwhile")
)

func productState(p Product, what string) error {
	return errProductState.Withf("the product is %s: it cannot be %s", p.State, what).WithMeta("state", string(p.State))
}
