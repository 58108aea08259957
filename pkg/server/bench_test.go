package server

import (
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

func BenchmarkValidateAuthorize(b *testing.B) {
	req := &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: "t1.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbb"}, Permission: "resource-manager.folders.get",
		ResourcePath: []*accessservicev2.Resource{{Type: "resource-manager.folder", Id: "fld00000000000000000"}},
	}
	v, err := newValidator([]protoreflect.MessageDescriptor{req.ProtoReflect().Descriptor()})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := v.check(req); err != nil {
			b.Fatal(err)
		}
	}
}
