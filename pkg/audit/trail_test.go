package audit_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

var (
	org  = audit.Resource{Type: "organization-manager.organization", ID: "org1"}
	cld  = audit.Resource{Type: "resource-manager.cloud", ID: "cld1"}
	base = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
)

// write stores a record of the minute, by a subject, about a path.
func write(t *testing.T, db *sqldb.DB, minute int, event, subject string, path ...audit.Resource) {
	t.Helper()
	r := record()
	r.EventID, r.EventType, r.EventTime = fmt.Sprintf("aud%03d", minute), audit.EventType("test", event), base.Add(time.Duration(minute)*time.Minute)
	r.Authentication.SubjectID, r.ResourceMetadata.Path = subject, path
	err := sqldb.InTx(t.Context(), db, func(ctx context.Context, tx *sql.Tx) error { return audit.Write(ctx, tx, "unit", r) })
	if err != nil {
		t.Fatal(err)
	}
}

// ids lists a query by pages of two.
func ids(t *testing.T, trail *audit.Trail, query audit.Query) []string {
	t.Helper()
	var all []string
	var after page.Position
	for {
		entries, err := trail.List(t.Context(), query, after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			all, after = append(all, e.ID), e.Position()
		}
		if len(entries) < 2 {
			return all
		}
	}
}

func TestTrail_List(t *testing.T) {
	sqldbtest.ForEach(t, "unit", []sqldb.Migrations{audit.Migrations("unit")}, func(t *testing.T, db *sqldb.DB) {
		trail := audit.NewTrail(db, "unit")
		write(t, db, 1, "Make", "ann", org)
		write(t, db, 2, "Make", "ann", org, cld)
		write(t, db, 3, "Drop", "bob", org, cld, cld) // a step that is there twice counts once
		write(t, db, 4, "Sign", "ann")
		write(t, db, 5, "Make", "bob", audit.Resource{Type: cld.Type, ID: "CLD1"})
		for name, row := range map[string]struct {
			query audit.Query
			want  []string
		}{
			"everything":        {audit.Query{}, []string{"aud005", "aud004", "aud003", "aud002", "aud001"}},
			"an organization":   {audit.Query{On: org}, []string{"aud003", "aud002", "aud001"}},
			"a cloud":           {audit.Query{On: cld}, []string{"aud003", "aud002"}},
			"of nothing":        {audit.Query{On: audit.Resource{Type: cld.Type, ID: "cld2"}}, nil},
			"a subject":         {audit.Query{SubjectID: "ann"}, []string{"aud004", "aud002", "aud001"}},
			"a subject there":   {audit.Query{On: cld, SubjectID: "bob"}, []string{"aud003"}},
			"types":             {audit.Query{On: org, Types: []string{audit.EventType("test", "Drop"), audit.EventType("test", "Sign")}}, []string{"aud003"}},
			"from":              {audit.Query{From: base.Add(3 * time.Minute)}, []string{"aud005", "aud004", "aud003"}},
			"up to":             {audit.Query{On: org, To: base.Add(3 * time.Minute)}, []string{"aud002", "aud001"}},
			"nothing in a time": {audit.Query{From: base.Add(time.Hour)}, nil},
		} {
			if diff := cmp.Diff(row.want, ids(t, trail, row.query)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}

func TestTrail_Sweep(t *testing.T) {
	sqldbtest.ForEach(t, "unit", []sqldb.Migrations{audit.Migrations("unit")}, func(t *testing.T, db *sqldb.DB) {
		trail := audit.NewTrail(db, "unit")
		for i := range 6 {
			write(t, db, i, "Make", "ann", org, cld)
		}
		if n, err := trail.Sweep(t.Context(), base.Add(4*time.Minute)); n != 4 || err != nil {
			t.Errorf("removed %d records (%v), want 4", n, err)
		}
		for _, query := range []audit.Query{{}, {On: org}} {
			if diff := cmp.Diff([]string{"aud005", "aud004"}, ids(t, trail, query)); diff != "" {
				t.Errorf("what stays (-want +got):\n%s", diff)
			}
		}
		var rows int
		if err := db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM unit_audit_resources`).Scan(&rows); err != nil || rows != 4 {
			t.Errorf("%d rows of resources stay (%v), want 4", rows, err)
		}
	})
}

// Records of the version before are found as those of this one.
func TestTrail_OldRecords(t *testing.T) {
	first, err := os.ReadFile("migrations/0001_create_audit.sql")
	if err != nil {
		t.Fatal(err)
	}
	old := audit.Migrations("unit")
	old.FS = fstest.MapFS{"migrations/0001_create_audit.sql": {Data: first}}
	sqldbtest.ForEach(t, "unit", []sqldb.Migrations{old}, func(t *testing.T, db *sqldb.DB) {
		for i, text := range []string{
			`{"authentication":{"authenticated":true,"subject_id":"ann"},"resource_metadata":{"path":[` +
				`{"resource_type":"organization-manager.organization","resource_id":"org1"},{"resource_type":"resource-manager.cloud","resource_id":"cld1"}]}}`,
			`{"authentication":{"authenticated":false},"resource_metadata":{"path":null}}`,
		} {
			_, err := db.Pool().ExecContext(t.Context(), `INSERT INTO unit_audit (id, event_time, event_type, record) VALUES ($1, $2, $3, $4)`,
				fmt.Sprintf("old%d", i), sqldb.Micros(base)+int64(i), "bindery.audit.test.Make", text)
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := sqldb.Migrate(t.Context(), db, audit.Migrations("unit")); err != nil {
			t.Fatal(err)
		}
		trail := audit.NewTrail(db, "unit")
		for name, row := range map[string]struct {
			query audit.Query
			want  []string
		}{
			"everything": {audit.Query{}, []string{"old1", "old0"}},
			"a cloud":    {audit.Query{On: cld, Types: []string{"bindery.audit.test.Make"}, SubjectID: "ann"}, []string{"old0"}},
			"a subject":  {audit.Query{SubjectID: "ann"}, []string{"old0"}},
		} {
			if diff := cmp.Diff(row.want, ids(t, trail, row.query)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
		}
	})
}
