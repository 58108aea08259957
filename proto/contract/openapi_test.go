package contract

import (
	"encoding/json"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
	authzv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/authz/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
)

// TestOpenAPI finds a method that people may call and the document lacks, and one
// that only units may call and the document shows (buf.gen.yaml, exclude_types).
func TestOpenAPI(t *testing.T) {
	raw, err := os.ReadFile("../gen/openapi/bindery.swagger.json")
	if err != nil {
		t.Fatal(err)
	}
	var document struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, verbs := range document.Paths {
		for _, operation := range verbs {
			got = append(got, operation.OperationID)
		}
	}

	var want []string
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				method := service.Methods().Get(j)
				rule, _ := proto.GetExtension(method.Options(), authzv1.E_Rule).(*authzv1.Rule)
				if rule != nil && rule.GetInternal() == nil {
					want = append(want, string(service.Name())+"_"+string(method.Name()))
				}
			}
		}
		return true
	})
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the document differs from the methods (-methods +document):\n%s", diff)
	}
}
