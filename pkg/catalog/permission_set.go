package catalog

import (
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
)

//go:embed permission_sets.yaml
var permissionSetsYAML []byte

// SetScope says what a rule with a permission set is about (SC-14).
type SetScope string

// Scopes of permission sets.
const (
	OfOrganization SetScope = "organization" // the organization as a whole
	OfProjects     SetScope = "projects"     // clouds and folders of it
)

// carriers are the types of resources on which a set of a scope is given.
var carriers = map[SetScope][]string{
	OfOrganization: {"organization-manager.organization"},
	OfProjects:     {"resource-manager.cloud", "resource-manager.folder"},
}

// PermissionSet is what a rule of a grant policy gives (SC-18).
type PermissionSet struct {
	ID          string
	Description string
	Scope       SetScope
	Roles       []string // what its holder gets, in the order of the file; assignable wherever the scope leads
}

// PermissionSet returns a set by its id.
func (c *Catalog) PermissionSet(id string) (PermissionSet, bool) {
	s, ok := c.sets[id]
	return s, ok
}

// PermissionSets returns all sets, ordered by id.
func (c *Catalog) PermissionSets() []PermissionSet { return c.sortedSets }

// setsFile is permission_sets.yaml; its own comment says what the fields mean.
type setsFile struct {
	Version int        `yaml:"version"`
	LeftOut []string   `yaml:"left_out"`
	Sets    []setEntry `yaml:"permission_sets"`
}

type setEntry struct {
	ID          string   `yaml:"id"`
	Scope       SetScope `yaml:"scope"`
	Description string   `yaml:"description"`
	Roles       []string `yaml:"roles"`
	Beyond      bool     `yaml:"beyond"`
	Note        string   `yaml:"note"`
}

// maxSetID is the longest id of a set that a rule can name.
const maxSetID = 64

// takeSets takes the permission sets into a catalogue that is otherwise complete, and
// reports all problems together.
func (c *Catalog) takeSets(text []byte) error {
	var f setsFile
	if err := yaml.UnmarshalWithOptions(text, &f, yaml.Strict()); err != nil {
		return fmt.Errorf("parse permission sets: %w", err)
	}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if f.Version != 1 {
		problem("version %d, this program reads 1", f.Version)
	}
	c.sets = make(map[string]PermissionSet, len(f.Sets))
	for _, e := range f.Sets {
		types := carriers[e.Scope]
		switch _, twice := c.sets[e.ID]; {
		case twice:
			problem("permission set %s: listed twice", e.ID)
		case e.ID == "" || len(e.ID) > maxSetID || strings.ContainsFunc(e.ID, notInSetID):
			problem("permission set %q: the id is of at most %d letters and digits", e.ID, maxSetID)
		case len(types) == 0 || e.Description == "" || len(e.Roles) == 0:
			problem("permission set %s: needs a scope, a description and roles", e.ID)
		}
		for _, role := range e.Roles {
			for _, t := range types {
				if !c.Assignable(role, t) || c.roles[role].LastHolderProtected {
					problem("permission set %s: the role %s cannot be given on a %s by a policy", e.ID, role, t)
				}
			}
		}
		c.sets[e.ID] = PermissionSet{ID: e.ID, Description: e.Description, Scope: e.Scope, Roles: e.Roles}
	}
	for _, id := range slices.Sorted(maps.Keys(c.sets)) {
		c.sortedSets = append(c.sortedSets, c.sets[id])
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("check permission sets: %w", err)
	}
	return nil
}

func notInSetID(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
}
