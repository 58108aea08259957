package authz

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	authzv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/authz/v1"
)

// catalog knows permissions of folders only.
type catalog struct{}

func (catalog) KnownPermission(p string) bool {
	return slices.Contains([]string{"folders.get", "folders.peek", "folders.own", "folders.listAccessBindings", "clouds.get"}, p)
}

func (catalog) PermissionFor(typ, verb string) (string, bool) {
	return "folders." + verb, typ == "rm.folder" && verb == "listAccessBindings"
}

// method returns a method of a request message
//
//	{string id; string type; bytes raw; repeated string ids; Inner inner {string id}; string other}
//
// with the rule; nil for none.
func method(t testing.TB, rule *authzv1.Rule) protoreflect.MethodDescriptor {
	t.Helper()
	field := func(name string, number int32, typ descriptorpb.FieldDescriptorProto_Type) *descriptorpb.FieldDescriptorProto {
		return &descriptorpb.FieldDescriptorProto{
			Name: &name, Number: &number, Type: &typ, JsonName: &name,
			Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}
	}
	ids := field("ids", 4, descriptorpb.FieldDescriptorProto_TYPE_STRING)
	ids.Label = descriptorpb.FieldDescriptorProto_LABEL_REPEATED.Enum()
	inner := field("inner", 5, descriptorpb.FieldDescriptorProto_TYPE_MESSAGE)
	inner.TypeName = proto.String(".authztest.Inner")
	opts := new(descriptorpb.MethodOptions)
	if rule != nil {
		proto.SetExtension(opts, authzv1.E_Rule, rule)
	}
	str := descriptorpb.FieldDescriptorProto_TYPE_STRING
	fd, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("authztest.proto"), Package: proto.String("authztest"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{
			{Name: proto.String("Request"), Field: []*descriptorpb.FieldDescriptorProto{
				field("id", 1, str), field("type", 2, str), field("raw", 3, descriptorpb.FieldDescriptorProto_TYPE_BYTES),
				ids, inner, field("other", 6, str),
			}},
			{Name: proto.String("Inner"), Field: []*descriptorpb.FieldDescriptorProto{field("id", 1, str)}},
		},
		Service: []*descriptorpb.ServiceDescriptorProto{{Name: proto.String("Service"), Method: []*descriptorpb.MethodDescriptorProto{{
			Name: proto.String("Call"), InputType: proto.String(".authztest.Request"), OutputType: proto.String(".authztest.Request"), Options: opts,
		}}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return fd.Services().Get(0).Methods().Get(0)
}

func resource(typ, field string) *authzv1.Resource { return &authzv1.Resource{Type: typ, Field: field} }

func TestBootCheck(t *testing.T) {
	get := func(r *authzv1.Resource) *authzv1.Rule { return &authzv1.Rule{Permission: "folders.get", Resource: r} }
	for _, tt := range []struct {
		name string
		rule *authzv1.Rule
		want string // part of the problem; "" for a good rule
	}{
		{"public", &authzv1.Rule{Public: true}, ""},
		{"authenticated", &authzv1.Rule{Authenticated: true}, ""},
		{"credentials", &authzv1.Rule{Authenticated: true, CredentialFields: []string{"other"}}, ""},
		{"internal", &authzv1.Rule{Internal: &authzv1.Internal{Units: []string{"identity"}}}, ""},
		{"check", get(resource("rm.folder", "id")), ""},
		{"check of an inner field", get(resource("rm.folder", "inner.id")), ""},
		{"two checks", &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"),
			Also: []*authzv1.Check{{Permission: "clouds.get", Resource: resource("rm.cloud", "other")}}}, ""},
		{"verb by field", &authzv1.Rule{Verb: "listAccessBindings", Resource: &authzv1.Resource{TypeField: "type", Field: "id"}}, ""},
		{"verb by type", &authzv1.Rule{Verb: "listAccessBindings", Resource: resource("rm.folder", "id")}, ""},
		{"resolver", get(&authzv1.Resource{Type: "rm.folder", Field: "id", Resolve: "known"}), ""},

		{"none", nil, "has no (bindery.authz.v1.rule)"},
		{"empty", &authzv1.Rule{}, "is 0 of them"},
		{"public and check", &authzv1.Rule{Public: true, Permission: "folders.get"}, "is 2 of them"},
		{"public and authenticated", &authzv1.Rule{Public: true, Authenticated: true}, "is 2 of them"},
		{"internal and authenticated", &authzv1.Rule{Internal: &authzv1.Internal{Units: []string{"a"}}, Authenticated: true}, "is 2 of them"},
		{"public with a further check", &authzv1.Rule{Public: true, Also: []*authzv1.Check{{}}}, "is 2 of them"},
		{"internal admits nobody", &authzv1.Rule{Internal: &authzv1.Internal{}}, "admits no unit"},
		{"internal admits no name", &authzv1.Rule{Internal: &authzv1.Internal{Units: []string{""}}}, "not the name of a unit"},
		{"credentials of a public method", &authzv1.Rule{Public: true, CredentialFields: []string{"id"}}, "goes with authenticated"},
		{"unknown credential field", &authzv1.Rule{Authenticated: true, CredentialFields: []string{"nope"}}, `no field "nope"`},
		{"filtered for all", &authzv1.Rule{Authenticated: true, Filtered: true}, "goes with a check"},
		{"or", &authzv1.Rule{Permission: "folders.get", Or: []string{"clouds.get"}, Resource: resource("rm.folder", "id")}, ""},
		{"or for all", &authzv1.Rule{Authenticated: true, Or: []string{"clouds.get"}}, "goes with a permission"},
		{"or by verb", &authzv1.Rule{Verb: "listAccessBindings", Or: []string{"clouds.get"}, Resource: resource("rm.folder", "id")}, "goes with a permission"},
		{"or something unknown", &authzv1.Rule{Permission: "folders.get", Or: []string{"nope"}, Resource: resource("rm.folder", "id")}, `"nope" is not in the catalogue`},
		{"verb by resolver", &authzv1.Rule{Verb: "listAccessBindings", Resource: &authzv1.Resource{Field: "id", Resolve: "known"}}, ""},
		{"verb further on", &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"),
			Also: []*authzv1.Check{{Verb: "listAccessBindings", Resource: &authzv1.Resource{Field: "other", Resolve: "known"}}}}, ""},
		{"permission by resolver alone", &authzv1.Rule{Permission: "folders.get", Resource: &authzv1.Resource{Field: "id", Resolve: "known"}}, "one of type and type_field"},
		{"units as well", &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"), Units: []string{"*"}}, ""},
		{"units of a public method", &authzv1.Rule{Public: true, Units: []string{"*"}}, "goes with a check"},
		{"no unit's name", &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"), Units: []string{"a b"}}, "not the name of a unit"},
		{"self", &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"), SelfField: "other"}, ""},
		{"self for all", &authzv1.Rule{Authenticated: true, SelfField: "other"}, "goes with a check"},
		{"unknown self field", &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"), SelfField: "nope"}, `no field "nope"`},
		{"unknown permission", &authzv1.Rule{Permission: "folders.gte", Resource: resource("rm.folder", "id")}, "not in the catalogue"},
		{"unknown permission further on", &authzv1.Rule{Permission: "folders.get", Resource: resource("rm.folder", "id"),
			Also: []*authzv1.Check{{Permission: "nope", Resource: resource("rm.cloud", "other")}}}, `"nope" is not in the catalogue`},
		{"no permission", &authzv1.Rule{Resource: resource("rm.folder", "id")}, "no permission"},
		{"permission and verb", &authzv1.Rule{Permission: "folders.get", Verb: "listAccessBindings", Resource: resource("rm.folder", "id")}, "both permission"},
		{"no resource", get(nil), "has no resource"},
		{"no field", get(resource("rm.folder", "")), "no field is named"},
		{"unknown field", get(resource("rm.folder", "folder_id")), `no field "folder_id"`},
		{"unknown inner field", get(resource("rm.folder", "inner.nope")), `no field "nope"`},
		{"field below a string", get(resource("rm.folder", "id.x")), "is not a message"},
		{"repeated field", get(resource("rm.folder", "ids")), "is repeated"},
		{"field of bytes", get(resource("rm.folder", "raw")), "not a string"},
		{"type twice", get(&authzv1.Resource{Type: "rm.folder", TypeField: "type", Field: "id"}), "one of type and type_field"},
		{"no type", get(&authzv1.Resource{Field: "id"}), "one of type and type_field"},
		{"unknown type field", get(&authzv1.Resource{TypeField: "kind", Field: "id"}), `no field "kind"`},
		{"verb that the type lacks", &authzv1.Rule{Verb: "eat", Resource: resource("rm.folder", "id")}, `no permission "eat"`},
		{"unknown resolver", get(&authzv1.Resource{Type: "rm.folder", Field: "id", Resolve: "nope"}), `resolver "nope"`},
		{"unknown on_empty", get(&authzv1.Resource{Type: "rm.folder", Field: "id", OnEmpty: 77}), "on_empty 77"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, problems := compile("/authztest.Service/Call", method(t, tt.rule), deps)
			switch {
			case tt.want == "" && len(problems) > 0:
				t.Errorf("refused: %v", problems)
			case tt.want != "" && len(problems) != 1:
				t.Errorf("%d problems %v, want one with %q", len(problems), problems, tt.want)
			case tt.want != "" && !strings.Contains(problems[0].Error(), tt.want):
				t.Errorf("%v does not say %q", problems[0], tt.want)
			}
		})
	}
}

func TestBootCheckNamesAllProblemsAtOnce(t *testing.T) {
	md := method(t, &authzv1.Rule{Permission: "nope", Resource: resource("", "nope")})
	if err := protoregistry.GlobalFiles.RegisterFile(md.ParentFile()); err != nil {
		t.Fatal(err)
	}
	_, err := NewTable(map[string]grpc.ServiceInfo{
		"authztest.Service": {Methods: []grpc.MethodInfo{{Name: "Call"}, {Name: "Ghost"}}},
		"nowhere.Service":   {Methods: []grpc.MethodInfo{{Name: "Call"}}},
		"authztest.Request": {},
	}, deps)
	if err == nil {
		t.Fatal("a process with bad rules would start")
	}
	for _, want := range []string{
		`/authztest.Service/Call: permission "nope" is not in the catalogue`,
		`/authztest.Service/Call: the resource must have one of type and type_field`,
		`/authztest.Service/Call: field: nope: authztest.Request has no field "nope"`,
		`/authztest.Service/Ghost: no such method`,
		`service nowhere.Service: `,
		`authztest.Request is not a service`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in\n%v", want, err)
		}
	}
}

func TestOnlyKnownServicesAreExempt(t *testing.T) {
	table, err := NewTable(map[string]grpc.ServiceInfo{
		"bindery.access.v1.ResourceService": {Methods: []grpc.MethodInfo{{Name: "RegisterResource"}}},
		"grpc.health.v1.Health":             {Methods: []grpc.MethodInfo{{Name: "Check"}}},
	}, deps)
	if err != nil {
		t.Fatal(err)
	}
	if m := table.Method("/grpc.health.v1.Health/Check"); m == nil || !m.Public() {
		t.Error("health is not open")
	}
	if got := table.Names(); len(got) != 1 || got[0] != "/bindery.access.v1.ResourceService/RegisterResource" {
		t.Errorf("names %v", got)
	}
	if table.Method("/a/b") != nil {
		t.Error("a rule for an unknown method")
	}
	if len(exempt) != 3 {
		t.Errorf("exempt are %v", exempt)
	}
}
