package resourcemanager

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// allFolders reads a list to its end and checks every page: full unless the last.
func (w *world) allFolders(ctx context.Context, cloudID, filter string, size int64) (names []string, err error) {
	w.t.Helper()
	req := &rmv1.ListFoldersRequest{CloudId: cloudID, PageSize: size, Filter: filter}
	for {
		resp, err := w.folders.List(ctx, req)
		if err != nil {
			return names, err
		}
		for _, f := range resp.GetFolders() {
			names = append(names, f.GetName())
		}
		if len(resp.GetNextPageToken()) > 100 {
			w.t.Errorf("page token of %d characters", len(resp.GetNextPageToken()))
		}
		if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
			return names, nil
		}
		if int64(len(resp.GetFolders())) != size {
			w.t.Errorf("a page of %d with a next one, want it full: %d", len(resp.GetFolders()), size)
		}
	}
}

func TestNM7_ListInPages(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		ann := w.User("ann")
		var want []string
		ids := map[string]string{}
		for i := range 7 {
			name := fmt.Sprintf("folder-%d", i)
			want = append(want, name)
			ids[name] = w.folder("ann", c.GetId(), name).GetId()
		}
		w.folder("ann", w.cloud("ann", c.GetOrganizationId(), "other").GetId(), "folder-0")
		for _, size := range []int64{1, 2, 3, 7, 1000} {
			got, err := w.allFolders(ann, c.GetId(), "", size)
			if diff := cmp.Diff(want, got); err != nil || diff != "" {
				t.Errorf("in pages of %d: %v (-want +got):\n%s", size, err, diff)
			}
		}
		got, err := w.allFolders(ann, c.GetId(), `name = "folder-3"`, 1)
		if err != nil || !slices.Equal(got, []string{"folder-3"}) {
			t.Errorf("by name = %q, %v", got, err)
		}
		for _, filter := range []string{`name = "Folder-3"`, `name = "folder"`, `name = ""`} {
			if got, err := w.allFolders(ann, c.GetId(), filter, 10); err != nil || len(got) != 0 {
				t.Errorf("by %s = %q, %v; want none", filter, got, err)
			}
		}

		// Whoever lacks the right to list sees what they may see, on full pages.
		for _, name := range []string{"folder-1", "folder-4", "folder-6"} {
			w.access.grant("eve", "viewer", folder.typ, ids[name])
		}
		for _, size := range []int64{1, 2, 3} {
			got, err := w.allFolders(w.User("eve"), c.GetId(), "", size)
			if diff := cmp.Diff([]string{"folder-1", "folder-4", "folder-6"}, got); err != nil || diff != "" {
				t.Errorf("eve in pages of %d: %v (-want +got):\n%s", size, err, diff)
			}
		}
		if got, err := w.allFolders(w.User("eve"), c.GetId(), `name = "folder-2"`, 5); err != nil || len(got) != 0 {
			t.Errorf("eve by a name that she may not see = %q, %v; want none", got, err)
		}
		_, err = w.allFolders(w.User("bob"), c.GetId(), "", 5)
		wantRefusal(t, "bob, who may see nothing", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.allFolders(w.User("bob"), c.GetId(), `name = "folder-2"`, 5)
		wantRefusal(t, "bob by name", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.allFolders(ann, "cld00000000000000000", `name = "x"`, 5)
		wantRefusal(t, "an unknown cloud", err, codes.NotFound, apierr.ReasonResourceNotFound)
	})
}

func TestNM7_ListRequests(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		other := w.cloud("ann", c.GetOrganizationId(), "other")
		for i := range 3 {
			w.folder("ann", c.GetId(), fmt.Sprintf("folder-%d", i))
			w.folder("ann", other.GetId(), fmt.Sprintf("folder-%d", i))
		}
		ann := w.User("ann")
		token := must[*rmv1.ListFoldersResponse](t)(w.folders.List(ann, &rmv1.ListFoldersRequest{CloudId: c.GetId(), PageSize: 1})).GetNextPageToken()
		tests := []struct {
			name  string
			req   *rmv1.ListFoldersRequest
			field string
		}{
			{"no cloud", &rmv1.ListFoldersRequest{}, "cloud_id"},
			{"page_size below 0", &rmv1.ListFoldersRequest{CloudId: c.GetId(), PageSize: -1}, "page_size"},
			{"page_size over 1000", &rmv1.ListFoldersRequest{CloudId: c.GetId(), PageSize: 1001}, "page_size"},
			{"a token made up", &rmv1.ListFoldersRequest{CloudId: c.GetId(), PageToken: "abc"}, "page_token"},
			{"the token of another cloud", &rmv1.ListFoldersRequest{CloudId: other.GetId(), PageToken: token}, "page_token"},
			{"the token of another filter", &rmv1.ListFoldersRequest{CloudId: c.GetId(), PageToken: token, Filter: `name="folder-1"`}, "page_token"},
			{"a filter by another field", &rmv1.ListFoldersRequest{CloudId: c.GetId(), Filter: `id = "x"`}, "filter"},
			{"a filter over 1000", &rmv1.ListFoldersRequest{CloudId: c.GetId(), Filter: `name = "` + strings.Repeat("x", 1000) + `"`}, "filter"},
		}
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				_, err := w.folders.List(ann, tt.req)
				wantRefusal(t, tt.name, err, codes.InvalidArgument, tt.field)
			})
		}
		// A page stays where it was when the list changes before and after it.
		first := must[*rmv1.ListFoldersResponse](t)(w.folders.List(ann, &rmv1.ListFoldersRequest{CloudId: c.GetId(), PageSize: 2}))
		must[*operationpb.Operation](t)(w.deleteFolder("ann", first.GetFolders()[0].GetId(), w.in(0)))
		w.folder("ann", c.GetId(), "folder-9")
		second := must[*rmv1.ListFoldersResponse](t)(w.folders.List(ann, &rmv1.ListFoldersRequest{CloudId: c.GetId(), PageSize: 2, PageToken: first.GetNextPageToken()}))
		var names []string
		for _, f := range second.GetFolders() {
			names = append(names, f.GetName())
		}
		if !slices.Equal(names, []string{"folder-2", "folder-9"}) || second.GetNextPageToken() != "" {
			t.Errorf("second page after changes = %q, token %q", names, second.GetNextPageToken())
		}
	})
}

func TestListCloudsAndOrganizations(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		a, b := w.first("ann"), w.first("bob")
		more := w.cloud("ann", a.GetOrganizationId(), "more")
		clouds := func(user string, req *rmv1.ListCloudsRequest) (ids []string) {
			t.Helper()
			for _, c := range must[*rmv1.ListCloudsResponse](t)(w.clouds.List(w.User(user), req)).GetClouds() {
				ids = append(ids, c.GetId())
			}
			return ids
		}
		all := &rmv1.ListCloudsRequest{}
		if diff := cmp.Diff([]string{a.GetId(), more.GetId()}, clouds("ann", all)); diff != "" {
			t.Errorf("clouds of ann (-want +got):\n%s", diff)
		}
		w.access.grant("ann", "viewer", cloud.typ, b.GetId())
		if diff := cmp.Diff([]string{a.GetId(), b.GetId(), more.GetId()}, clouds("ann", all)); diff != "" {
			t.Errorf("clouds of ann with a role on bob's (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{a.GetId(), b.GetId()}, clouds("ann", &rmv1.ListCloudsRequest{Filter: `name="first"`})); diff != "" {
			t.Errorf("by name, without an organization (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{b.GetId()}, clouds("ann", &rmv1.ListCloudsRequest{OrganizationId: b.GetOrganizationId()})); diff != "" {
			t.Errorf("of bob's organization (-want +got):\n%s", diff)
		}
		if got := clouds("eve", all); len(got) != 0 {
			t.Errorf("clouds of eve = %q, want none", got)
		}
		_, err := w.clouds.List(w.User("eve"), &rmv1.ListCloudsRequest{OrganizationId: a.GetOrganizationId()})
		wantRefusal(t, "eve in an organization", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)

		orgs := func(user string) (ids []string) {
			for _, o := range must[*orgv1.ListOrganizationsResponse](t)(w.orgs.List(w.User(user), &orgv1.ListOrganizationsRequest{})).GetOrganizations() {
				ids = append(ids, o.GetId())
			}
			return ids
		}
		if got := orgs("ann"); !slices.Equal(got, []string{a.GetOrganizationId()}) {
			t.Errorf("organizations of ann = %q, want her own", got)
		}
		if got := orgs("eve"); len(got) != 0 {
			t.Errorf("organizations of eve = %q, want none", got)
		}
	})
}

// A list looks through more rows than a question to the checker may name, and
// finds the few that the caller may see.
func TestListFindsTheFewAmongMany(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		store := &Store{db: w.db}
		var seen []string
		err := sqldb.InTx(t.Context(), w.db, func(ctx context.Context, tx *sql.Tx) error {
			for i := range 2100 {
				r := Resource{ID: id.New(id.Folder), Kind: folder, ParentID: c.GetId(), Name: fmt.Sprintf("f%d", i), Status: Active, CreatedAt: time.Unix(int64(i), 0)}
				if err := store.Insert(ctx, tx, r); err != nil {
					return err
				}
				if i == 5 || i == 1500 || i == 2099 {
					seen = append(seen, r.Name)
					w.access.parents[folder.resource(r.ID)] = cloud.resource(c.GetId())
					w.access.grant("eve", "viewer", folder.typ, r.ID)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int64{1, 2, 1000} {
			got, err := w.allFolders(w.User("eve"), c.GetId(), "", size)
			if diff := cmp.Diff(seen, got); err != nil || diff != "" {
				t.Errorf("in pages of %d: %v (-want +got):\n%s", size, err, diff)
			}
		}
	})
}

func TestListOperations(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		ann := w.User("ann")
		want := []string{"Create cloud"}
		for i := range 6 {
			time.Sleep(time.Millisecond) // the order of time is that of the calls
			if i%2 == 0 {
				must[*operationpb.Operation](t)(w.clouds.Update(ann, &rmv1.UpdateCloudRequest{CloudId: c.GetId(), Description: fmt.Sprint(i)}))
				want = append([]string{"Update cloud"}, want...)
				continue
			}
			must[*operationpb.Operation](t)(w.clouds.SetAccessBindings(ann, &accesspb.SetAccessBindingsRequest{ResourceId: c.GetId()}))
			want = append([]string{cloud.typ + " " + c.GetId()}, want...)
		}
		w.folder("ann", c.GetId(), "web") // an operation on something else
		for _, size := range []int64{1, 2, 3, 7, 100} {
			var got []string
			req := &rmv1.ListCloudOperationsRequest{CloudId: c.GetId(), PageSize: size}
			for {
				resp := must[*rmv1.ListCloudOperationsResponse](t)(w.clouds.ListOperations(ann, req))
				for _, op := range resp.GetOperations() {
					got = append(got, op.GetDescription())
				}
				if req.PageToken = resp.GetNextPageToken(); req.PageToken == "" {
					break
				}
				if len(resp.GetOperations()) != int(size) {
					t.Errorf("a page of %d with a next one, want it full: %d", len(resp.GetOperations()), size)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("in pages of %d (-want +got):\n%s", size, diff)
			}
		}
		orgOps := must[*orgv1.ListOrganizationOperationsResponse](t)(w.orgs.ListOperations(ann, &orgv1.ListOrganizationOperationsRequest{OrganizationId: c.GetOrganizationId()}))
		if len(orgOps.GetOperations()) != 0 {
			t.Errorf("operations on the organization = %v, want none: the one that made it was about the cloud", orgOps)
		}
		op := must[*operationpb.Operation](t)(w.life.CreateOrganization(ann, &brmv1.CreateOrganizationRequest{Name: "acme"}))
		org := new(orgv1.Organization)
		w.done(op, org, nil)
		orgOps = must[*orgv1.ListOrganizationOperationsResponse](t)(w.orgs.ListOperations(ann, &orgv1.ListOrganizationOperationsRequest{OrganizationId: org.GetId()}))
		if len(orgOps.GetOperations()) != 1 || orgOps.GetOperations()[0].GetId() != op.GetId() {
			t.Errorf("operations on the organization = %v, want its creation", orgOps)
		}
		_, err := w.clouds.ListOperations(w.User("eve"), &rmv1.ListCloudOperationsRequest{CloudId: c.GetId()})
		wantRefusal(t, "a stranger", err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	})
}
