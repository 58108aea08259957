package server

import (
	"context"
	"fmt"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// codec is grpc's own, but bytes that are no message are found out by us: grpc
// answers them with INTERNAL and the text of the decoder, before the chain.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(encodingproto.Name)} }

// Unmarshal decodes into a message, or into a request that takes what is wrong.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	switch into := v.(type) {
	case *fastCall:
		into.take(data)
		return nil
	case *frame:
		into.data = data.Materialize()
		return nil
	}
	r, ok := v.(*request)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	if err := c.CodecV2.Unmarshal(data, r.into); err != nil {
		r.err = undecodable(data.Materialize(), r.into, err)
	}
	return nil
}

// request is a message on its way in.
type request struct {
	decode func(any) error
	into   any
	err    error
}

// message decodes into a message of the method.
func (r *request) message(into any) error {
	r.into = into
	if err := r.decode(r); err != nil {
		return err
	}
	return r.err
}

// methodHandler is what grpc calls for a method.
type methodHandler = func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error)

// decoding returns a service whose methods answer INVALID_ARGUMENT to bytes that are
// no request of theirs. The interceptor does not see such a call, so it ends here,
// with all that the chain does at the end of a call.
func (c *chain) decoding(desc *grpc.ServiceDesc) *grpc.ServiceDesc {
	d := *desc
	d.Methods = make([]grpc.MethodDesc, len(desc.Methods))
	for i, m := range desc.Methods {
		name := "/" + desc.ServiceName + "/" + m.MethodName
		d.Methods[i] = grpc.MethodDesc{
			MethodName: m.MethodName,
			Handler: c.fast(name, func(srv any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
				r := &request{decode: decode}
				resp, err := m.Handler(srv, ctx, r.message, chain)
				if r.err == nil {
					return resp, err
				}
				k, err := c.begin(ctx, name)
				if err != nil {
					return nil, err
				}
				return nil, c.end(ctx, k, r.err)
			}),
		}
	}
	return &d
}

// undecodable is the refusal of bytes, with the field at fault where its text is not
// UTF-8.
func undecodable(data []byte, into any, cause error) error {
	if m, ok := into.(proto.Message); ok {
		if path := badUTF8(data, m.ProtoReflect().Descriptor(), ""); path != "" {
			return apierr.InvalidField(path, "must be valid UTF-8").WithCause(cause)
		}
	}
	return apierr.InvalidField("request", "is not a message of the method").WithCause(cause)
}

// badUTF8 returns the path of the first text in the bytes of a message that is not
// UTF-8, "" when there is none.
func badUTF8(data []byte, md protoreflect.MessageDescriptor, path string) string {
	seen := make(map[protowire.Number]int)
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return ""
		}
		data = data[n:]
		if n = protowire.ConsumeFieldValue(num, typ, data); n < 0 {
			return ""
		}
		value := data[:n]
		data = data[n:]
		fd := md.Fields().ByNumber(num)
		if fd == nil || typ != protowire.BytesType {
			continue
		}
		name := fieldName(path, fd, seen[num])
		seen[num]++
		value, _ = protowire.ConsumeBytes(value) // it was consumed once already
		switch {
		case fd.Message() != nil:
			if bad := badUTF8(value, fd.Message(), name); bad != "" && fd.IsMap() {
				return name
			} else if bad != "" {
				return bad
			}
		case fd.Kind() == protoreflect.StringKind && !utf8.Valid(value):
			return name
		}
	}
	return ""
}

// fieldName is the path of a field, or of the item of a list.
func fieldName(path string, fd protoreflect.FieldDescriptor, item int) string {
	name := string(fd.Name())
	if path != "" {
		name = path + "." + name
	}
	if fd.IsList() {
		name += fmt.Sprintf("[%d]", item)
	}
	return name
}
