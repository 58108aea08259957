package authz

import (
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/reflect/protoreflect"

	authzv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/authz/v1"
)

// shape is which of the four kinds of rule a method has.
type shape int

const (
	shapePublic shape = iota + 1
	shapeAuthenticated
	shapeInternal
	shapeCheck
)

// Method is the compiled rule of one method.
type Method struct {
	name        string
	shape       shape
	exempt      bool
	units       map[string]bool // shapeInternal; shapeCheck: those that may call for themselves
	credentials []path          // shapeAuthenticated
	checks      []check         // shapeCheck
	filtered    bool
	or          []string // shapeCheck: permissions that do instead of the first check's
	self        *field   // shapeCheck
}

// check is one permission on one resource of the request.
type check struct {
	permission string // or
	verb       string // the rest by the type of the resource
	typ        string // or
	typeField  field
	id         field
	onEmpty    authzv1.OnEmpty
	resolve    Resolver
	catalog    Catalog
}

// compile checks a rule against the method and the catalogue. The method is never
// nil; with problems it must not be used.
func compile(full string, md protoreflect.MethodDescriptor, deps Deps) (*Method, []error) {
	m := &Method{name: full}
	rule := ruleOf(md)
	if rule == nil {
		return m, []error{errors.New("has no (bindery.authz.v1.rule)")}
	}
	c := &compiler{deps: deps, input: md.Input()}
	c.shape(m, rule)
	return m, c.problems
}

type compiler struct {
	deps     Deps
	input    protoreflect.MessageDescriptor
	problems []error
}

func (c *compiler) problem(format string, args ...any) {
	c.problems = append(c.problems, fmt.Errorf(format, args...))
}

func (c *compiler) shape(m *Method, rule *authzv1.Rule) {
	checked := rule.GetPermission() != "" || rule.GetVerb() != "" || rule.GetResource() != nil || len(rule.GetAlso()) > 0
	shapes := 0
	for shape, set := range map[shape]bool{
		shapePublic: rule.GetPublic(), shapeAuthenticated: rule.GetAuthenticated(),
		shapeInternal: rule.GetInternal() != nil, shapeCheck: checked,
	} {
		if set {
			shapes++
			m.shape = shape
		}
	}
	if shapes != 1 {
		c.problem("the rule must be exactly one of public, authenticated, internal and a check, and is %d of them", shapes)
		return
	}
	if len(rule.GetCredentialFields()) > 0 && m.shape != shapeAuthenticated {
		c.problem("credential_fields goes with authenticated only")
	}
	if rule.GetFiltered() && m.shape != shapeCheck {
		c.problem("filtered goes with a check only")
	}
	if len(rule.GetOr()) > 0 && rule.GetPermission() == "" {
		c.problem("or goes with a permission only")
	}
	if rule.GetSelfField() != "" && m.shape != shapeCheck {
		c.problem("self_field goes with a check only")
	}
	if len(rule.GetUnits()) > 0 && m.shape != shapeCheck {
		c.problem("units goes with a check only")
	}
	switch m.shape {
	case shapeInternal:
		if c.units(m, rule.GetInternal().GetUnits()); len(m.units) == 0 {
			c.problem("internal admits no unit")
		}
	case shapeAuthenticated:
		for _, name := range rule.GetCredentialFields() {
			if p, err := fieldPath(c.input, name); err != nil {
				c.problem("credential_fields: %w", err)
			} else {
				m.credentials = append(m.credentials, p)
			}
		}
	case shapeCheck:
		m.filtered, m.or = rule.GetFiltered(), rule.GetOr()
		c.units(m, rule.GetUnits())
		for _, permission := range m.or {
			c.permission(permission)
		}
		if name := rule.GetSelfField(); name != "" {
			self := c.field("self_field", name)
			m.self = &self
		}
		m.checks = append(m.checks, c.check(rule.GetPermission(), rule.GetVerb(), rule.GetResource()))
		for _, also := range rule.GetAlso() {
			m.checks = append(m.checks, c.check(also.GetPermission(), also.GetVerb(), also.GetResource()))
		}
	case shapePublic:
	}
}

func (c *compiler) units(m *Method, names []string) {
	m.units = make(map[string]bool)
	for _, u := range names {
		if u == "" || strings.ContainsAny(u, ". ") {
			c.problem("%q is not the name of a unit", u)
		}
		m.units[u] = true
	}
}

func (c *compiler) check(permission, verb string, r *authzv1.Resource) check {
	k := check{permission: permission, verb: verb, typ: r.GetType(), onEmpty: r.GetOnEmpty(), catalog: c.deps.Catalog}
	switch {
	case permission != "" && verb != "":
		c.problem("the check has both permission %q and verb %q", permission, verb)
	case permission == "" && verb == "":
		c.problem("the check has no permission")
	case permission != "":
		c.permission(permission)
	}
	if r == nil {
		c.problem("the check has no resource")
		return k
	}
	found := verb != "" && r.GetResolve() != "" && r.GetType() == "" && r.GetTypeField() == ""
	if !found && (r.GetType() == "") == (r.GetTypeField() == "") {
		c.problem("the resource must have one of type and type_field")
	}
	if verb != "" && r.GetType() != "" {
		if p, ok := c.deps.Catalog.PermissionFor(r.GetType(), verb); ok {
			k.permission, k.verb = p, ""
		} else {
			c.problem("the catalogue has no permission %q for type %q", verb, r.GetType())
		}
	}
	if r.GetTypeField() != "" {
		k.typeField = c.field("type_field", r.GetTypeField())
	}
	k.id = c.field("field", r.GetField())
	if name := r.GetResolve(); name != "" {
		if k.resolve = c.deps.Resolvers[name]; k.resolve == nil {
			c.problem("resolver %q is not registered", name)
		}
	}
	if _, known := authzv1.OnEmpty_name[int32(r.GetOnEmpty())]; !known {
		c.problem("on_empty %d is not known", r.GetOnEmpty())
	}
	return k
}

func (c *compiler) permission(id string) {
	if !c.deps.Catalog.KnownPermission(id) {
		c.problem("permission %q is not in the catalogue", id)
	}
}

func (c *compiler) field(what, name string) field {
	p, err := fieldPath(c.input, name)
	if err != nil {
		c.problem("%s: %w", what, err)
		return field{}
	}
	if last := p[len(p)-1]; last.Kind() != protoreflect.StringKind {
		c.problem("%s: %s is not a string", what, name)
	}
	return newField(name, p)
}
