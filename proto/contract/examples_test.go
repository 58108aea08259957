package contract

import (
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// steps are the calls of the documented ways from a request to a decision, which the
// document shows by an example each.
var steps = []string{
	"bindery.marketplace.v1.PublisherService.CreatePublisher", "bindery.marketplace.v1.ProductService.CreateProduct",
	"bindery.marketplace.v1.ProductAccessRequestService.CreateProductAccessRequest",
	"bindery.marketplace.v1.ProductAccessRequestService.CreateProductAccessRequestMessage",
	"bindery.marketplace.v1.ProductAccessRequestService.ApproveProductAccessRequest",
	"bindery.marketplace.v1.ProductAccessRequestService.RejectProductAccessRequest",
	"bindery.marketplace.v1.ProductAccessRequestService.RequestRevocation", "bindery.marketplace.v1.ProductInstanceService.CreateProductInstance",
	"bindery.access.v1.RoleRequestService.CreateRoleRequest", "bindery.access.v1.RoleRequestService.CreateRoleRequestMessage",
	"bindery.access.v1.RoleRequestService.ApproveRoleRequest", "bindery.access.v1.RoleRequestService.RejectRoleRequest",
	"bindery.access.v1.RoleRequestService.EndRoleRequest",
	"bindery.support.v1.TicketService.CreateTicket", "bindery.support.v1.TicketService.CreateTicketComment",
}

// TestExamples holds the examples of the document to what they are examples of: each step
// has one, and each is a body that the method takes.
func TestExamples(t *testing.T) {
	raw, err := os.ReadFile("../gen/openapi/bindery.swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Definitions map[string]struct {
			Example json.RawMessage `json:"example"`
		} `json:"definitions"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		method := find(t, step).(protoreflect.MethodDescriptor) //nolint:forcetypeassert // a wrong name ends the test
		example := document.Definitions[step+"Body"].Example
		if example == nil { // of a method whose body is all of the request
			example = document.Definitions[string(method.Input().FullName())].Example
		}
		if example == nil {
			t.Errorf("%s has no example", step)
			continue
		}
		typ, err := protoregistry.GlobalTypes.FindMessageByName(method.Input().FullName())
		if err != nil {
			t.Fatal(err)
		}
		req := typ.New().Interface()
		if err := protojson.Unmarshal(example, req); err != nil {
			t.Errorf("the example of %s: %v", step, err)
			continue
		}
		for _, wrong := range violations(t, req) {
			t.Errorf("the example of %s: %s", step, wrong)
		}
	}
}

func find(t *testing.T, name string) protoreflect.Descriptor {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return d
}

// violations are what is wrong with the fields of a message that are set; the others
// stand in the path.
func violations(t *testing.T, m proto.Message) (all []string) {
	t.Helper()
	var invalid *protovalidate.ValidationError
	if err := protovalidate.Validate(m); err == nil || !errors.As(err, &invalid) {
		if err != nil {
			t.Fatal(err)
		}
		return nil
	}
	for _, v := range invalid.Violations {
		path := protovalidate.FieldPathString(v.Proto.GetField())
		name, _, _ := strings.Cut(path, ".")
		name, _, _ = strings.Cut(name, "[")
		field := m.ProtoReflect().Descriptor().Fields().ByName(protoreflect.Name(name))
		if field != nil && m.ProtoReflect().Has(field) {
			all = append(all, path+": "+v.Proto.GetMessage())
		}
	}
	return all
}
