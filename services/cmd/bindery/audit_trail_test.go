package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
)

// TestAU_TrailOfAResource reads what the making of a tree has left: an organization
// shows everything in it, a folder its own, each unit's records among the others'.
func TestAU_TrailOfAResource(t *testing.T) {
	sqldbtest.ForEach(t, "bindery", nil, func(t *testing.T, db *sqldb.DB) {
		w := newAccessWorld(t, db)
		f := w.grow(folder)
		org, stranger := f.up(organization), w.grow(organization)
		bindSomebody(f)
		client := auditv1.NewAuditServiceClient(w.Conn)
		events := func(on *node, filter *auditv1.EventFilter) (types []string) {
			t.Helper()
			req := &auditv1.ListEventsRequest{Resource: on.trail(), Filter: filter, PageSize: 2}
			for {
				resp, err := client.ListEvents(w.as(f.owner), req)
				w.must(err)
				for _, e := range resp.GetEvents() {
					if id := e.GetPath()[0].GetResourceId(); id != org.id {
						t.Errorf("%s begins its path with %s, want the organization %s", e.GetEventType(), id, org.id)
					}
					types = append(types, strings.TrimPrefix(e.GetEventType(), "bindery.audit.")+" "+e.GetEventStatus())
				}
				if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
					return types
				}
			}
		}
		made := events(f, nil)
		if got, want := inOrder(made), inOrder([]string{
			"resourcemanager.UpdateFolderAccessBindings DONE",
			"resourcemanager.CreateFolder DONE", "access.RegisterResource DONE", "resourcemanager.CreateFolder STARTED",
		}); !slices.Equal(got, want) {
			t.Fatalf("events of the folder %q, want %q", got, want)
		}
		// Those between are of two units, each with a clock of its own.
		if first, last := made[0], made[len(made)-1]; !strings.Contains(first, "UpdateFolderAccessBindings") || !strings.Contains(last, "STARTED") {
			t.Errorf("events of the folder begin with %q and end with %q, want the latest first", first, last)
		}
		all := events(org, nil)
		for _, want := range []string{"organizationmanager.CreateOrganization DONE", "resourcemanager.CreateCloud DONE", "resourcemanager.UpdateFolderAccessBindings DONE"} {
			if !slices.Contains(all, want) {
				t.Errorf("events of the organization %q, want %s among them", all, want)
			}
		}
		if got := events(org, &auditv1.EventFilter{SubjectId: f.owner.id, EventTypes: []string{"resourcemanager.CreateCloud"}}); len(got) == 0 || len(got) > 2 {
			t.Errorf("the making of the cloud by its owner: %q", got)
		}
		if got := events(org, &auditv1.EventFilter{SubjectId: stranger.owner.id + "x"}); len(got) != 0 {
			t.Errorf("by somebody else: %q", got)
		}
		_, err := client.ListEvents(w.as(f.owner), &auditv1.ListEventsRequest{Resource: stranger.trail()})
		if w.founder.id != stranger.owner.id && status.Code(err) != codes.PermissionDenied {
			t.Errorf("of another organization: %v", err)
		}
		w.exported(f, len(made))
	})
}

func inOrder(types []string) []string { return slices.Sorted(slices.Values(types)) }

// exported reads the trail of a node through REST: one record on each line, in the
// form of rules AU.
func (w *accessWorld) exported(n *node, want int) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet,
		"http://"+w.HTTPAddr()+"/audit/v1/events:export?resource.type="+string(n.kind)+"&resource.id="+n.id, nil)
	w.must(err)
	req.Header.Set("Authorization", "Bearer "+n.owner.token)
	resp, err := http.DefaultClient.Do(req)
	w.must(err)
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		w.t.Errorf("export: %s of type %s", resp.Status, resp.Header.Get("Content-Type"))
	}
	lines, got := bufio.NewScanner(resp.Body), 0
	for lines.Scan() {
		var rec audit.Record
		d := json.NewDecoder(strings.NewReader(lines.Text()))
		d.DisallowUnknownFields()
		if err := d.Decode(&rec); err != nil || rec.EventID == "" || rec.EventType == "" {
			w.t.Errorf("line %q: %v", lines.Text(), err)
		}
		got++
	}
	w.must(lines.Err())
	if got != want {
		w.t.Errorf("export has %d lines, want %d", got, want)
	}
}

// TestAU_EveryUnitIsRead holds the gateway to the units that keep records: each
// answers for the operator's export.
func TestAU_EveryUnitIsRead(t *testing.T) {
	text, err := os.ReadFile("../../gateway/audit.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "var audited = []string{")
	list, _, _ = strings.Cut(list, "}")
	for _, u := range units() {
		if audit.Kept(u.Name, u.Migrations) && !strings.Contains(strings.ToLower(list), u.Name) {
			t.Errorf("unit %s keeps audit records and the gateway does not read them: add it to audited", u.Name)
		}
	}
}
