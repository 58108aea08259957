package resourcemanager

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

func mask(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }

func TestNM8_FieldMasks(t *testing.T) {
	old := rmv1.Folder{Name: "old", Description: "old", Labels: map[string]string{"old": "1"}}
	tests := []struct {
		name string
		req  *rmv1.UpdateFolderRequest
		want *rmv1.Folder // name, description, labels; nil: refused
	}{
		{"one field", &rmv1.UpdateFolderRequest{UpdateMask: mask("description"), Name: "new", Description: "new"},
			&rmv1.Folder{Name: "old", Description: "new", Labels: old.Labels}},
		{"labels named and absent: cleared", &rmv1.UpdateFolderRequest{UpdateMask: mask("labels", "name"), Name: "new"},
			&rmv1.Folder{Name: "new", Description: "old"}},
		{"name named and empty: unchanged", &rmv1.UpdateFolderRequest{UpdateMask: mask("name", "description")},
			&rmv1.Folder{Name: "old", Labels: old.Labels}},
		{"no mask: all fields", &rmv1.UpdateFolderRequest{Name: "new", Labels: map[string]string{"n": "2"}},
			&rmv1.Folder{Name: "new", Labels: map[string]string{"n": "2"}}},
		{"empty mask: all fields", &rmv1.UpdateFolderRequest{UpdateMask: mask(), Description: "new"},
			&rmv1.Folder{Name: "old", Description: "new"}},
		{"the id is ignored", &rmv1.UpdateFolderRequest{UpdateMask: mask("folder_id", "name"), Name: "new"},
			&rmv1.Folder{Name: "new", Description: "old", Labels: old.Labels}},
		{"nothing but the id", &rmv1.UpdateFolderRequest{UpdateMask: mask("folder_id"), Name: "new"}, &old},
		{"a field twice", &rmv1.UpdateFolderRequest{UpdateMask: mask("name", "name"), Name: "new"},
			&rmv1.Folder{Name: "new", Description: "old", Labels: old.Labels}},
		{"unknown field", &rmv1.UpdateFolderRequest{UpdateMask: mask("name", "size"), Name: "new"}, nil},
		{"output field", &rmv1.UpdateFolderRequest{UpdateMask: mask("status")}, nil},
		{"part of a field", &rmv1.UpdateFolderRequest{UpdateMask: mask("labels.old")}, nil},
		{"field of another kind", &rmv1.UpdateFolderRequest{UpdateMask: mask("title")}, nil},
	}
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		ann := w.User("ann")
		for i, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				f := w.folder("ann", c.GetId(), "case-"+strings.Repeat("i", i+1))
				set := &rmv1.UpdateFolderRequest{FolderId: f.GetId(), Name: "old", Description: "old", Labels: old.GetLabels()}
				must[*operationpb.Operation](t)(w.folders.Update(ann, set))
				defer func() { // the name is free for the next case
					must[*operationpb.Operation](t)(w.folders.Update(ann, &rmv1.UpdateFolderRequest{FolderId: f.GetId(), UpdateMask: mask("name"), Name: f.GetName()}))
				}()
				tt.req.FolderId = f.GetId()
				op, err := w.folders.Update(ann, tt.req)
				want := tt.want
				if want == nil {
					wantRefusal(t, tt.name, err, codes.InvalidArgument, "update_mask")
					want = &old
				} else {
					got, meta := new(rmv1.Folder), new(rmv1.UpdateFolderMetadata)
					w.done(must[*operationpb.Operation](t)(op, err), got, meta)
					if got.GetName() != want.GetName() || meta.GetFolderId() != f.GetId() {
						t.Errorf("response %v, metadata %v", got, meta)
					}
				}
				got := must[*rmv1.Folder](t)(w.folders.Get(ann, &rmv1.GetFolderRequest{FolderId: f.GetId()}))
				got.Id, got.CloudId, got.CreatedAt, got.Status = "", "", nil, 0
				if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
					t.Errorf("after the update (-want +got):\n%s", diff)
				}
			})
		}
	})
}

func TestCR9_Update(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		f := w.folder("ann", c.GetId(), "web")
		w.folder("ann", c.GetId(), "taken")
		update := func(user string, m *fieldmaskpb.FieldMask, name string) error {
			_, err := w.folders.Update(w.User(user), &rmv1.UpdateFolderRequest{FolderId: f.GetId(), UpdateMask: m, Name: name})
			return err
		}
		wantRefusal(t, "a stranger", update("eve", nil, "new"), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.access.grant("eve", "viewer", folder.typ, f.GetId())
		wantRefusal(t, "a viewer", update("eve", nil, "new"), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.access.grant("eve", "editor", folder.typ, f.GetId())
		wantRefusal(t, "a name taken (NM-3)", update("eve", mask("name"), "taken"), codes.AlreadyExists, ReasonFolderNameTaken)
		if err := update("eve", mask("name"), "web"); err != nil {
			t.Errorf("its own name again: %v", err)
		}
		wantRefusal(t, "a bad name (NM-1)", update("eve", mask("name"), "Bad"), codes.InvalidArgument, "name")

		ann := w.User("ann")
		got := new(rmv1.Cloud)
		w.done(must[*operationpb.Operation](t)(w.clouds.Update(ann, &rmv1.UpdateCloudRequest{CloudId: c.GetId(), UpdateMask: mask("cloud_id", "labels"), Labels: map[string]string{"a": "b"}})), got, new(rmv1.UpdateCloudMetadata))
		if got.GetLabels()["a"] != "b" || got.GetName() != "first" || got.GetOrganizationId() != c.GetOrganizationId() {
			t.Errorf("cloud = %v", got)
		}
		org := new(orgv1.Organization)
		w.done(must[*operationpb.Operation](t)(w.orgs.Update(ann, &orgv1.UpdateOrganizationRequest{OrganizationId: c.GetOrganizationId(), UpdateMask: mask("title", "name"), Title: "Acme, Inc.", Name: "acme"})), org, new(orgv1.UpdateOrganizationMetadata))
		if org.GetTitle() != "Acme, Inc." || org.GetName() != "acme" {
			t.Errorf("organization = %v", org)
		}
		events := strings.Join(w.events(), "\n")
		for _, want := range []string{"resourcemanager.UpdateFolder DONE eve", "resourcemanager.UpdateCloud DONE ann", "organizationmanager.UpdateOrganization DONE ann"} {
			if !strings.Contains(events, want) {
				t.Errorf("audit lacks %q:\n%s", want, events)
			}
		}
	})
}

func TestDL15_NothingBelowAPendingCloud(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		f := w.folder("ann", c.GetId(), "web")
		ann := w.User("ann")
		must[*operationpb.Operation](t)(w.clouds.Delete(ann, &rmv1.DeleteCloudRequest{CloudId: c.GetId(), DeleteAfter: w.in(time.Hour)}))

		_, err := w.folders.Create(ann, &rmv1.CreateFolderRequest{CloudId: c.GetId(), Name: "more"})
		wantRefusal(t, "create below", err, codes.FailedPrecondition, "CLOUD_NOT_ACTIVE")
		_, err = w.folders.Update(ann, &rmv1.UpdateFolderRequest{FolderId: f.GetId(), Name: "new"})
		wantRefusal(t, "update below", err, codes.FailedPrecondition, "CLOUD_NOT_ACTIVE")
		_, err = w.clouds.Update(ann, &rmv1.UpdateCloudRequest{CloudId: c.GetId(), Name: "new"})
		wantRefusal(t, "update of it", err, codes.FailedPrecondition, "CLOUD_NOT_ACTIVE")
		// Reads and changes of access go on.
		must[*rmv1.Folder](t)(w.folders.Get(ann, &rmv1.GetFolderRequest{FolderId: f.GetId()}))
		must[*rmv1.Cloud](t)(w.clouds.Get(ann, &rmv1.GetCloudRequest{CloudId: c.GetId()}))
		if got := must[*rmv1.ListFoldersResponse](t)(w.folders.List(ann, &rmv1.ListFoldersRequest{CloudId: c.GetId()})); len(got.GetFolders()) != 1 {
			t.Errorf("folders = %v, want the one", got.GetFolders())
		}

		other := w.cloud("ann", c.GetOrganizationId(), "other")
		g := w.folder("ann", other.GetId(), "web")
		must[*operationpb.Operation](t)(w.folders.Delete(ann, &rmv1.DeleteFolderRequest{FolderId: g.GetId()}))
		_, err = w.folders.Update(ann, &rmv1.UpdateFolderRequest{FolderId: g.GetId(), Name: "new"})
		wantRefusal(t, "update of a pending folder", err, codes.FailedPrecondition, "FOLDER_NOT_ACTIVE")
		w.folder("ann", other.GetId(), "new")
	})
}
