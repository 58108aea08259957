package catalog

import (
	"cmp"
	_ "embed"
	"maps"
	"slices"
	"strings"
)

//go:embed scopes.yaml
var scopesYAML []byte

// Scope is what an API key may be restricted to: a set of permissions (SK-4).
type Scope struct {
	ID          string // yc.<service>.<class>
	Description string
	Permissions []string // sorted
}

// Scope returns a scope by its id.
func (c *Catalog) Scope(id string) (Scope, bool) {
	s, ok := c.scopes[id]
	return s, ok
}

// Scopes returns all scopes, ordered by id.
func (c *Catalog) Scopes() []Scope { return c.sortedScopes }

// DefaultScope is the id of the scope that a key has which asks for none. It holds
// every permission.
func (c *Catalog) DefaultScope() string { return c.defaultScope }

// Covers reports whether one of the scopes holds a permission. A scope that the
// catalogue does not know any more holds none.
func (c *Catalog) Covers(scopes []string, permission string) bool {
	for _, id := range scopes {
		if _, held := slices.BinarySearch(c.scopes[id].Permissions, permission); held {
			return true
		}
	}
	return false
}

// scopesFile is scopes.yaml; its own comment says what the fields mean.
type scopesFile struct {
	Version int          `yaml:"version"`
	Default string       `yaml:"default"`
	Scopes  []scopeEntry `yaml:"scopes"`
}

type scopeEntry struct {
	ID          string `yaml:"id"`
	Service     string `yaml:"service"`
	Class       string `yaml:"class"`
	Description string `yaml:"description"`
}

// Classes of scopes, and the service that stands for all.
const (
	classView   = "view"
	classManage = "manage"
	allServices = "all"
)

// scopes takes the scopes; permissions are known by then.
func (b *builder) scopes(f *scopesFile) {
	c := &b.catalog
	c.scopes, c.defaultScope = map[string]Scope{}, f.Default
	for _, e := range f.Scopes {
		if _, twice := c.scopes[e.ID]; twice {
			b.problem("scope %s: listed twice", e.ID)
		}
		if e.ID != "yc."+e.Service+"."+e.Class || e.Class != classView && e.Class != classManage || e.Description == "" {
			b.problem("scope %q: the form is yc.<service>.view or .manage, with a description", e.ID)
		}
		c.scopes[e.ID] = Scope{ID: e.ID, Description: e.Description, Permissions: b.within(e)}
		if len(c.scopes[e.ID].Permissions) == 0 {
			b.problem("scope %s: holds no permission", e.ID)
		}
	}
	if len(c.scopes[f.Default].Permissions) != len(c.permissions) {
		b.problem("scope %q: the default one holds every permission", f.Default)
	}
	c.sortedScopes = slices.SortedFunc(maps.Values(c.scopes), func(a, b Scope) int { return cmp.Compare(a.ID, b.ID) })
}

// within are the permissions of a scope, sorted.
func (b *builder) within(e scopeEntry) (held []string) {
	for id := range b.catalog.permissions {
		if (e.Service == allServices || service(id) == e.Service) && (e.Class == classManage || reads(id)) {
			held = append(held, id)
		}
	}
	slices.Sort(held)
	return held
}

// reads reports whether a permission is one to look only, by its last part.
func reads(permission string) bool {
	verb := permission[strings.LastIndexByte(permission, '.')+1:]
	return slices.ContainsFunc([]string{"get", "list", "read"}, func(begin string) bool { return strings.HasPrefix(verb, begin) })
}
