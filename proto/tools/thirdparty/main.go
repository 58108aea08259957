// Command thirdparty prints the .proto files of others that ours import, so that
// none of them has to be copied into the repository or fetched from a registry.
// It takes them from the descriptors linked into the Go modules that go.mod
// pins: what buf reads and what the generated code is built against are the same.
//
//	go run ./thirdparty DIR
//
// removes DIR and writes it anew.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate" // buf/validate/validate.proto
	"github.com/jhump/protoreflect/v2/protoprint"
	_ "google.golang.org/genproto/googleapis/api/annotations" // google/api/annotations.proto, http.proto
	_ "google.golang.org/genproto/googleapis/api/httpbody"    // google/api/httpbody.proto
	_ "google.golang.org/genproto/googleapis/rpc/status"      // google/rpc/status.proto
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// files are what our protos import, imports of imports included. The files below
// google/protobuf are built into buf.
var files = []string{
	"buf/validate/validate.proto",
	"google/api/annotations.proto",
	"google/api/http.proto",
	"google/api/httpbody.proto",
	"google/rpc/status.proto",
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: thirdparty DIR")
		os.Exit(2)
	}
	if err := printTo(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "thirdparty:", err)
		os.Exit(1)
	}
}

// printTo writes every file of files below dir, which it removes first.
func printTo(dir string) error {
	var found []protoreflect.FileDescriptor
	for _, path := range files {
		file, err := protoregistry.GlobalFiles.FindFileByPath(path)
		if err != nil {
			return fmt.Errorf("find %s among the linked descriptors: %w", path, err)
		}
		found = append(found, file)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the old files: %w", err)
	}
	printer := &protoprint.Printer{}
	return printer.PrintProtosToFileSystem(found, filepath.Clean(dir))
}
