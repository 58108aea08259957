package catalog

import (
	"slices"
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
  - {id: a.things.updateAccessPolicyBindings, checked_on: a.thing}
`
	goodPolicies = `
version: 1
policies:
  - {id: a.denyChange, name: Deny change, description: Nobody changes a thing., bind_on: [a.thing], denies: [a.things.update],
     denies_on_parent: [a.things.get], parameters: [but]}
  - {id: a.denyReading, name: Deny reading, description: Nobody reads a thing., bind_on: [a.thing], denies: [a.things.get]}
  - {id: bindery.denyGrantAboveOwn, name: Strict, description: Of granting., bind_on: [a.thing]}
`
	goodQuotas = `
version: 1
services: [{id: a, name: Service A}]
quotas:
  - {id: a.things.count, on: a.top, owner: keeper, limit: 5, unit: things}
  - {id: a.hats.count, on: subject, owner: keeper, limit: 0, unit: hats}
`
	goodScopes = `
version: 1
default: yc.all.manage
scopes:
  - {id: yc.all.manage, service: all, class: manage, description: Everything}
  - {id: yc.a.view, service: a, class: view, description: Reading things}
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
		{"policies not yaml", "version: 1\npolicies:", "version: [1\npolicies:", "parse access policies"},
		{"an unknown field of a policy", "denies_on_parent:", "denies_on_child:", "unknown field"},
		{"another version of policies", "version: 1\npolicies:", "version: 3\npolicies:", "version 3"},
		{"a policy twice", "{id: a.denyReading,", "{id: a.denyChange,", "access policy a.denyChange: listed twice"},
		{"the form of a policy", "{id: a.denyReading,", "{id: denyReading,", "the form is"},
		{"a long id of a policy", "{id: a.denyReading,", "{id: a.deny" + strings.Repeat("y", 60) + ",", "the form is"},
		{"a policy without a name", "name: Deny reading,", "", "needs a name and a description"},
		{"a policy without a description", "description: Nobody reads a thing.,", "", "needs a name and a description"},
		{"a policy for nothing", "bind_on: [a.thing], denies: [a.things.get]", "denies: [a.things.get]", "can be bound on nothing"},
		{"a policy where nobody can bind it", "bind_on: [a.thing], denies: [a.things.get]", "bind_on: [a.top], denies: [a.things.get]", "nobody can bind it on a.top"},
		{"a policy that denies nothing", "bind_on: [a.thing], denies: [a.things.get]", "bind_on: [a.thing]", "access policy a.denyReading: denies nothing"},
		{"a denied permission that is not catalogued", "denies: [a.things.get]", "denies: [a.things.drop]", "permission a.things.drop is not catalogued"},
		{"a permission denied on the parent that is not catalogued", "denies_on_parent: [a.things.get]", "denies_on_parent: [a.things.drop]", "permission a.things.drop is not catalogued"},
		{"a policy that nobody could take away", "denies: [a.things.get]", "denies: [a.things.updateAccessPolicyBindings]", "could then not be taken away"},
		{"a permission of the platform", "platform_only: [a.things.get]", "platform_only: [a.things.drop]", "platform only permission a.things.drop is not catalogued"},
		{"quotas not yaml", "services: [{id: a,", "services: [[{id: a,", "parse quotas"},
		{"a quota twice", "id: a.hats.count", "id: a.things.count", "quota a.things.count: listed twice"},
		{"the form of a quota", "id: a.hats.count", "id: a.hats.number", "the form is <service>.<what is counted>.count"},
		{"a service of quotas", "id: a, name: Service A", "id: b, name: Service B", "its service a is not listed"},
		{"a type to have a quota", "on: a.top", "on: a.hat", "on a.hat, which is not listed"},
		{"a quota without an owner", "on: subject, owner: keeper, ", "on: subject, ", "needs an owner"},
		{"scopes not yaml", "default: yc.all.manage", "default: [", "parse scopes"},
		{"a scope twice", "{id: yc.a.view, service: a, class: view,", "{id: yc.all.manage, service: all, class: manage,", "scope yc.all.manage: listed twice"},
		{"the form of a scope", "id: yc.a.view", "id: a.view", "the form is yc.<service>.view"},
		{"a class of scopes", "id: yc.a.view, service: a, class: view", "id: yc.a.do, service: a, class: do", "the form is yc.<service>.view"},
		{"a scope without a description", "description: Reading things", `description: ""`, "with a description"},
		{"a scope of nothing", "id: yc.a.view, service: a", "id: yc.b.view, service: b", "scope yc.b.view: holds no permission"},
		{"a narrow default", "default: yc.all.manage", "default: yc.a.view", "the default one holds every permission"},
		{"a default that is not there", "default: yc.all.manage", "default: nothing", "the default one holds every permission"},
		{"a negative quota", "limit: 5", "limit: -5", "a limit of at least 0"},
	} {
		t.Run(row.name, func(t *testing.T) {
			texts := [5]string{goodRoles, goodPermissions, goodPolicies, goodQuotas, goodScopes}
			i := slices.IndexFunc(texts[:], func(text string) bool { return strings.Contains(text, row.old) })
			if i < 0 {
				t.Fatalf("%q is not in the texts", row.old)
			}
			texts[i] = strings.Replace(texts[i], row.old, row.new, 1)
			_, err := Parse([]byte(texts[0]), []byte(texts[1]), []byte(texts[2]), []byte(texts[3]), []byte(texts[4]))
			if err == nil || !strings.Contains(err.Error(), row.want) {
				t.Errorf("Parse: %v, want %q", err, row.want)
			}
		})
	}
}

func TestParse_Good(t *testing.T) {
	c, err := Parse([]byte(goodRoles), []byte(goodPermissions), []byte(goodPolicies), []byte(goodQuotas), []byte(goodScopes))
	if err != nil {
		t.Fatal(err)
	}
	owner, _ := c.Role("a.things.owner")
	if len(owner.Permissions) != 3 || owner.AssignPermission != "a.things.assignOwner" {
		t.Errorf("the owner: %+v", owner)
	}
	q, ok := c.Quota("a.things.count")
	if want := (Quota{ID: "a.things.count", On: "a.top", Owner: "keeper", Limit: 5, Unit: "things"}); !ok || q != want {
		t.Errorf("the quota: %+v", q)
	}
	if all := c.Quotas(); len(all) != 2 || all[0].ID != "a.hats.count" || all[0].Service() != "a" {
		t.Errorf("the quotas: %+v", all)
	}
	if services := c.QuotaServices(); len(services) != 1 || services[0] != (QuotaService{ID: "a", Name: "Service A"}) {
		t.Errorf("the services of quotas: %+v", services)
	}
}
