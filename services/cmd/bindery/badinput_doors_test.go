package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// badBodies are bodies that are no request of any method.
var badBodies = map[string]string{
	"cut": `{"name": "x`, "an opening": `{`, "a list": `[]`, "null": `null`, "a text": `"x"`, "a number": `1`, "no JSON": `<xml/>`, "NUL": "\x00",
	"byte order mark": "\ufeff{}", "unknown field": `{"noSuchField": 1}`, "unknown field of a prototype": `{"__proto__": {}}`, "single quotes": `{'name': 'x'}`,
	"comment": `{/**/}`, "trailing comma": `{"noSuchField": 1,}`, "not UTF-8": "{\"name\": \"\xff\"}", "lone surrogate": `{"name": "\ud800"}`,
	"deep objects": strings.Repeat(`{"a":`, 100000), "deep lists": strings.Repeat(`[`, 100000), "huge": `{"name": "` + strings.Repeat("a", 9<<20) + `"}`,
	"duplicate": `{"noSuchField": 1, "noSuchField": 2}`, "two values": `{} {"name": "x"}`, "text behind": `{} x`,
}

func TestBadBodies(t *testing.T) {
	w := newAccessWorld(t, sqldbtest.Open(t, sqldb.SQLite, "bindery", nil))
	before := heap()
	done := make(map[string]bool)
	for _, r := range inputRPCs() {
		route := routeOf(t, r.method)
		if done[r.method] || route == nil || route.body == "" || r.operator || len(r.units) > 0 {
			continue
		}
		done[r.method] = true
		c := w.badCaller(r)
		for what, body := range badBodies {
			req, ok := route.request("http://"+w.HTTPAddr(), r.request(c.target))
			if !ok {
				t.Fatalf("%s: no request", r.name())
			}
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			st, code := c.sendREST(req)
			if st.Code() != codes.InvalidArgument || code != http.StatusBadRequest || len(violated(st)) == 0 || leaks(st) != "" {
				t.Errorf("%s: %s: got %d %s %s", r.name(), what, code, describe(st), leaks(st))
			}
		}
		// A wrong type in each field.
		md := r.request(c.target).ProtoReflect().Descriptor()
		for i := range md.Fields().Len() {
			name := md.Fields().Get(i).JSONName()
			if strings.Contains(route.path, "{"+string(md.Fields().Get(i).Name())) {
				continue
			}
			for _, value := range []string{`true`, `[[]]`, `{"a": {"b": 1}}`, `1e400`} {
				if value == `true` && md.Fields().Get(i).Kind() == protoreflect.BoolKind {
					continue // which is its type
				}
				req, _ := route.request("http://"+w.HTTPAddr(), r.request(c.target))
				body := fmt.Sprintf(`{%q: %s}`, name, value)
				req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				if st, code := c.sendREST(req); st.Code() != codes.InvalidArgument || code != http.StatusBadRequest || leaks(st) != "" {
					t.Errorf("%s: %s: got %d %s %s", r.name(), body, code, describe(st), leaks(st))
				}
			}
		}
	}
	w.unharmed(t, before)
}

// TestBadRequestLines sends by hand what no HTTP client would.
func TestBadRequestLines(t *testing.T) {
	w := newAccessWorld(t, sqldbtest.Open(t, sqldb.SQLite, "bindery", nil))
	n := w.grow(cloud)
	const path = "/resource-manager/v1/clouds"
	auth := "Authorization: Bearer " + n.owner.token + "\r\n"
	for name, tt := range map[string]struct {
		send string
		want string // of the status line; several are separated by a space
	}{
		"bad escape":                  {"GET " + path + "/%zz HTTP/1.1\r\nHost: x\r\n" + auth, "400"},
		"cut escape":                  {"GET " + path + "/%f HTTP/1.1\r\nHost: x\r\n" + auth, "400"},
		"escaped NUL":                 {"GET " + path + "/%00 HTTP/1.1\r\nHost: x\r\n" + auth, "400"},
		"no UTF-8":                    {"GET " + path + "/%ff HTTP/1.1\r\nHost: x\r\n" + auth, "400"},
		"an empty part":               {"GET " + path + "//access-bindings HTTP/1.1\r\nHost: x\r\n" + auth, "400 404"},
		"a way up":                    {"GET " + path + "/../clouds/" + n.id + " HTTP/1.1\r\nHost: x\r\n" + auth, "400 404"},
		"an escaped way up":           {"GET " + path + "/%2e%2e/clouds/" + n.id + " HTTP/1.1\r\nHost: x\r\n" + auth, "400 404"},
		"a way up, with a body":       {"POST " + path + "/./" + n.id + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n" + auth + "\r\n{}", "400 404 501"},
		"bad escape in the query":     {"GET " + path + "?filter=%zz HTTP/1.1\r\nHost: x\r\n" + auth, "400"},
		"semicolon in the query":      {"GET " + path + "?a;b HTTP/1.1\r\nHost: x\r\n" + auth, "400"},
		"parameter twice":             {"GET " + path + "?page_size=1&pageSize=2 HTTP/1.1\r\nHost: x\r\n" + auth, "400"},
		"parameter nobody has":        {"GET " + path + "?organisationId=x HTTP/1.1\r\nHost: x\r\n" + auth, "400"},
		"method override":             {"POST " + path + "/" + n.id + " HTTP/1.1\r\nHost: x\r\nX-HTTP-Method-Override: DELETE\r\nContent-Length: 2\r\n" + auth + "\r\n{}", "501 405 404"},
		"form in place of a query":    {"POST " + path + "/" + n.id + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n" + auth + "\r\na=", "501 405 404 400"},
		"no host":                     {"GET " + path + " HTTP/1.1\r\n" + auth, "400"},
		"two lengths":                 {"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n" + auth + "\r\n{}x", "400"},
		"length and chunks":           {"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: gzip, chunked\r\n" + auth + "\r\n{}", "400 501"},
		"negative length":             {"POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n" + auth, "400"},
		"bad chunk":                   {"POST " + path + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n" + auth + "\r\nzz\r\n{}\r\n", "400"},
		"folded header":               {"GET " + path + " HTTP/1.1\r\nHost: x\r\nX-A: b\r\n Authorization: Bearer x\r\n", "400 401"},
		"space before the colon":      {"GET " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization : Bearer " + n.owner.token + "\r\n", "400"},
		"bare line feeds in a header": {"GET " + path + " HTTP/1.1\r\nHost: x\r\nX-Request-Id: a\nbindery-unit: gateway\r\n" + auth, "200 400"},
		"a header of 40 KiB":          {"GET " + path + " HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 40<<10) + "\r\n" + auth, "431"},
		"no version":                  {"GET " + path + "\r\n", "400"},
		"another protocol":            {"\x16\x03\x01\x02\x00\x01\x00", "400"},
		"a good one":                  {"GET " + path + "/" + n.id + " HTTP/1.1\r\nHost: x\r\n" + auth, "200"},
	} {
		got, body := w.byHand(t, tt.send)
		if got == "" || !strings.Contains(tt.want, got) {
			t.Errorf("%s: got %q, want %s: %.200s", name, got, tt.want, body)
		}
		if leak := internalText.FindString(body); leak != "" {
			t.Errorf("%s: shows %q: %.300s", name, leak, body)
		}
	}
	if _, err := rmv1.NewCloudServiceClient(w.Conn).Get(w.as(n.owner), &rmv1.GetCloudRequest{CloudId: n.id}); err != nil {
		t.Errorf("after all of them the cloud is gone: %v", err)
	}
}

// byHand sends the head of a request and returns the code of the answer and its body.
func (w *accessWorld) byHand(t *testing.T, head string) (code, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", w.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second)) // a TCP connection takes one
	if !strings.Contains(head, "\r\n\r\n") {
		head += "Connection: close\r\n\r\n"
	}
	_, _ = io.WriteString(conn, head) // a refusal may come before the end
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err.Error()
	}
	defer resp.Body.Close()
	raw, _ := io.ReadAll(resp.Body) // what came is looked at
	return fmt.Sprint(resp.StatusCode), string(raw)
}

// TestPageTokensAreTakenOnlyAsMade changes the token of each kind of list in every
// way, and shows it to lists and callers for which it was not made (NM-7).
func TestPageTokensAreTakenOnlyAsMade(t *testing.T) {
	w := newAccessWorld(t, sqldbtest.Open(t, sqldb.SQLite, "bindery", nil))
	n := w.grow(organization)
	for range 3 {
		w.child(n, cloud)
	}
	other := w.grow(organization)
	for range 2 {
		other.parent = nil
		w.child(other, cloud)
	}
	list := func(ctx context.Context, org, filter, token string) (*rmv1.ListCloudsResponse, error) {
		return rmv1.NewCloudServiceClient(w.Conn).List(ctx, &rmv1.ListCloudsRequest{OrganizationId: org, PageSize: 1, Filter: filter, PageToken: token})
	}
	first, err := list(w.as(n.owner), n.id, "", "")
	w.must(err)
	token := first.GetNextPageToken()
	if token == "" || len(token) > page.MaxToken {
		t.Fatalf("token %q", token)
	}
	if _, err := list(w.as(n.owner), n.id, "", token); err != nil {
		t.Fatalf("the token itself: %v", err)
	}
	refused := func(name string, err error) {
		t.Helper()
		if st := status.Convert(err); st.Code() != codes.InvalidArgument || strings.Join(violated(st), " ") != "page_token" || leaks(st) != "" {
			t.Errorf("%s: got %s", name, describe(st))
		}
	}
	for i := range token {
		_, err := list(w.as(n.owner), n.id, "", token[:i]+string(token[i]^1)+token[i+1:])
		refused(fmt.Sprintf("character %d changed", i), err)
		if i > 0 {
			_, err = list(w.as(n.owner), n.id, "", token[:i])
			refused(fmt.Sprintf("cut after %d", i), err)
		}
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	w.must(err)
	foreign, err := page.New(make([]byte, page.KeySize))
	w.must(err)
	resealed, err := foreign.Seal(page.Position{Time: 1, ID: "x"}, "list", "cloud", n.id, "", "")
	w.must(err)
	for name, tok := range map[string]string{
		"padded": token + "=", "standard alphabet": "+/" + base64.StdEncoding.EncodeToString(raw), "twice": token + token, "spaces": " " + token,
		"line end": token[:8] + "\n" + token[8:], "respelt": respelt(token), "sealed by another key": resealed, "garbage": strings.Repeat("A", 60),
	} {
		_, err := list(w.as(n.owner), n.id, "", tok)
		refused(name, err)
	}
	_, err = list(w.as(n.owner), "", "", token)
	refused("another parent", err)
	_, err = list(w.as(other.owner), other.id, "", token)
	refused("another organization", err)
	_, err = list(w.as(n.owner), n.id, `name = "x"`, token)
	refused("another filter", err)
	_, err = rmv1.NewCloudServiceClient(w.Conn).ListOperations(w.as(n.owner), &rmv1.ListCloudOperationsRequest{CloudId: first.GetClouds()[0].GetId(), PageToken: token})
	refused("another method", err)
	// It is a position, not a permission: whoever else shows it sees what they may see.
	if _, err := list(w.as(w.person()), n.id, "", token); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a stranger: %v", err)
	}
}
