package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/grpc-ecosystem/grpc-gateway/v2/utilities"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protojson"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// What never becomes a call is refused as a call would be: with a status, a reason
// and an id to ask about.
func TestMalformedCalls(t *testing.T) {
	conn, err := grpc.NewClient("passthrough:///nowhere", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	rest, err := newREST(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, verb, url, body string
		status                int
		says                  string
	}{
		{"unknown path", "GET", "/resource-manager/v9/clouds", "", http.StatusNotFound, "no method has this path"},
		{"unknown verb", "PUT", "/resource-manager/v1/clouds", "{}", http.StatusNotImplemented, "no method for the verb PUT"},
		{"no JSON", "POST", "/resource-manager/v1/clouds", "{", http.StatusBadRequest, "unexpected"},
		{"two JSON values", "POST", "/resource-manager/v1/clouds", `{"name": "x"} {}`, http.StatusBadRequest, "nothing may follow"},
		{"unknown JSON field", "POST", "/resource-manager/v1/clouds", `{"nam": "x"}`, http.StatusBadRequest, `"nam"`},
		{"unknown query parameter", "GET", "/resource-manager/v1/clouds?filtr=x", "", http.StatusBadRequest, `"filtr": ListCloudsRequest has no such field`},
		{"query parameter of a wrong type", "GET", "/resource-manager/v1/clouds?pageSize=ten", "", http.StatusBadRequest, `parsing field "page_size": invalid syntax`},
		{"no UTF-8", "GET", "/resource-manager/v1/clouds/%ff", "", http.StatusBadRequest, "UTF-8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := httptest.NewRecorder()
			rest.ServeHTTP(w, httptest.NewRequest(test.verb, test.url, strings.NewReader(test.body)))
			got := new(spb.Status)
			if err := protojson.Unmarshal(w.Body.Bytes(), got); err != nil {
				t.Fatalf("%v: %s", err, w.Body)
			}
			if w.Code != test.status || !strings.Contains(got.GetMessage(), test.says) {
				t.Errorf("got %d %q, want %d and %q", w.Code, got.GetMessage(), test.status, test.says)
			}
			if w.Header().Get("X-Request-Id") == "" || len(got.GetDetails()) < 2 {
				t.Errorf("no id or reason: %v %v", w.Header(), got.GetDetails())
			}
		})
	}
}

func TestStrictQuery(t *testing.T) {
	none := utilities.NewDoubleArray(nil)
	req := new(rmv1.ListCloudsRequest)
	if err := (strictQuery{}).Parse(req, url.Values{"pageSize": {"7"}, "organization_id": {"org1"}}, none); err != nil {
		t.Fatal(err)
	}
	if req.GetPageSize() != 7 || req.GetOrganizationId() != "org1" {
		t.Errorf("got %v", req)
	}
	nested := new(accessv1.ListAccessBindingsRequest)
	if err := (strictQuery{}).Parse(nested, url.Values{"resource.id": {"x"}}, none); err != nil || nested.GetResource().GetId() != "x" {
		t.Errorf("got %v, %v", nested, err)
	}
	for _, key := range []string{"resource.no", "resource.id.more", "page_size.x", "", "."} {
		if err := (strictQuery{}).Parse(new(accessv1.ListAccessBindingsRequest), url.Values{key: {"1"}}, none); err == nil {
			t.Errorf("%q is taken", key)
		}
	}
}
