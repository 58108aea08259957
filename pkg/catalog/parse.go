package catalog

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/goccy/go-yaml"
)

// rolesFile is roles.yaml; its own comment says what the fields mean.
type rolesFile struct {
	Version       int         `yaml:"version"`
	ResourceTypes []typeEntry `yaml:"resource_types"`
	NoSuchRoles   []string    `yaml:"no_such_roles"`
	Roles         []roleEntry `yaml:"roles"`
}

type typeEntry struct {
	ID             string `yaml:"id"`
	Parent         string `yaml:"parent"`
	ParentOptional bool   `yaml:"parent_optional"`
	Nested         bool   `yaml:"nested"`
	Note           string `yaml:"note"`
}

type roleEntry struct {
	ID                        string         `yaml:"id"`
	Services                  []string       `yaml:"services"`
	Kind                      Kind           `yaml:"kind"`
	Description               string         `yaml:"description"`
	AssignableOn              []string       `yaml:"assignable_on"`
	Includes                  []string       `yaml:"includes"`
	ImpliedIncludes           []string       `yaml:"implied_includes"`
	ImpliedNote               string         `yaml:"implied_note"`
	OmittedIncludes           []string       `yaml:"omitted_includes"`
	Public                    bool           `yaml:"public"`
	Assignable                *bool          `yaml:"assignable"`
	Deprecated                bool           `yaml:"deprecated"`
	ReplacedBy                string         `yaml:"replaced_by"`
	GrantedAutomatically      string         `yaml:"granted_automatically"`
	AssignableBy              []string       `yaml:"assignable_by"`
	NotForSubjects            []SubjectClass `yaml:"not_for_subjects"`
	LastHolderProtected       bool           `yaml:"last_holder_protected"`
	Disputed                  []string       `yaml:"disputed"`
	Derived                   bool           `yaml:"derived"`
	Permissions               []string       `yaml:"permissions"`
	EffectiveCount            int            `yaml:"effective_count"`
	EffectiveCountWithImplied int            `yaml:"effective_count_with_implied"`
	Note                      string         `yaml:"note"`
	StatusNote                string         `yaml:"status_note"`
	Source                    string         `yaml:"source"`
}

// permissionsFile is permissions.yaml.
type permissionsFile struct {
	Version            int               `yaml:"version"`
	NoPermissionNeeded []methodEntry     `yaml:"no_permission_needed"`
	PlatformOnly       []string          `yaml:"platform_only"`
	NotCatalogued      []string          `yaml:"not_catalogued"`
	Permissions        []permissionEntry `yaml:"permissions"`
}

type methodEntry struct {
	Method string `yaml:"method"`
	Note   string `yaml:"note"`
}

type permissionEntry struct {
	ID          string       `yaml:"id"`
	CheckedOn   string       `yaml:"checked_on"`
	Guards      []string     `yaml:"guards"`
	Designed    any          `yaml:"designed"` // true, or which of the guards
	Primitive   string       `yaml:"primitive"`
	GrantedBy   []string     `yaml:"granted_by"`
	TableRoles  []tableEntry `yaml:"table_roles"`
	DisputedFor []string     `yaml:"disputed_for"`
	ServiceData bool         `yaml:"service_data"`
	Note        string       `yaml:"note"`
	Derived     bool         `yaml:"derived"`
}

type tableEntry struct {
	Role string `yaml:"role"`
	Page string `yaml:"page"`
}

// Parse reads and checks a catalogue from the texts of roles.yaml, permissions.yaml,
// policies.yaml, quotas.yaml and scopes.yaml. Unknown fields are errors; all problems of the
// content are reported together.
func Parse(roles, permissions, policies, quotas, scopes []byte) (*Catalog, error) {
	var rf rolesFile
	if err := yaml.UnmarshalWithOptions(roles, &rf, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("parse roles: %w", err)
	}
	var pf permissionsFile
	if err := yaml.UnmarshalWithOptions(permissions, &pf, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("parse permissions: %w", err)
	}
	var af policiesFile
	if err := yaml.UnmarshalWithOptions(policies, &af, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("parse access policies: %w", err)
	}
	var qf quotasFile
	if err := yaml.UnmarshalWithOptions(quotas, &qf, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("parse quotas: %w", err)
	}
	var sf scopesFile
	if err := yaml.UnmarshalWithOptions(scopes, &sf, yaml.Strict()); err != nil {
		return nil, fmt.Errorf("parse scopes: %w", err)
	}
	b := builder{
		roles: make(map[string]*roleEntry, len(rf.Roles)),
		catalog: Catalog{
			roles: map[string]*Role{}, permissions: map[string]Permission{}, types: map[string]ResourceType{},
			policies: map[string]Policy{}, quotas: map[string]Quota{},
		},
	}
	b.version(rf.Version, pf.Version, af.Version, qf.Version, sf.Version)
	b.permissions(&pf)
	b.types(rf.ResourceTypes)
	b.expand(rf.Roles)
	b.references(&pf)
	b.policies(&af)
	b.quotas(&qf)
	b.scopes(&sf)
	if err := errors.Join(b.problems...); err != nil {
		return nil, fmt.Errorf("check catalogue: %w", err)
	}
	b.sort()
	return &b.catalog, nil
}

// sort makes the ordered lists.
func (b *builder) sort() {
	c := &b.catalog
	for _, id := range slices.Sorted(maps.Keys(c.roles)) {
		c.sortedRoles = append(c.sortedRoles, *c.roles[id])
	}
	c.sortedPermissions = slices.SortedFunc(maps.Values(c.permissions), func(a, b Permission) int { return cmp.Compare(a.ID, b.ID) })
	c.sortedTypes = slices.SortedFunc(maps.Values(c.types), func(a, b ResourceType) int { return cmp.Compare(a.ID, b.ID) })
}
