package gateway

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// strictQuery reads query parameters as the library does, but refuses one that
// names no field of the request, as an unknown field of a JSON body is refused:
// a filter with a typing error would otherwise list everything.
type strictQuery struct{ runtime.DefaultQueryParser }

// Parse sets the fields of msg that values name.
func (q strictQuery) Parse(msg proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	for key := range values {
		name, _, _ := strings.Cut(key, "[") // of a map: name[key]
		if !hasField(msg.ProtoReflect().Descriptor(), strings.Split(name, ".")) {
			return fmt.Errorf("query parameter %.100q: %s has no such field", key, msg.ProtoReflect().Descriptor().Name())
		}
	}
	return q.DefaultQueryParser.Parse(msg, values, filter)
}

// hasField tells whether a path of proto or JSON names leads to a field.
func hasField(in protoreflect.MessageDescriptor, path []string) bool {
	for i, name := range path {
		f := in.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			f = in.Fields().ByJSONName(name)
		}
		if f == nil {
			return false
		}
		if in = f.Message(); in == nil || f.IsMap() {
			return i == len(path)-1
		}
	}
	return true
}
