package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/api/annotations"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// TestBadInputREST sends the same bad values through the other door, where they
// stand in a path, a query or JSON, and what only that door can be sent.
func TestBadInputREST(t *testing.T) {
	w := newAccessWorld(t, sqldbtest.Open(t, sqldb.SQLite, "bindery", nil))
	before, sent := heap(), 0
	for _, r := range inputRPCs() {
		if route := routeOf(t, r.method); route != nil && !r.operator && len(r.units) == 0 {
			sent += w.badREST(r, route)
		}
	}
	w.unharmed(t, before)
	t.Logf("%d requests", sent)
}

// route is how REST reaches a method.
type route struct {
	verb, path, body string
}

func routeOf(t testing.TB, method string) *route {
	t.Helper()
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(method, "/", ".")))
	if err != nil {
		t.Fatal(err)
	}
	rule, ok := proto.GetExtension(d.Options(), annotations.E_Http).(*annotations.HttpRule)
	if !ok || rule == nil {
		return nil
	}
	verbs := map[string]string{"GET": rule.GetGet(), "POST": rule.GetPost(), "PATCH": rule.GetPatch(), "DELETE": rule.GetDelete(), "PUT": rule.GetPut()}
	for verb, path := range verbs {
		if path != "" {
			return &route{verb, path, rule.GetBody()}
		}
	}
	t.Fatalf("%s: %v", method, rule)
	return nil
}

var inPath = regexp.MustCompile(`\{([a-z_.]+)\}`)

// request writes a message as an HTTP request; ok is false where REST has no words
// for it: an empty part of a path, JSON that no time or mask has.
func (r *route) request(base string, msg proto.Message) (req *http.Request, ok bool) {
	m := proto.Clone(msg).ProtoReflect()
	ok = true
	path := inPath.ReplaceAllStringFunc(r.path, func(name string) string {
		parts := strings.Split(strings.Trim(name, "{}"), ".")
		holder := m
		for _, p := range parts[:len(parts)-1] {
			holder = holder.Mutable(holder.Descriptor().Fields().ByName(protoreflect.Name(p))).Message()
		}
		fd := holder.Descriptor().Fields().ByName(protoreflect.Name(parts[len(parts)-1]))
		value := holder.Get(fd).String()
		holder.Clear(fd)
		ok = ok && value != ""
		return url.PathEscape(value)
	})
	var body []byte
	if r.body == "*" {
		var err error
		body, err = protojson.Marshal(m.Interface())
		ok = ok && err == nil
		body = bytes.ReplaceAll(body, []byte(notUTF8), badBytes)
	} else if query := make(url.Values); ok {
		ok = queryOf(m, "", query)
		path += "?" + query.Encode()
	}
	path = strings.ReplaceAll(path, url.QueryEscape(notUTF8), url.QueryEscape(string(badBytes)))
	req, err := http.NewRequest(r.verb, base+path, bytes.NewReader(body))
	if err != nil {
		return nil, false
	}
	return req, ok
}

// queryOf writes a message as query parameters; false where they have no words for
// it: a message that is there and empty, a list of messages.
func queryOf(m protoreflect.Message, prefix string, into url.Values) bool {
	ok := true
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		name := prefix + string(fd.Name())
		switch {
		case fd.IsMap() || fd.IsList() && fd.Message() != nil:
			ok = false
		case fd.IsList():
			for i := range v.List().Len() {
				into.Add(name, v.List().Get(i).String())
			}
		case fd.Message() == nil:
			into.Set(name, v.String())
		case strings.HasPrefix(string(fd.Message().FullName()), "google.protobuf."):
			raw, err := protojson.Marshal(v.Message().Interface())
			into.Set(name, strings.Trim(string(raw), `"`))
			ok = err == nil
		default:
			before := len(into)
			ok = queryOf(v.Message(), name+".", into) && len(into) > before
		}
		return ok
	})
	return ok
}

// maxURL is what fits into the head of a request beside the rest.
const maxURL = 12 << 10

func (w *accessWorld) badREST(r rpc, route *route) int {
	c, sent := w.badCaller(r), 0
	target, base := c.target, r.request(c.target)
	for _, m := range mutations(base) {
		if c.target != target {
			target, base = c.target, r.request(c.target)
		}
		msg := m.of(base)
		req, ok := route.request("http://"+w.HTTPAddr(), msg)
		if !ok {
			continue
		}
		sent++
		want := expect(r, m, msg)
		if strings.Contains(r.method, "Authenticate") || strings.Contains(r.method, "uthorize") {
			want.codes = append(want.codes, codes.Unauthenticated) // a header proves nobody else
		}
		if !m.isUTF8() {
			want.fields = append(want.fields, "url", "body") // found before there are fields
		}
		st, httpCode := c.sendREST(req)
		switch {
		case len(req.URL.String()) > maxURL && httpCode == http.StatusRequestHeaderFieldsTooLarge:
		case !want.allows(st):
			w.t.Errorf("%s: %s: got %d %s, want %v naming %.200q", r.name(), m, httpCode, describe(st), want.codes, want.fields)
		}
		if leak := leaks(st); leak != "" {
			w.t.Errorf("%s: %s: got %s, which shows %q", r.name(), m, describe(st), leak)
		}
	}
	return sent
}

// sendREST sends a request as whoever owns the target.
func (c *badCaller) sendREST(req *http.Request) (*status.Status, int) {
	c.t.Helper()
	req.Header.Set("Authorization", "Bearer "+c.who.token)
	resp, err := (&http.Client{Timeout: 20 * time.Second}).Do(req)
	if err != nil {
		c.t.Fatalf("%s %.100s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode == http.StatusOK {
		c.accepted()
		return status.New(codes.OK, ""), resp.StatusCode
	}
	st := new(statuspb.Status)
	var stream struct { // what would have been a stream says its error like one
		Error json.RawMessage `json:"error"`
	}
	if json.Unmarshal(body, &stream) == nil && stream.Error != nil {
		body = stream.Error
	}
	if err := protojson.Unmarshal(body, st); err != nil {
		return status.Newf(codes.Unknown, "%.200s", body), resp.StatusCode
	}
	return status.FromProto(st), resp.StatusCode
}
