package catalog

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// platform stands in assignable_by for the platform itself (AS-15).
const platform = "system"

// builder makes a catalogue and gathers what is wrong with its data.
type builder struct {
	roles    map[string]*roleEntry
	catalog  Catalog
	problems []error
}

func (b *builder) problem(format string, args ...any) {
	b.problems = append(b.problems, fmt.Errorf(format, args...))
}

func (b *builder) version(files ...int) {
	for _, v := range files {
		if v != 1 {
			b.problem("version %d, this program reads 1", v)
		}
	}
}

// permissions takes the permissions; each has three parts:
// <service>.<resources>.<verb>.
func (b *builder) permissions(f *permissionsFile) {
	for _, p := range f.Permissions {
		if strings.Count(p.ID, ".") != 2 {
			b.problem("permission %q: the form is <service>.<resources>.<verb>", p.ID)
		}
		if b.catalog.KnownPermission(p.ID) {
			b.problem("permission %s: listed twice", p.ID)
		}
		b.catalog.permissions[p.ID] = Permission{ID: p.ID, CheckedOn: p.CheckedOn}
	}
}

// types takes the types of resources. A type carries bindings when there is a
// permission to change them (RH-10); a parent is listed before its children, so
// that there is no cycle.
func (b *builder) types(entries []typeEntry) {
	for _, e := range entries {
		if _, twice := b.catalog.types[e.ID]; twice {
			b.problem("resource type %s: listed twice", e.ID)
		}
		if _, ok := b.catalog.types[e.Parent]; !ok && e.Parent != "" {
			b.problem("resource type %s: its parent %s is not listed before it", e.ID, e.Parent)
		}
		b.catalog.types[e.ID] = ResourceType{
			ID: e.ID, Parent: e.Parent, ParentOptional: e.ParentOptional, Nested: e.Nested,
			Bindings: b.catalog.KnownPermission(e.ID + "s.updateAccessBindings"),
		}
	}
}

// expand takes the roles and closes their inclusions.
func (b *builder) expand(entries []roleEntry) {
	for i := range entries {
		e := &entries[i]
		if b.roles[e.ID] != nil {
			b.problem("role %s: listed twice", e.ID)
		}
		b.roles[e.ID] = e
	}
	for i := range entries {
		e := &entries[i]
		drawn, all := map[string]bool{}, map[string]bool{}
		b.collect(e, e.Includes, drawn, nil)
		b.collect(e, e.includes(), all, nil)
		b.count(e, "effective_count", e.EffectiveCount, len(drawn))
		if len(e.ImpliedIncludes) > 0 {
			b.count(e, "effective_count_with_implied", e.EffectiveCountWithImplied, len(all))
		}
		b.catalog.roles[e.ID] = e.role(slices.Sorted(maps.Keys(all)))
		b.role(e)
	}
}

func (b *builder) count(e *roleEntry, field string, want, got int) {
	if want != got {
		b.problem("role %s: %s is %d, the role expands to %d", e.ID, field, want, got)
	}
}

// collect adds the permissions of a role to held: its own, and those of the roles
// it includes. The path leads from the role asked about to e.
func (b *builder) collect(e *roleEntry, includes []string, held map[string]bool, path []string) {
	if slices.Contains(path, e.ID) {
		b.problem("role %s: includes itself by %s", e.ID, strings.Join(path, ", "))
		return
	}
	path = append(path, e.ID)
	for _, p := range e.Permissions {
		held[p] = true
	}
	for _, id := range includes {
		if included := b.roles[id]; included != nil {
			b.collect(included, included.includes(), held, path)
		} else {
			b.problem("role %s: includes %s, which is not listed", e.ID, id)
		}
	}
}

// role checks one role against the rest of the catalogue.
func (b *builder) role(e *roleEntry) {
	for _, p := range slices.Concat(e.Permissions, e.Disputed) {
		if !b.catalog.KnownPermission(p) {
			b.problem("role %s: permission %s is not catalogued", e.ID, p)
		}
	}
	for _, t := range e.AssignableOn {
		if _, ok := b.catalog.types[t]; !ok {
			b.problem("role %s: assignable on %s, which is not listed", e.ID, t)
		}
	}
	for _, by := range e.AssignableBy {
		if b.roles[by] == nil && by != platform {
			b.problem("role %s: assignable by %s, which is not listed", e.ID, by)
		}
	}
	if e.ReplacedBy != "" && b.roles[e.ReplacedBy] == nil {
		b.problem("role %s: replaced by %s, which is not listed", e.ID, e.ReplacedBy)
	}
	if e.Kind != Primitive && e.Kind != Service {
		b.problem("role %s: kind %q", e.ID, e.Kind)
	}
	for _, class := range e.NotForSubjects {
		if class != PublicGroups && class != SystemGroups && class != Groups {
			b.problem("role %s: not for subjects %q", e.ID, class)
		}
	}
	b.assignment(e)
}

// assignment checks how the role is given: by the common rule, by its own holders
// with a permission that no other role holds (AS-5 to AS-7), or by the platform
// (AS-15).
func (b *builder) assignment(e *roleEntry) {
	if !e.Public && !e.byPlatform() {
		b.problem("role %s: not public, yet assignable", e.ID)
	}
	if p := e.assignPermission(); p != "" && !slices.Contains(e.Permissions, p) {
		b.problem("role %s: assigned by its holders, who lack %s", e.ID, p)
	}
	if e.Assignable != nil && *e.Assignable == e.Deprecated {
		b.problem("role %s: deprecated is %t, assignable is %t", e.ID, e.Deprecated, *e.Assignable)
	}
}

// references checks what permissions.yaml says of roles and types.
func (b *builder) references(f *permissionsFile) {
	for _, p := range f.Permissions {
		if _, ok := b.catalog.types[p.CheckedOn]; !ok {
			b.problem("permission %s: checked on %s, which is not listed", p.ID, p.CheckedOn)
		}
		for _, id := range slices.Concat(p.GrantedBy, p.DisputedFor) {
			if b.roles[id] == nil {
				b.problem("permission %s: role %s is not listed", p.ID, id)
			}
		}
		for _, id := range p.GrantedBy {
			if r := b.catalog.roles[id]; r != nil && !slices.Contains(r.Permissions, p.ID) {
				b.problem("permission %s: granted by %s, which lacks it", p.ID, id)
			}
		}
	}
	for _, id := range f.PlatformOnly {
		if !b.catalog.KnownPermission(id) {
			b.problem("platform only permission %s is not catalogued", id)
		}
	}
}

// includes are the drawn and the implied inclusions.
func (e *roleEntry) includes() []string { return slices.Concat(e.Includes, e.ImpliedIncludes) }

// assignPermission is that of a role which its own holders alone assign; the form
// is <service>.<resources>.assignOwner.
func (e *roleEntry) assignPermission() string {
	if slices.Contains(e.AssignableBy, e.ID) {
		return above(e.ID) + ".assignOwner"
	}
	return ""
}

// byPlatform reports whether the platform alone gives the role.
func (e *roleEntry) byPlatform() bool { return slices.Contains(e.AssignableBy, platform) }

// role is the entry as others see it.
func (e *roleEntry) role(permissions []string) *Role {
	return &Role{
		ID: e.ID, Description: e.Description, Kind: e.Kind, Services: e.Services,
		Includes: e.includes(), Permissions: permissions,
		AssignableOn: e.AssignableOn, Public: e.Public, ByPlatform: e.byPlatform(), Deprecated: e.Deprecated, ReplacedBy: e.ReplacedBy,
		AssignableBy: e.AssignableBy, AssignPermission: e.assignPermission(), NotForSubjects: e.NotForSubjects,
		LastHolderProtected: e.LastHolderProtected, GrantedAutomatically: e.GrantedAutomatically,
	}
}
