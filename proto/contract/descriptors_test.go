package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	"github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/api"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/usage_records/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/endpoint"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/oauth"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1/saml"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quota"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
	_ "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// wholePackages are those of which we serve every file. Of the other packages in
// proto/yandex we serve some files, each of them whole.
var wholePackages = []protoreflect.FullName{
	"yandex.cloud.access",
	"yandex.cloud.api",
	"yandex.cloud.billing.usage_records.v1",
	"yandex.cloud.billing.v1",
	"yandex.cloud.endpoint",
	"yandex.cloud.iam",
	"yandex.cloud.iam.v1.awscompatibility",
	"yandex.cloud.iam.v1.workload",
	"yandex.cloud.iam.v1.workload.oidc",
	"yandex.cloud.oauth",
	"yandex.cloud.operation",
	"yandex.cloud.organizationmanager.v1.saml",
	"yandex.cloud.priv.accessservice.v2",
	"yandex.cloud.quota",
	"yandex.cloud.quotamanager.v1",
	"yandex.cloud.resourcemanager.v1",
}

// privateDir is where the private files were published; we keep them below
// privateDirHere, in the directory of their package.
const (
	privateDir     = "ydb/public/api/client/yc_private/"
	privateDirHere = "yandex/cloud/priv/"
)

// TestFilesAreTheContracts compares every element of every file below
// proto/yandex with the file of the same path in the contract, both ways.
func TestFilesAreTheContracts(t *testing.T) {
	theirs := contractFiles(t)
	elements := 0
	for _, path := range sourceFiles(t) {
		t.Run(path, func(t *testing.T) {
			ours, err := protoregistry.GlobalFiles.FindFileByPath(path)
			if err != nil {
				t.Fatalf("not linked into this test, import its Go package: %v", err)
			}
			file, ok := theirs[path]
			if !ok {
				t.Fatal("the contract has no such file")
			}
			want, got := elementsOf(t, file), elementsOf(t, ours)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("differs from the contract (-contract +ours):\n%s", diff)
			}
			elements += len(got)
		})
	}
	if elements < 400 {
		t.Errorf("compared %d elements, want at least 400: the comparison has lost most of them", elements)
	}
}

// TestWholePackages finds a file of the contract that we have left out.
func TestWholePackages(t *testing.T) {
	ours := sourceFiles(t)
	for path, file := range contractFiles(t) {
		empty := file.Messages().Len()+file.Enums().Len()+file.Services().Len()+file.Extensions().Len() == 0
		if slices.Contains(wholePackages, file.Package()) && !empty && !slices.Contains(ours, path) {
			t.Errorf("%s is missing, and %s is served whole", path, file.Package())
		}
	}
}

// TestNothingElseIsNamedYandex keeps what is ours out of their packages, wherever
// its file may lie.
func TestNothingElseIsNamedYandex(t *testing.T) {
	ours := sourceFiles(t)
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(file.Package())+".", "yandex.") && !slices.Contains(ours, file.Path()) {
			t.Errorf("%s declares package %s", file.Path(), file.Package())
		}
		return true
	})
}

// sourceFiles returns the paths of all .proto files below proto/yandex, as
// imports write them.
func sourceFiles(t *testing.T) []string {
	t.Helper()
	var paths []string
	err := fs.WalkDir(os.DirFS(".."), "yandex", func(path string, _ fs.DirEntry, err error) error {
		if filepath.Ext(path) == ".proto" {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) == 0 {
		t.Fatal("no .proto file below proto/yandex")
	}
	return paths
}

// contractFiles returns the files of the contract by the paths at which we keep
// them, imports included.
func contractFiles(t *testing.T) map[string]protoreflect.FileDescriptor {
	t.Helper()
	byPath := make(map[string]protoreflect.FileDescriptor)
	for _, name := range []string{"yandex-cloud.binpb", "yandex-cloud-priv.binpb"} {
		raw, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		var set descriptorpb.FileDescriptorSet
		if err := proto.Unmarshal(raw, &set); err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		files, err := protodesc.NewFiles(&set)
		if err != nil {
			t.Fatalf("link %s: %v", name, err)
		}
		files.RangeFiles(func(file protoreflect.FileDescriptor) bool {
			path := file.Path()
			if rest, ok := strings.CutPrefix(path, privateDir); ok {
				path = privateDirHere + rest
			}
			byPath[path] = file
			return true
		})
	}
	return byPath
}

// elementsOf describes every element of a file by what a client can tell: one
// line by full name. The order in a file, comments, imports and options of
// languages and validators are left out.
func elementsOf(t *testing.T, file protoreflect.FileDescriptor) map[string]string {
	t.Helper()
	lines := map[string]string{
		"file": fmt.Sprintf("package %s syntax %s", file.Package(), file.Syntax()),
	}
	messageElements(lines, file.Messages())
	enumElements(lines, file.Enums())
	for i := range file.Extensions().Len() {
		extension := file.Extensions().Get(i)
		lines[string(extension.FullName())] = fieldLine(extension) + " extends " + string(extension.ContainingMessage().FullName())
	}
	for i := range file.Services().Len() {
		service := file.Services().Get(i)
		lines[string(service.FullName())] = fmt.Sprintf("service deprecated=%t", service.Options().(*descriptorpb.ServiceOptions).GetDeprecated())
		for j := range service.Methods().Len() {
			method := service.Methods().Get(j)
			lines[string(method.FullName())] = methodLine(t, method)
		}
	}
	return lines
}

// messageElements adds the lines of messages and everything in them.
func messageElements(lines map[string]string, messages protoreflect.MessageDescriptors) {
	for i := range messages.Len() {
		message := messages.Get(i)
		lines[string(message.FullName())] = fmt.Sprintf("message reserved=%v %v extensions=%v map_entry=%t deprecated=%t",
			ranges(message.ReservedRanges()), names(message.ReservedNames()), ranges(message.ExtensionRanges()),
			message.IsMapEntry(), message.Options().(*descriptorpb.MessageOptions).GetDeprecated())
		for j := range message.Fields().Len() {
			field := message.Fields().Get(j)
			lines[string(field.FullName())] = fieldLine(field)
		}
		for j := range message.Oneofs().Len() {
			oneof := message.Oneofs().Get(j)
			lines[string(oneof.FullName())] = fmt.Sprintf("oneof synthetic=%t", oneof.IsSynthetic())
		}
		messageElements(lines, message.Messages())
		enumElements(lines, message.Enums())
	}
}

// enumElements adds the lines of enums and their values.
func enumElements(lines map[string]string, enums protoreflect.EnumDescriptors) {
	for i := range enums.Len() {
		enum := enums.Get(i)
		options := enum.Options().(*descriptorpb.EnumOptions)
		var reserved []string
		for j := range enum.ReservedRanges().Len() {
			reserved = append(reserved, fmt.Sprint(enum.ReservedRanges().Get(j)))
		}
		lines[string(enum.FullName())] = fmt.Sprintf("enum reserved=%v %v allow_alias=%t deprecated=%t",
			reserved, names(enum.ReservedNames()), options.GetAllowAlias(), options.GetDeprecated())
		for j := range enum.Values().Len() {
			value := enum.Values().Get(j)
			// A value's full name leaves its enum out.
			lines[string(enum.FullName())+"/"+string(value.Name())] = fmt.Sprintf("value %d deprecated=%t",
				value.Number(), value.Options().(*descriptorpb.EnumValueOptions).GetDeprecated())
		}
	}
}

// fieldLine describes a field or an extension.
func fieldLine(field protoreflect.FieldDescriptor) string {
	typ := field.Kind().String()
	if field.Message() != nil {
		typ = string(field.Message().FullName())
	}
	if field.Enum() != nil {
		typ = string(field.Enum().FullName())
	}
	oneof := protoreflect.Name("")
	if field.ContainingOneof() != nil {
		oneof = field.ContainingOneof().Name()
	}
	return fmt.Sprintf("field %d %s %s json=%s oneof=%s presence=%t packed=%t default=%v deprecated=%t",
		field.Number(), field.Cardinality(), typ, field.JSONName(), oneof, field.HasPresence(), field.IsPacked(),
		field.HasDefault(), field.Options().(*descriptorpb.FieldOptions).GetDeprecated())
}

// methodLine describes a method with its path in REST and what its operation
// carries.
func methodLine(t *testing.T, method protoreflect.MethodDescriptor) string {
	t.Helper()
	options := method.Options().(*descriptorpb.MethodOptions)
	http := "none"
	if proto.HasExtension(options, annotations.E_Http) {
		raw, err := protojson.Marshal(proto.GetExtension(options, annotations.E_Http).(*annotations.HttpRule))
		if err != nil {
			t.Fatalf("%s: %v", method.FullName(), err)
		}
		var compact bytes.Buffer // protojson spaces at random
		if err := json.Compact(&compact, raw); err != nil {
			t.Fatalf("%s: %v", method.FullName(), err)
		}
		http = compact.String()
	}
	operation := "none"
	if proto.HasExtension(options, api.E_Operation) {
		option := proto.GetExtension(options, api.E_Operation).(*api.Operation)
		operation = fmt.Sprintf("metadata=%s response=%s", resolve(method, option.GetMetadata()), resolve(method, option.GetResponse()))
	}
	return fmt.Sprintf("method %s -> %s streams=%t,%t http=%s operation=%s idempotency=%s deprecated=%t",
		method.Input().FullName(), method.Output().FullName(), method.IsStreamingClient(), method.IsStreamingServer(),
		http, operation, options.GetIdempotencyLevel(), options.GetDeprecated())
}

// resolve returns the full name of a message written in an option of a method:
// like a type in a .proto file it is looked up in the package of the method
// first, then in each package around it, among that file and its imports.
func resolve(method protoreflect.MethodDescriptor, name string) protoreflect.FullName {
	for scope := method.ParentFile().Package(); ; scope = scope.Parent() {
		full := protoreflect.FullName(strings.TrimPrefix(string(scope)+"."+name, "."))
		if visible(method.ParentFile(), full) {
			return full
		}
		if scope == "" {
			return protoreflect.FullName("unresolved " + name)
		}
	}
}

// visible tells whether a file or one that it imports declares a message. Empty
// counts as declared: the published files name it without importing it.
func visible(file protoreflect.FileDescriptor, message protoreflect.FullName) bool {
	if message == "google.protobuf.Empty" {
		return true
	}
	declares := func(f protoreflect.FileDescriptor) bool {
		return f.Package() == message.Parent() && f.Messages().ByName(message.Name()) != nil
	}
	if declares(file) {
		return true
	}
	for i := range file.Imports().Len() {
		if declares(file.Imports().Get(i).FileDescriptor) {
			return true
		}
	}
	return false
}

// ranges lists field ranges in writing order.
func ranges(all protoreflect.FieldRanges) []string {
	var list []string
	for i := range all.Len() {
		list = append(list, fmt.Sprint(all.Get(i)))
	}
	return list
}

// names lists reserved names in writing order.
func names(all protoreflect.Names) []string {
	var list []string
	for i := range all.Len() {
		list = append(list, string(all.Get(i)))
	}
	return list
}
