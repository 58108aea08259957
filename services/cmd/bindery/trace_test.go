package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// postFolder makes a folder through REST, with the headers given in pairs, and
// returns the answer's.
func (w *accessWorld) postFolder(who person, cloud string, headers ...string) http.Header {
	w.t.Helper()
	body := fmt.Sprintf(`{"cloudId":%q,"name":%q}`, cloud, w.unique())
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, "http://"+w.HTTPAddr()+"/resource-manager/v1/folders", strings.NewReader(body))
	w.must(err)
	req.Header.Set("Authorization", "Bearer "+who.token)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	w.must(err)
	w.must(resp.Body.Close())
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("POST of a folder: %s", resp.Status)
	}
	return resp.Header
}

// cloud makes a cloud.
func (w *accessWorld) cloud(of person) string {
	w.t.Helper()
	op, err := rmv1.NewCloudServiceClient(w.Conn).Create(w.as(of), &rmv1.CreateCloudRequest{Name: w.unique()})
	w.must(err)
	made := new(rmv1.Cloud)
	w.must(op.GetResponse().UnmarshalTo(made))
	return made.GetId()
}

// linesOf returns the trace id of each method that was called for a request.
func linesOf(logs *observer.ObservedLogs, requestID string) map[string]string {
	traces := make(map[string]string)
	for _, e := range logs.FilterMessage("rpc").All() {
		if line := e.ContextMap(); line["request_id"] == requestID {
			traces[line["method"].(string)] = line["trace_id"].(string)
		}
	}
	return traces
}

// A request has one trace id in the lines of every unit that worked for it, whether
// its caller brought one or not.
func TestTraceIDIsTheSameInEveryUnit(t *testing.T) {
	w, logs := newLoggedWorld(t)
	owner := w.person()
	cloud := w.cloud(owner)
	const brought = "0af7651916cd43dd8448eb211c80319c"
	for name, headers := range map[string][]string{
		"brought": {"Traceparent", "00-" + brought + "-b7ad6b7169203331-00"},
		"none":    nil,
	} {
		t.Run(name, func(t *testing.T) {
			h := w.postFolder(owner, cloud, headers...)
			trace := h.Get("X-Server-Trace-Id")
			if len(trace) != 32 || (headers != nil) != (trace == brought) {
				t.Errorf("trace id %q", trace)
			}
			want := []string{"/yandex.cloud.resourcemanager.v1.FolderService/Create", "/bindery.access.v1.ResourceService/RegisterResource"}
			for deadline := time.Now().Add(5 * time.Second); len(linesOf(logs, h.Get("X-Request-Id"))) < len(want) && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			lines := linesOf(logs, h.Get("X-Request-Id"))
			for _, method := range want {
				if lines[method] != trace {
					t.Errorf("%s has trace id %q, the call %q: %v", method, lines[method], trace, lines)
				}
			}
		})
	}
}
