package authz

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	authzv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/authz/v1"
)

// exempt are the only services without rules: they are not ours, tell nothing but
// what the published contract tells, and anybody may call them.
var exempt = map[string]bool{
	"grpc.health.v1.Health":                    true,
	"grpc.reflection.v1.ServerReflection":      true,
	"grpc.reflection.v1alpha.ServerReflection": true,
}

// Table holds the compiled rule of each method of a process.
type Table struct {
	methods map[string]*Method
}

// Deps is what rules are compiled against.
type Deps struct {
	Catalog   Catalog
	Resolvers map[string]Resolver // by the name in `resolve`
}

// NewTable compiles the rules of the registered services, as
// grpc.Server.GetServiceInfo lists them. It fails with every problem of every
// method, one per line in the order of the method names.
func NewTable(services map[string]grpc.ServiceInfo, deps Deps) (*Table, error) {
	t := &Table{methods: make(map[string]*Method)}
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(services)) {
		sd, err := serviceDescriptor(name)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		for _, info := range services[name].Methods {
			full := "/" + name + "/" + info.Name
			if exempt[name] {
				t.methods[full] = &Method{name: full, shape: shapePublic, exempt: true}
				continue
			}
			md := sd.Methods().ByName(protoreflect.Name(info.Name))
			if md == nil {
				problems = append(problems, fmt.Errorf("%s: no such method in the descriptor", full))
				continue
			}
			m, errs := compile(full, md, deps)
			t.methods[full] = m
			for _, err := range errs {
				problems = append(problems, fmt.Errorf("%s: %w", full, err))
			}
		}
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("authorization rules: %w", errors.Join(problems...))
	}
	return t, nil
}

// Method returns the rule of a method by its full name, /package.Service/Method;
// nil when the table does not have it, which callers treat as a refusal.
func (t *Table) Method(full string) *Method { return t.methods[full] }

// Names returns the full names of all methods but the exempt ones, sorted.
func (t *Table) Names() []string {
	var names []string
	for name, m := range t.methods {
		if !m.exempt {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func serviceDescriptor(name string) (protoreflect.ServiceDescriptor, error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", name, err)
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not a service", name)
	}
	return sd, nil
}

// Internal reports whether a method is for units alone.
func Internal(md protoreflect.MethodDescriptor) bool { return ruleOf(md).GetInternal() != nil }

// ruleOf returns the rule of a method, nil when it has none.
func ruleOf(md protoreflect.MethodDescriptor) *authzv1.Rule {
	if !proto.HasExtension(md.Options(), authzv1.E_Rule) {
		return nil
	}
	rule, _ := proto.GetExtension(md.Options(), authzv1.E_Rule).(*authzv1.Rule)
	return rule
}
