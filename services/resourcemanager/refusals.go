package resourcemanager

import (
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// Every "no" of this service, apart from those of the checker, of field
// constraints and of quotas (QL-2). Those that exist for several kinds begin with
// the kind's name: CLOUD_NOT_FOUND, FOLDER_NOT_ACTIVE.
const (
	suffixNotFound  = "_NOT_FOUND"
	suffixNotActive = "_NOT_ACTIVE" // DL-15; also while it is made or deleted

	ReasonFolderNameTaken      = "FOLDER_NAME_TAKEN"           // NM-3
	ReasonNotFirstCloud        = "NOT_FIRST_CLOUD"             // CR-3
	ReasonServiceAccount       = "SERVICE_ACCOUNT_NOT_ALLOWED" // SU-9
	ReasonOrganizationNotEmpty = "ORGANIZATION_NOT_EMPTY"      // an organization goes last
	ReasonNotPendingDeletion   = "NOT_PENDING_DELETION"        // DL-7
	ReasonBeingDeleted         = "BEING_DELETED"               // DL-6: irrevocable
	ReasonDeletionCancelled    = "DELETION_CANCELLED"          // what a cancelled deletion's operation ends with
	ReasonDeletionReplaced     = "DELETION_REPLACED"           // what it ends with when another one took its place
	ReasonQuotaRequestNotFound = "QUOTA_REQUEST_NOT_FOUND"     // nobody has made it
	ReasonQuotaRequestPending  = "QUOTA_REQUEST_PENDING"       // another one asks for the same quota
	ReasonQuotaNotRequested    = "QUOTA_NOT_REQUESTED"         // the request is not about it
	ReasonQuotaDecided         = "QUOTA_DECIDED"               // approved, rejected or cancelled (QL-4)
	ReasonParentDeleted        = "PARENT_DELETED"              // what a creation ends with that its parent's deletion overtook
)

func errNotFound(k *kind, resourceID string) *apierr.Error {
	return apierr.NotFound(k.upper+suffixNotFound, "%s %s not found", k.name, resourceID)
}

func errNotActive(k *kind, r Resource) *apierr.Error {
	return apierr.Precondition(k.upper+suffixNotActive, "%s %s is %s", k.name, r.ID, r.Status)
}

func errNameTaken(name string) *apierr.Error {
	return apierr.AlreadyExists(ReasonFolderNameTaken, "a folder named %q exists in the cloud", name)
}

var (
	errNotFirstCloud = apierr.Invalid(apierr.Field{
		Name:    "organization_id",
		Message: "must name an organization: you are a member of one that has a cloud, and only the first cloud is made with an organization of its own",
	}).WithMeta("rule", ReasonNotFirstCloud)
	errServiceAccount    = apierr.Denied(ReasonServiceAccount, "a service account belongs to one organization and cannot make another")
	errDeletionCancelled = apierr.New(codes.Canceled, ReasonDeletionCancelled, "the deletion was cancelled")
	errDeletionReplaced  = apierr.New(codes.Canceled, ReasonDeletionReplaced, "another deletion took its place")
	errParentDeleted     = apierr.Precondition(ReasonParentDeleted, "what it was to be made in was deleted")
)

func errOrganizationNotEmpty(organizationID string, clouds int64) *apierr.Error {
	return apierr.Precondition(ReasonOrganizationNotEmpty, "organization %s has %d clouds that are not being deleted", organizationID, clouds)
}

func errNotPendingDeletion(k *kind, r Resource) *apierr.Error {
	return apierr.Precondition(ReasonNotPendingDeletion, "%s %s is %s: only a pending deletion can be cancelled", k.name, r.ID, r.Status)
}

func errBeingDeleted(k *kind, r Resource) *apierr.Error {
	return apierr.Precondition(ReasonBeingDeleted, "%s %s is %s", k.name, r.ID, r.Status)
}
