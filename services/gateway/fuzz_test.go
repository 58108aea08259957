package gateway

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	spb "google.golang.org/genproto/googleapis/rpc/status"
)

// ofLibraries are words of libraries that no answer shows.
var ofLibraries = regexp.MustCompile(`proto:|strconv|grpc:|dial|desc =`)

// FuzzREST sends any path, query and body; nobody is behind the door, so what can be
// read is UNAVAILABLE and the rest a refusal of the caller, in words of ours.
func FuzzREST(f *testing.F) {
	conn, err := grpc.NewClient("passthrough:///nobody", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return nil, errors.New("nobody") }))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = conn.Close() }) // the test is over
	rest, err := newREST(f.Context(), conn)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range [][3]string{
		{"GET", "/resource-manager/v1/clouds?pageSize=1&filter=name%3D%22x%22", ""},
		{"POST", "/resource-manager/v1/clouds", `{"name": "x", "labels": {"a": "b"}}`},
		{"PATCH", "/resource-manager/v1/clouds/x", `{"updateMask": "name,description"}`},
		{"DELETE", "/resource-manager/v1/clouds/x?deleteAfter=2030-01-01T00:00:00Z", ""},
		{"POST", "/access/v1/a.b/c/accessBindings:set", `{"accessBindings": [{"expiresAt": "x"}]}`},
		{"GET", "/resource-manager/v1/clouds/%ff:state?a[b]=c", "{"},
	} {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, verb, target, body string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || !strings.HasPrefix(target, "/") || !regexp.MustCompile(`^[A-Z]{1,8}$`).MatchString(verb) || verb == "HEAD" {
			return // the HTTP server refuses it
		}
		if ofLibraries.MatchString(u.Path+" "+u.Query().Encode()+" "+target) || ofLibraries.MatchString(body) {
			return // an answer may quote what was sent
		}
		r := httptest.NewRequest(http.MethodGet, "/", strings.NewReader(body))
		r.Method, r.URL, r.RequestURI = verb, u, target
		w := httptest.NewRecorder()
		rest.ServeHTTP(w, r)
		got := new(spb.Status)
		if err := protojson.Unmarshal(w.Body.Bytes(), got); err != nil {
			t.Fatalf("%s %q %q: %d %v: %s", verb, target, body, w.Code, err, w.Body)
		}
		if w.Code == http.StatusOK || w.Code == http.StatusInternalServerError || ofLibraries.MatchString(got.GetMessage()) {
			t.Errorf("%s %q %q: %d %s", verb, target, body, w.Code, got.GetMessage())
		}
	})
}
