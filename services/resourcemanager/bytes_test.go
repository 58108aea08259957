package resourcemanager

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// Clients take answers of 4 MiB. A page ends before that, and the list goes on.
func TestPagesEndByTheirBytes(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		ann := w.User("ann")
		for i := range 5 {
			w.folder("ann", c.GetId(), fmt.Sprintf("folder-%d", i))
		}
		err := sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `UPDATE resourcemanager_resources SET description = $1 WHERE parent_id = $2`, strings.Repeat("d", 1<<20), c.GetId())
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		var pages []int
		for req := (&rmv1.ListFoldersRequest{CloudId: c.GetId(), PageSize: 1000}); ; {
			resp, err := w.folders.List(ann, req)
			if err != nil {
				t.Fatal(err)
			}
			pages = append(pages, len(resp.GetFolders()))
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if got := fmt.Sprint(pages); got != "[2 2 1]" {
			t.Errorf("pages of %s folders", got)
		}

		// Operations show what they changed: here 150 that bound something, 100 KB each.
		const many = 150
		for range many {
			shown := &accesspb.UpdateAccessBindingsMetadata{ResourceId: strings.Repeat("r", 100<<10)}
			if _, err := w.access.changed(&accessv1.Resource{Type: cloud.typ, Id: c.GetId()}, shown); err != nil {
				t.Fatal(err)
			}
		}
		seen := make(map[string]bool)
		for req := (&rmv1.ListCloudOperationsRequest{CloudId: c.GetId(), PageSize: 1000}); ; {
			resp, err := w.clouds.ListOperations(ann, req)
			if err != nil {
				t.Fatal(err)
			}
			for _, op := range resp.GetOperations() {
				if seen[op.GetId()] {
					t.Errorf("%s twice", op.GetId())
				}
				seen[op.GetId()] = true
			}
			if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
				break
			}
		}
		if len(seen) != many+1 { // and that it was made
			t.Errorf("%d operations, want %d", len(seen), many+1)
		}
	})
}
