package audit_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

func record() audit.Record {
	return audit.Record{
		EventID: "aud1", EventSource: "resourcemanager", EventType: audit.EventType("resourcemanager", "CreateFolder"),
		EventTime:      time.Date(2026, 11, 22, 10, 0, 0, 1000, time.FixedZone("x", 7200)),
		EventStatus:    audit.Done,
		Authentication: audit.Authentication{Authenticated: true, SubjectType: "userAccount", SubjectID: "usr1"},
		Authorization: audit.Authorization{Authorized: true, Permissions: []audit.Permission{
			{Permission: "resource-manager.folders.create", ResourceType: "resource-manager.cloud", ResourceID: "cld1", Authorized: true}}},
		ResourceMetadata: audit.ResourceMetadata{Path: []audit.Resource{{Type: "resource-manager.cloud", ID: "cld1", Name: "prod"}}},
		RequestMetadata:  audit.RequestMetadata{RemoteAddress: "127.0.0.1", UserAgent: "yc", RequestID: "r1"},
		Details:          map[string]string{"name": "x"},
	}
}

// The stored form is the contract of AU: these names, this nesting.
const want = `{"event_id":"aud1","event_source":"resourcemanager","event_type":"bindery.audit.resourcemanager.CreateFolder",` +
	`"event_time":"2026-11-22T08:00:00.000001Z","event_status":"DONE",` +
	`"authentication":{"authenticated":true,"subject_type":"userAccount","subject_id":"usr1"},` +
	`"authorization":{"authorized":true,"permissions":[{"permission":"resource-manager.folders.create","resource_type":"resource-manager.cloud","resource_id":"cld1","authorized":true}]},` +
	`"resource_metadata":{"path":[{"resource_type":"resource-manager.cloud","resource_id":"cld1","resource_name":"prod"}]},` +
	`"request_metadata":{"remote_address":"127.0.0.1","user_agent":"yc","request_id":"r1"},"details":{"name":"x"}}`

func TestAU_Write(t *testing.T) {
	sqldbtest.ForEach(t, "unit", []sqldb.Migrations{audit.Migrations("unit")}, func(t *testing.T, db *sqldb.DB) {
		write := func(r audit.Record, after error) error {
			return sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error {
				return errors.Join(audit.Write(ctx, tx, "unit", r), after)
			})
		}
		if err := write(record(), nil); err != nil {
			t.Fatal(err)
		}
		if err := write(record(), nil); err == nil {
			t.Error("one event id was written twice")
		}
		fresh := record()
		fresh.EventID = ""
		if err := write(fresh, errors.New("the change fails")); err == nil {
			t.Error("the failed change was committed")
		}
		if err := write(fresh, nil); err != nil {
			t.Fatal(err)
		}
		for _, spoil := range []func(*audit.Record){
			func(r *audit.Record) { r.EventSource = "" }, func(r *audit.Record) { r.EventType = "" },
			func(r *audit.Record) { r.EventStatus = "" }, func(r *audit.Record) { r.EventTime = time.Time{} },
			func(r *audit.Record) { r.Details = func() {} },
		} {
			r := record()
			r.EventID = "aud2"
			spoil(&r)
			if err := write(r, nil); err == nil {
				t.Errorf("a record that lacks something was written: %+v", r)
			}
		}
		rows, err := db.QueryContext(t.Context(), `SELECT id, record FROM unit_audit ORDER BY number`)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var ids, texts []string
		for rows.Next() {
			var id, text string
			if err := rows.Scan(&id, &text); err != nil {
				t.Fatal(err)
			}
			ids, texts = append(ids, id), append(texts, text)
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		if len(ids) != 2 || ids[0] != "aud1" || len(ids[1]) != 20 {
			t.Fatalf("ids = %q, want aud1 and one made by Write", ids)
		}
		if diff := cmp.Diff(want, texts[0]); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		var second audit.Record
		if err := json.Unmarshal([]byte(texts[1]), &second); err != nil || second.EventID != ids[1] {
			t.Errorf("record %q has id %q (%v), want that of its row", texts[1], second.EventID, err)
		}
	})
}
