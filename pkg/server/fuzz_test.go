package server

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/text"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// FuzzUndecodable reads bytes that the decoder refuses: the refusal names a field
// that holds text which is not UTF-8, or the whole.
func FuzzUndecodable(f *testing.F) {
	for _, s := range []string{"", "\x0a\x01\xff", "\x0a\x05a", "\x2a\x06\x0a\x01\xff\x12\x01v", "\x12\x03\x0a\x01\xff", "\xfb\x3f", "\x0d\x01", "\x0a\x00\x0a\x02\xc0\x80"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		req := new(rmv1.UpdateCloudRequest)
		cause := proto.Unmarshal(data, req)
		if cause == nil {
			return
		}
		e, ok := apierr.As(undecodable(data, req, cause))
		if !ok || e.Code != codes.InvalidArgument || len(e.Fields) != 1 || e.Fields[0].Name == "" {
			t.Fatalf("%x: %v", data, e)
		}
		field := e.Fields[0].Name
		if field != "request" && !hasField(req, field) {
			t.Errorf("%x: there is no field %q", data, field)
		}
		if field == "request" && strings.HasSuffix(cause.Error(), "invalid UTF-8") && badUTF8(data, req.ProtoReflect().Descriptor(), "") != "" {
			t.Errorf("%x: names no field", data)
		}
	})
}

// hasField reports whether the first part of a path is a field of a message.
func hasField(m proto.Message, path string) bool {
	name := strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' })[0]
	return m.ProtoReflect().Descriptor().Fields().ByTextName(name) != nil
}

// FuzzIncoming reads the headers that name a request: what is kept of them can stand
// in a log line and in a header as it is.
func FuzzIncoming(f *testing.F) {
	f.Add("r-1", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "agent/1 (x)")
	f.Add("\x1b[31m", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", "\u202E\x00")
	f.Fuzz(func(t *testing.T, id, parent, agent string) {
		ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs(headerRequestID, id, headerTraceParent, parent, headerUserAgent, agent))
		r := incoming(ctx, "/m")
		named(&r)
		for what, s := range map[string]string{"id": r.ID, "trace": r.TraceID, "agent": r.UserAgent} {
			if text.Problem(s) != "" || strings.ContainsAny(s, "\n\t") || len(s) > 256 {
				t.Errorf("%s %q", what, s)
			}
		}
		if len(r.ID) > maxRequestID || r.ID == "" || len(r.TraceID) != 32 || strings.Trim(r.TraceID, "0123456789abcdef") != "" {
			t.Errorf("id %q, trace %q", r.ID, r.TraceID)
		}
		if len(r.TraceParent) != traceParentLen || traceID(r.TraceParent) != r.TraceID {
			t.Errorf("traceparent %q of trace %q", r.TraceParent, r.TraceID)
		}
	})
}
