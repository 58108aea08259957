package resourcemanager

import (
	"context"
	"database/sql"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// runStoreSuite runs f over a store with organization o, clouds c and d.
func runStoreSuite(t *testing.T, f func(t *testing.T, s *Store, do func(func(ctx context.Context, tx *sql.Tx) error) error)) {
	sqldbtest.ForEach(t, Name, []sqldb.Migrations{Migrations()}, func(t *testing.T, db *sqldb.DB) {
		s := &Store{db: db}
		do := func(f func(ctx context.Context, tx *sql.Tx) error) error { return sqldb.InTx(t.Context(), db, f) }
		for _, r := range []Resource{row(organization, "o", "", "org"), row(cloud, "c", "o", "same"), row(cloud, "d", "o", "same")} {
			if err := do(func(ctx context.Context, tx *sql.Tx) error { return s.Insert(ctx, tx, r) }); err != nil {
				t.Fatal(err)
			}
		}
		f(t, s, do)
	})
}

var start0 = time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.UTC)

func row(k *kind, id, parent, name string) Resource {
	return Resource{ID: id, Kind: k, ParentID: parent, Name: name, Status: Active, CreatedBy: "usr", CreatedAt: start0, Labels: map[string]string{}}
}

func TestStore_ReadsWhatItWrote(t *testing.T) {
	runStoreSuite(t, func(t *testing.T, s *Store, do func(func(ctx context.Context, tx *sql.Tx) error) error) {
		want := Resource{
			ID: "f", Kind: folder, ParentID: "c", Name: "web", Title: "T", Description: "é😀 \"q\"\n", Labels: map[string]string{"a": "", "b": "1"},
			Status: PendingDeletion, CreatedBy: "usr", CreatedAt: start0, DeleteAfter: start0.Add(time.Hour), Operation: "orm1",
		}
		if err := do(func(ctx context.Context, tx *sql.Tx) error { return s.Insert(ctx, tx, want) }); err != nil {
			t.Fatal(err)
		}
		same := cmp.Comparer(func(a, b *kind) bool { return a == b })
		got, err := s.Get(t.Context(), s.db, folder, "f")
		if diff := cmp.Diff(want, got, same); err != nil || diff != "" {
			t.Errorf("Get: %v (-want +got):\n%s", err, diff)
		}
		want.Name, want.Title, want.Description, want.Labels = "new", "", "", map[string]string{}
		want.Status, want.DeleteAfter, want.Operation = Active, time.Time{}, ""
		if err := do(func(ctx context.Context, tx *sql.Tx) error { return s.Update(ctx, tx, want) }); err != nil {
			t.Fatal(err)
		}
		got, err = s.Get(t.Context(), s.db, folder, "f")
		if diff := cmp.Diff(want, got, same); err != nil || diff != "" {
			t.Errorf("Get after Update: %v (-want +got):\n%s", err, diff)
		}
		for _, tt := range []struct {
			k  *kind
			id string
		}{{cloud, "f"}, {folder, "F"}, {folder, ""}, {organization, "c"}} {
			_, err := s.Get(t.Context(), s.db, tt.k, tt.id)
			wantRefusal(t, "Get of "+tt.k.name+" "+tt.id, err, codes.NotFound, tt.k.upper+"_NOT_FOUND")
		}
	})
}

func TestNM3_StoreConstraints(t *testing.T) {
	runStoreSuite(t, func(t *testing.T, s *Store, do func(func(ctx context.Context, tx *sql.Tx) error) error) {
		insert := func(r Resource) error {
			return do(func(ctx context.Context, tx *sql.Tx) error { return s.Insert(ctx, tx, r) })
		}
		for _, r := range []Resource{row(folder, "f1", "c", "web"), row(folder, "f2", "c", "Web"), row(folder, "f3", "d", "web")} {
			if err := insert(r); err != nil {
				t.Errorf("insert %s: %v", r.ID, err)
			}
		}
		wantRefusal(t, "a folder's name twice", insert(row(folder, "f4", "c", "web")), codes.AlreadyExists, ReasonFolderNameTaken)
		taken := row(folder, "f2", "c", "web")
		wantRefusal(t, "a rename onto another", do(func(ctx context.Context, tx *sql.Tx) error { return s.Update(ctx, tx, taken) }), codes.AlreadyExists, ReasonFolderNameTaken)
		wantRefusal(t, "an unknown parent", insert(row(folder, "f5", "nowhere", "x")), codes.NotFound, "CLOUD_NOT_FOUND")
		pending := row(cloud, "x", "o", "x")
		pending.Status = PendingDeletion
		for name, r := range map[string]Resource{
			"an id twice": row(cloud, "c", "o", "again"), "a cloud without organization": row(cloud, "x", "", "x"),
			"an organization in a cloud": row(organization, "x", "c", "x"), "a pending deletion without time and operation": pending,
		} {
			if err := insert(r); apierr.CodeOf(err) != codes.Internal {
				t.Errorf("%s: %v, want our own mistake", name, err)
			}
		}
	})
}

func TestStore_DeleteTakesTheSubtree(t *testing.T) {
	runStoreSuite(t, func(t *testing.T, s *Store, do func(func(ctx context.Context, tx *sql.Tx) error) error) {
		err := do(func(ctx context.Context, tx *sql.Tx) error {
			for _, r := range []Resource{row(folder, "f1", "c", "a"), row(folder, "f2", "c", "b"), row(folder, "g1", "d", "a")} {
				if err := s.Insert(ctx, tx, r); err != nil {
					return err
				}
			}
			below, err := s.Below(ctx, tx, "o")
			if err != nil || len(below) != 5 {
				t.Errorf("Below(o) = %d, %v; want 5", len(below), err)
			}
			if err := s.Delete(ctx, tx, "c"); err != nil {
				return err
			}
			below, err = s.Below(ctx, tx, "o")
			if err != nil || len(below) != 2 {
				t.Errorf("Below(o) after the cloud went = %d, %v; want 2", len(below), err)
			}
			if err := s.Delete(ctx, tx, "o"); err != nil {
				return err
			}
			return s.Delete(ctx, tx, "o") // again changes nothing
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range kinds {
			if all, err := s.List(t.Context(), Query{Kind: k}, page.Position{}, 10); err != nil || len(all) != 0 {
				t.Errorf("%ss left: %v, %v", k.name, all, err)
			}
		}
	})
}

// Of many writers of one name one wins; the others are told.
func TestNM3_ConcurrentWriters(t *testing.T) {
	runStoreSuite(t, func(t *testing.T, s *Store, do func(func(ctx context.Context, tx *sql.Tx) error) error) {
		var wg sync.WaitGroup
		won := make(chan string, 10)
		for i := range 10 {
			wg.Go(func() {
				id := "f" + string(rune('a'+i))
				err := do(func(ctx context.Context, tx *sql.Tx) error { return s.Insert(ctx, tx, row(folder, id, "c", "web")) })
				if err == nil {
					won <- id
				} else {
					wantRefusal(t, "a loser", err, codes.AlreadyExists, ReasonFolderNameTaken)
				}
			})
		}
		wg.Wait()
		if len(won) != 1 {
			t.Errorf("%d writers won, want 1", len(won))
		}
	})
}

// The record of a change says who did what where, and what was checked.
func TestAU1_Record(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		f := w.folder("ann", c.GetId(), "web")
		var text string
		err := w.db.QueryRowContext(t.Context(), `SELECT record FROM resourcemanager_audit WHERE event_type = $1 ORDER BY number LIMIT 1`,
			"bindery.audit.resourcemanager.CreateFolder").Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		var got audit.Record
		if err := json.Unmarshal([]byte(text), &got); err != nil {
			t.Fatal(err)
		}
		org := got.ResourceMetadata.Path[0].Name
		want := audit.Record{
			EventID: got.EventID, EventSource: "resourcemanager", EventType: "bindery.audit.resourcemanager.CreateFolder",
			EventTime: got.EventTime, EventStatus: audit.Started,
			Authentication: audit.Authentication{Authenticated: true, SubjectType: "userAccount", SubjectID: "ann"},
			Authorization: audit.Authorization{Authorized: true, Permissions: []audit.Permission{
				{Permission: "resource-manager.folders.create", ResourceType: cloud.typ, ResourceID: c.GetId(), Authorized: true}}},
			ResourceMetadata: audit.ResourceMetadata{Path: []audit.Resource{
				{Type: organization.typ, ID: c.GetOrganizationId(), Name: org}, {Type: cloud.typ, ID: c.GetId(), Name: "first"}, {Type: folder.typ, ID: f.GetId(), Name: "web"}}},
			RequestMetadata: got.RequestMetadata, Details: got.Details,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("record (-want +got):\n%s", diff)
		}
		if got.RequestMetadata.RequestID == "" || !strings.HasPrefix(got.RequestMetadata.RemoteAddress, "127.0.0.1") || !strings.HasPrefix(got.RequestMetadata.UserAgent, "grpc-go") {
			t.Errorf("request = %+v, want what the chain knows of it", got.RequestMetadata)
		}
		if details, _ := got.Details.(map[string]any); !strings.HasPrefix(details["operation_id"].(string), "orm") {
			t.Errorf("details = %v, want the operation", got.Details)
		}
	})
}
