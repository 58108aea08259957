package catalog

import (
	"strings"
	"testing"
)

const (
	goodRoles = `
version: 1
resource_types:
  - {id: a.top, parent: null}
  - {id: a.thing, parent: a.top}
roles:
  - {id: narrow, kind: primitive, assignable_on: [a.thing], public: true, permissions: [a.things.get], effective_count: 1}
  - {id: wide, kind: primitive, assignable_on: [a.top], public: true, includes: [narrow], permissions: [a.things.update], effective_count: 2}
  - {id: a.things.owner, kind: service, assignable_on: [a.thing], public: true, assignable_by: [a.things.owner],
     permissions: [a.things.assignOwner], effective_count: 1, implied_includes: [wide], effective_count_with_implied: 3}
`
	goodPermissions = `
version: 1
platform_only: [a.things.get]
permissions:
  - {id: a.things.get, checked_on: a.thing, granted_by: [narrow]}
  - {id: a.things.update, checked_on: a.thing, granted_by: [wide], disputed_for: [narrow]}
  - {id: a.things.assignOwner, checked_on: a.thing}
`
)

// TestParse_Refuses changes one thing of a good catalogue at a time.
func TestParse_Refuses(t *testing.T) {
	for _, row := range []struct{ name, old, new, want string }{
		{"not yaml", "version: 1\nresource_types:", "version: [1\nresource_types:", "parse roles"},
		{"permissions not yaml", "version: 1\nplatform_only:", "version: [1\nplatform_only:", "parse permissions"},
		{"an unknown field", "kind: primitive,", "kind: primitive, colour: red,", "unknown field"},
		{"an unknown field of a permission", "granted_by: [wide],", "granted_to: [wide],", "unknown field"},
		{"another version", "version: 1\nresource_types", "version: 2\nresource_types", "version 2"},
		{"a role twice", "{id: wide,", "{id: narrow,", "role narrow: listed twice"},
		{"a permission twice", "{id: a.things.update,", "{id: a.things.get,", "permission a.things.get: listed twice"},
		{"a type twice", "{id: a.thing,", "{id: a.top,", "resource type a.top: listed twice"},
		{"a parent that is not there", "parent: a.top", "parent: b.top", "its parent b.top is not listed before it"},
		{"an inclusion that is not there", "includes: [narrow]", "includes: [nobody]", "role wide: includes nobody, which is not listed"},
		{"a circle", "id: narrow, kind: primitive,", "id: narrow, kind: primitive, includes: [wide],", "includes itself by narrow, wide"},
		{"a count", "effective_count: 2", "effective_count: 3", "role wide: effective_count is 3, the role expands to 2"},
		{"a count with implied", "effective_count_with_implied: 3", "effective_count_with_implied: 4", "effective_count_with_implied is 4, the role expands to 3"},
		{"a permission that is not catalogued", "permissions: [a.things.update]", "permissions: [a.things.drop]", "permission a.things.drop is not catalogued"},
		{"a disputed one that is not", "id: narrow,", "id: narrow, disputed: [a.things.drop],", "permission a.things.drop is not catalogued"},
		{"the form of a permission", "id: a.things.update", "id: a.update", "the form is"},
		{"a type to assign on", "assignable_on: [a.top]", "assignable_on: [a.hat]", "assignable on a.hat, which is not listed"},
		{"a role that assigns", "assignable_by: [a.things.owner]", "assignable_by: [nobody]", "assignable by nobody, which is not listed"},
		{"a replacement", "id: narrow,", "id: narrow, replaced_by: nobody,", "replaced by nobody, which is not listed"},
		{"a kind", "id: narrow, kind: primitive", "id: narrow, kind: odd", `kind "odd"`},
		{"a class of subjects", "id: narrow,", "id: narrow, not_for_subjects: [cats],", `not for subjects "cats"`},
		{"an owner without the permission", "permissions: [a.things.assignOwner]", "permissions: [a.things.get]", "who lack a.things.assignOwner"},
		{"neither public nor the platform's", "id: narrow, kind: primitive, assignable_on: [a.thing], public: true", "id: narrow, kind: primitive, assignable_on: [a.thing], public: false", "not public, yet assignable"},
		{"deprecated and assignable", "id: narrow,", "id: narrow, deprecated: true, assignable: true,", "deprecated is true, assignable is true"},
		{"a type to check on", "checked_on: a.thing, granted_by: [wide]", "checked_on: a.hat, granted_by: [wide]", "checked on a.hat, which is not listed"},
		{"a role that grants", "granted_by: [wide]", "granted_by: [nobody]", "role nobody is not listed"},
		{"a role that does not grant", "granted_by: [wide]", "granted_by: [narrow]", "granted by narrow, which lacks it"},
		{"a permission of the platform", "platform_only: [a.things.get]", "platform_only: [a.things.drop]", "platform only permission a.things.drop is not catalogued"},
	} {
		t.Run(row.name, func(t *testing.T) {
			roles, permissions := strings.Replace(goodRoles, row.old, row.new, 1), goodPermissions
			if roles == goodRoles {
				permissions = strings.Replace(goodPermissions, row.old, row.new, 1)
			}
			if roles == goodRoles && permissions == goodPermissions {
				t.Fatalf("%q is not in the texts", row.old)
			}
			_, err := Parse([]byte(roles), []byte(permissions))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("Parse: %v, want %q", err, row.want)
			}
		})
	}
}

func TestParse_Good(t *testing.T) {
	c, err := Parse([]byte(goodRoles), []byte(goodPermissions))
	if err != nil {
		t.Fatal(err)
	}
	owner, _ := c.Role("a.things.owner")
	if len(owner.Permissions) != 3 || owner.AssignPermission != "a.things.assignOwner" {
		t.Errorf("the owner: %+v", owner)
	}
}
