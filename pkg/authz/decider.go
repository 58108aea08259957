package authz

import (
	"context"
	"strconv"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
)

// Resource names one resource of any service.
type Resource struct {
	Type string // e.g. "resource-manager.folder"
	ID   string
}

// UserAccount is the type of an account as a resource. It stands in no tree, so that
// nobody holds a permission on it; where a resolver leads to that of the caller, a user
// of any kind or a service account, the caller may.
const UserAccount = "iam.userAccount"

// MaxEach is how many resources one call of AuthorizeEach takes.
const MaxEach = 1000

// Decider says what a subject may do. Its errors are *apierr.Error values:
// UNAUTHENTICATED for a subject or token that is void, PERMISSION_DENIED
// (apierr.ReasonPermissionDenied, or ReasonResourceNotFound for a resource that
// the tree does not know), UNAVAILABLE when nobody could decide.
type Decider interface {
	// Authenticate reports whether the subject is known and active and its token
	// was not revoked.
	Authenticate(ctx context.Context, p authn.Principal) error

	// Authorize is Authenticate, and that the subject holds the permission on the
	// resource.
	Authorize(ctx context.Context, p authn.Principal, permission string, r Resource) error

	// AuthorizeEach says for each resource, in order, whether the subject holds
	// the permission on it; an unknown resource is a no. At most MaxEach.
	AuthorizeEach(ctx context.Context, p authn.Principal, permission string, rs []Resource) ([]bool, error)
}

// Catalog is what the table must know of permissions.
type Catalog interface {
	// KnownPermission reports whether the catalogue has the permission.
	KnownPermission(permission string) bool

	// PermissionFor returns the permission with that last part on resources of
	// that type, e.g. ("resource-manager.folder", "listAccessBindings").
	PermissionFor(resourceType, verb string) (string, bool)
}

// Resolver leads from the value of a request field to the checked resource, e.g.
// from a key to its service account. An unknown value is NOT_FOUND. What leads to the
// caller's own account needs no permission, only that the caller is somebody.
type Resolver func(ctx context.Context, value string) (Resource, error)

// Denied is the refusal for a subject that lacks a permission.
func Denied(permission string, r Resource) *apierr.Error {
	return &apierr.Error{ // by hand: half of all checks end here
		Code: codes.PermissionDenied, Reason: apierr.ReasonPermissionDenied,
		Message: string(AppendDenied(nil, permission, r)),
		Meta:    map[string]string{"permission": permission, "resourceType": r.Type, "resourceId": r.ID},
	}
}

// AppendDenied appends the message of Denied.
func AppendDenied(to []byte, permission string, r Resource) []byte {
	if to == nil {
		to = make([]byte, 0, 128)
	}
	to = append(append(to, "permission "...), permission...)
	to = append(append(append(to, " on "...), r.Type...), ' ')
	return append(strconv.AppendQuote(to, r.ID), " is missing"...)
}

// NotFound is the refusal for a resource that the tree does not know. A Decider
// may return it as PERMISSION_DENIED with the same reason; callers of a method
// get NOT_FOUND.
func NotFound(r Resource) *apierr.Error {
	return apierr.NotFound(apierr.ReasonResourceNotFound, "%s %q not found", r.Type, r.ID).
		WithMeta("resourceType", r.Type, "resourceId", r.ID)
}

type withheldKey struct{}

// Withheld returns the denial that a `filtered` rule let pass: nil when the caller
// holds the method's permission on the resource. A list that is empty after its
// items were filtered answers with it, one with items is simply shorter.
func Withheld(ctx context.Context) error {
	if err, ok := ctx.Value(withheldKey{}).(*apierr.Error); ok {
		return err
	}
	return nil
}

// DeniedByPayer is the refusal of what a role grants while the billing account that pays
// for the cloud is suspended (PT-30): no further role helps.
func DeniedByPayer(permission string, r, cloud Resource) *apierr.Error {
	return apierr.Denied(apierr.ReasonPayerStopped, "permission %s on %s %q is denied: the billing account that pays for %s %q is suspended",
		permission, r.Type, r.ID, cloud.Type, cloud.ID).
		WithMeta("permission", permission, "resourceType", r.Type, "resourceId", r.ID, "cloudId", cloud.ID)
}
