package accessbindings

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/audit"
)

func TestAU1_EventNames(t *testing.T) {
	for typ, want := range map[string]string{
		"resource-manager.cloud":                "resourcemanager.UpdateCloudAccessBindings",
		"resource-manager.folder":               "resourcemanager.UpdateFolderAccessBindings",
		"iam.serviceAccount":                    "iam.UpdateServiceAccountAccessBindings",
		"iam.workloadIdentityFederation":        "iam.workload.oidc.UpdateFederationAccessBindings",
		"organization-manager.organization":     "organizationmanager.UpdateOrganizationAccessBindings",
		"organization-manager.group":            "organizationmanager.UpdateGroupAccessBindings",
		"organization-manager.userpool":         "organizationmanager.idp.UpdateUserpoolAccessBindings",
		"organization-manager.samlApplication":  "organizationmanager.saml.UpdateApplicationAccessBindings",
		"organization-manager.oauthApplication": "organizationmanager.oauth.UpdateApplicationAccessBindings",
		"kms.key":                               "kms.UpdateKeyAccessBindings",
	} {
		source, event := bindingEvent("Update", typ)
		if got := source + "." + event; got != want {
			t.Errorf("event of %s: %s, want %s", typ, got, want)
		}
	}
}

// records reads the audit records of an event type, oldest first.
func (w *world) records(event string) []audit.Record {
	w.t.Helper()
	var out []audit.Record
	var text string
	w.must(each(w.t.Context(), w.db, "audit", `SELECT record FROM accessbindings_audit ORDER BY number`, []any{&text}, func() error {
		var r audit.Record
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			return err
		}
		if strings.HasSuffix(r.EventType, "."+event) {
			out = append(out, r)
		}
		return nil
	}))
	return out
}

func TestEveryChangeIsAudited(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		before := len(w.records("UpdateFolderAccessBindings"))
		w.mustUpdate(adam, folder1, add(viewer, vera), add(admin, Subject{"system", "allUsers"}))
		_, err := w.update(nick, folder2, add(viewer, nick))
		if err == nil {
			t.Fatal("nick may")
		}
		got := w.records("UpdateFolderAccessBindings")
		if len(got) != before+1 {
			t.Fatalf("%d records, want one more than %d", len(got), before)
		}
		r := got[before]
		if r.EventSource != "resourcemanager" || r.EventStatus != audit.Done || r.RequestMetadata.RemoteAddress == "" || r.EventTime.IsZero() {
			t.Errorf("record %+v", r)
		}
		if diff := cmp.Diff(audit.Authentication{Authenticated: true, SubjectType: adam.Type, SubjectID: adam.ID}, r.Authentication); diff != "" {
			t.Errorf("authentication (-want +got):\n%s", diff)
		}
		want := []audit.Permission{{
			Permission: "resource-manager.folders.updateAccessBindings", ResourceType: folder1.Type, ResourceID: folder1.ID, Authorized: true,
		}}
		if diff := cmp.Diff(want, r.Authorization.Permissions); diff != "" {
			t.Errorf("authorization (-want +got):\n%s", diff)
		}
		path := []audit.Resource{{Type: org1.Type, ID: org1.ID}, {Type: cloud1.Type, ID: cloud1.ID}, {Type: folder1.Type, ID: folder1.ID}}
		if diff := cmp.Diff(path, r.ResourceMetadata.Path); diff != "" {
			t.Errorf("path (-want +got):\n%s", diff)
		}
		details, ok := r.Details.(map[string]any)
		if warnings, _ := details["warnings"].([]any); !ok || len(warnings) != 1 { // PG-4
			t.Errorf("details %v", r.Details)
		}
		if deltas, _ := details["access_binding_deltas"].([]any); len(deltas) != 2 {
			t.Errorf("details %v", r.Details)
		}
		var revisions, logged, audited int64
		w.must(w.db.QueryRowContext(t.Context(), `SELECT revision FROM access_revision`).Scan(&revisions))
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(DISTINCT revision) FROM access_changes`).Scan(&logged))
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM accessbindings_audit`).Scan(&audited))
		if revisions != logged || revisions != audited {
			t.Errorf("%d revisions, %d in the log, %d audit records", revisions, logged, audited)
		}
	})
}
