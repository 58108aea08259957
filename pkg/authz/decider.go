package authz

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
)

// Resource names one resource of any service.
type Resource struct {
	Type string // e.g. "resource-manager.folder"
	ID   string
}

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
// from a key to its service account. An unknown value is NOT_FOUND.
type Resolver func(ctx context.Context, value string) (Resource, error)

// Denied is the refusal for a subject that lacks a permission.
func Denied(permission string, r Resource) *apierr.Error {
	return apierr.Denied(apierr.ReasonPermissionDenied, "permission %s on %s %q is missing", permission, r.Type, r.ID).
		WithMeta("permission", permission, "resourceType", r.Type, "resourceId", r.ID)
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
