package catalog

import (
	_ "embed"
	"slices"
	"strings"
	"sync"
)

//go:embed roles.yaml
var rolesYAML []byte

//go:embed permissions.yaml
var permissionsYAML []byte

//go:embed policies.yaml
var policiesYAML []byte

// Load returns the catalogue of this build, parsed and checked once. It fails
// only when the data is wrong, which the package's own tests exclude. The
// catalogue is shared and read-only; it may be read from many goroutines.
func Load() (*Catalog, error) { return load() }

var load = sync.OnceValues(func() (*Catalog, error) {
	c, err := Parse(rolesYAML, permissionsYAML, policiesYAML, quotasYAML, scopesYAML)
	if err != nil {
		return nil, err
	}
	return c, c.takeSets(permissionSetsYAML)
})

// Catalog is the roles, the permissions, the types of resources that they are
// about, the templates of access policies, the quotas and the scopes. Nobody may change what
// its methods return.
type Catalog struct {
	roles        map[string]*Role
	permissions  map[string]Permission
	types        map[string]ResourceType
	policies     map[string]Policy
	quotas       map[string]Quota
	scopes       map[string]Scope
	sets         map[string]PermissionSet
	payerStopped Policy

	sortedRoles       []Role
	sortedPermissions []Permission
	sortedTypes       []ResourceType
	sortedPolicies    []Policy
	sortedScopes      []Scope
	sortedSets        []PermissionSet
	defaultScope      string
	sortedQuotas      []Quota
	quotaServices     []QuotaService
}

// Kind says how wide a role is.
type Kind string

// Kinds of roles (AS-18).
const (
	Primitive Kind = "primitive" // auditor, viewer, editor, admin: every service
	Service   Kind = "service"   // of one service or one type of resource
)

// SubjectClass is a set of subjects that a role may be kept from.
type SubjectClass string

// Classes of subjects (PG-3, PG-5).
const (
	PublicGroups SubjectClass = "public groups" // allUsers, allAuthenticatedUsers
	SystemGroups SubjectClass = "system groups" // the users of an organization, a federation, a user pool
	Groups       SubjectClass = "groups"        // groups that somebody made
)

// Role is a named set of permissions.
type Role struct {
	ID          string
	Description string
	Kind        Kind
	Services    []string // that it is about; "all" for the primitive ones

	Includes    []string // roles whose permissions it holds as well, as written down
	Permissions []string // all that it holds, inclusions expanded, sorted

	AssignableOn         []string       // types of resources that may carry it (AS-9 to AS-13)
	Public               bool           // false: not shown as a role that a person can have
	ByPlatform           bool           // only the platform gives and takes it (AS-15)
	Deprecated           bool           // not given any more; may be taken away (AS-16)
	ReplacedBy           string         // for a deprecated role; "" if nothing does
	AssignableBy         []string       // roles whose holders alone assign it (AS-5 to AS-7); empty: the common rule
	AssignPermission     string         // what those holders hold and others lack, on the resource; "" for the common rule
	NotForSubjects       []SubjectClass // who may not hold it (PG-3, PG-5)
	LastHolderProtected  bool           // a resource that has a holder keeps one (OW-1, OW-4)
	GrantedAutomatically string         // when the platform gives it, in words; "" for never
}

// Permission is the right to do one thing.
type Permission struct {
	ID        string
	CheckedOn string // type of the resource that a check names
}

// ResourceType is a type of resource that bindery knows by name. Services may
// register resources of other types; those carry no bindings of their own (RH-9).
type ResourceType struct {
	ID             string
	Parent         string // type of the parent (RH-1); "" for the root of a tree
	ParentOptional bool   // may stand without that parent
	Nested         bool   // may stand below one of its own type instead (PT-24)
	Bindings       bool   // carries access bindings (RH-10)
}

// Role returns a role by its id.
func (c *Catalog) Role(id string) (Role, bool) {
	if r, ok := c.roles[id]; ok {
		return *r, true
	}
	return Role{}, false
}

// Roles returns all roles, deprecated and platform ones included, ordered by id.
func (c *Catalog) Roles() []Role { return c.sortedRoles }

// Permission returns a permission by its id.
func (c *Catalog) Permission(id string) (Permission, bool) {
	p, ok := c.permissions[id]
	return p, ok
}

// Permissions returns all permissions, ordered by id.
func (c *Catalog) Permissions() []Permission { return c.sortedPermissions }

// KnownPermission reports whether the catalogue has the permission.
func (c *Catalog) KnownPermission(id string) bool {
	_, ok := c.permissions[id]
	return ok
}

// PermissionFor returns the permission to do verb with resources of the type,
// e.g. resource-manager.folders.updateAccessBindings for resource-manager.folder
// and updateAccessBindings: ids of permissions name the type in the plural. False
// when there is none, e.g. because resources of the type have no access bindings
// of their own (RH-9).
func (c *Catalog) PermissionFor(resourceType, verb string) (string, bool) {
	if _, ok := c.types[resourceType]; !ok {
		return "", false
	}
	id := resourceType + "s." + verb
	return id, c.KnownPermission(id)
}

// ResourceType returns a type of resource by its id.
func (c *Catalog) ResourceType(id string) (ResourceType, bool) {
	t, ok := c.types[id]
	return t, ok
}

// ResourceTypes returns all types of resources, ordered by id.
func (c *Catalog) ResourceTypes() []ResourceType { return c.sortedTypes }

// Assignable reports whether a role may be set on resources of a type: the type
// that it is made for, or one above it that the catalogue lists (AS-9 to AS-13).
// Deprecated roles, those that only the platform gives, and types without
// bindings of their own are never assignable (AS-15, AS-16, RH-9). Who asks, and
// for whom, is not looked at.
func (c *Catalog) Assignable(role, resourceType string) bool {
	r, ok := c.roles[role]
	return ok && !r.ByPlatform && !r.Deprecated && c.types[resourceType].Bindings &&
		slices.Contains(r.AssignableOn, resourceType)
}

// Matrix returns the permissions of every role, inclusions expanded, and every
// permission there is: what package checker compiles.
func (c *Catalog) Matrix() (roles map[string][]string, permissions []string) {
	roles = make(map[string][]string, len(c.roles))
	for id, r := range c.roles {
		roles[id] = r.Permissions
	}
	for _, p := range c.sortedPermissions {
		permissions = append(permissions, p.ID)
	}
	return roles, permissions
}

// above returns the id without its last part, e.g. resource-manager.clouds for
// resource-manager.clouds.owner.
func above(id string) string { return id[:max(0, strings.LastIndexByte(id, '.'))] }
