package gateway

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
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

// Parse sets the fields of msg that values name. What is wrong with a field of a field is
// said of its whole path, of which the library names the end alone.
func (q strictQuery) Parse(msg proto.Message, values url.Values, filter *utilities.DoubleArray) error {
	paths := make(map[string]string)
	for key := range values {
		name, _, _ := strings.Cut(key, "[") // of a map: name[key]
		path, ok := fieldPath(msg.ProtoReflect().Descriptor(), strings.Split(name, "."))
		if !ok {
			return fmt.Errorf("query parameter %.100q: %s has no such field", key, msg.ProtoReflect().Descriptor().Name())
		}
		paths[key] = path
	}
	err := q.DefaultQueryParser.Parse(msg, values, filter)
	if err == nil {
		return nil
	}
	for _, key := range slices.Sorted(maps.Keys(paths)) {
		if !strings.Contains(paths[key], ".") {
			continue
		}
		alone := q.DefaultQueryParser.Parse(msg.ProtoReflect().New().Interface(), url.Values{key: values[key]}, filter)
		if alone != nil {
			return fmt.Errorf("parameter %q: %w", paths[key], alone)
		}
	}
	return err
}

// fieldPath is a path of proto or JSON names in proto names; false where none leads to a
// field.
func fieldPath(in protoreflect.MessageDescriptor, path []string) (string, bool) {
	names := make([]string, 0, len(path))
	for i, name := range path {
		f := in.Fields().ByName(protoreflect.Name(name))
		if f == nil {
			f = in.Fields().ByJSONName(name)
		}
		if f == nil {
			return "", false
		}
		names = append(names, string(f.Name()))
		if in = f.Message(); in == nil || f.IsMap() {
			return strings.Join(names, "."), i == len(path)-1
		}
	}
	return strings.Join(names, "."), true
}
