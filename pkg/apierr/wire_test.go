package apierr_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// TestWire: what is encoded by hand is what Edge makes.
func TestWire(t *testing.T) {
	long := strings.Repeat("я", 128)
	for name, r := range map[string]*apierr.Ready{
		"a plain denial": {Code: codes.PermissionDenied, Reason: "PERMISSION_DENIED", Message: "permission a.b.c is missing"},
		"with metadata":  {Code: codes.PermissionDenied, Reason: "X", Message: "no", Meta: [8]string{"permission", "a.b.c", "resourceId", "42"}},
		"full":           {Code: codes.NotFound, Reason: "X", Message: "no", Meta: [8]string{"a", "1", "b", "2", "c", "3", "d", "4"}},
		"an empty value": {Code: codes.NotFound, Reason: "X", Message: "no", Meta: [8]string{"a", "1", "empty", ""}},
		"a long text":    {Code: codes.NotFound, Reason: "X", Message: long + long, Meta: [8]string{"long", strings.Repeat("x", 256), "wide", long}},
		"no text":        {Code: codes.NotFound},
	} {
		for _, id := range []string{"", "8b6e", strings.Repeat("r", 128)} {
			t.Run(name+id, func(t *testing.T) {
				e := &apierr.Error{Code: r.Code, Reason: r.Reason, Message: r.Message}
				for i := 0; i < len(r.Meta) && r.Meta[i] != ""; i += 2 {
					e = e.WithMeta(r.Meta[i], r.Meta[i+1])
				}
				want := apierr.Edge(e, id).Proto()
				st, details := r.Wire(id)
				got := new(statuspb.Status)
				if err := proto.Unmarshal([]byte(details), got); err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
					t.Errorf("details (-Edge +Wire):\n%s", d)
				}
				if st.Code() != r.Code || st.Message() != want.GetMessage() {
					t.Errorf("status %v, want code and message of %v", st, want)
				}
			})
		}
	}
}

// TestPlain: a text that Edge would change is not plain.
func TestPlain(t *testing.T) {
	for s, want := range map[string]bool{
		"": true, "plain": true, "яя": true, strings.Repeat("x", 256): true, strings.Repeat("x", 257): false,
		"a\x00b": false, "\x1b[31m": false, "\xff": false, "v\u202e": false,
	} {
		if got := apierr.Plain(s); got != want {
			t.Errorf("Plain(%q) is %t", s, got)
		}
		left := apierr.Denied("X", "no").WithMeta("k", s).GRPCStatus().Details()[0].(*errdetails.ErrorInfo).GetMetadata()["k"]
		if want != (left == s) {
			t.Errorf("%q leaves as %q", s, left)
		}
	}
}

// TestAppendInfo: what is encoded by hand is what the library makes.
func TestAppendInfo(t *testing.T) {
	for _, pairs := range [][]string{nil, {"k", "v"}, {"permission", "a.b.c", "resourceId", "", "", "x"}, {"long", strings.Repeat("x", 300)}} {
		e := &errdetails.ErrorInfo{Reason: "X", Domain: apierr.Domain}
		for i := 0; i < len(pairs); i += 2 {
			if e.Metadata == nil {
				e.Metadata = map[string]string{}
			}
			e.Metadata[pairs[i]] = pairs[i+1]
		}
		want, err := anypb.New(e)
		if err != nil {
			t.Fatal(err)
		}
		got := new(anypb.Any)
		if err := proto.Unmarshal(apierr.AppendInfo(nil, "X", pairs...), got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, protocmp.Transform()); d != "" {
			t.Errorf("%q (-library +AppendInfo):\n%s", pairs, d)
		}
	}
}
