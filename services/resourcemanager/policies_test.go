package resourcemanager

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// TestAP8_PoliciesJudgeTheCallNotThePurge: what was deleted before a policy was
// bound comes to its end, or is cancelled; what is called for afterwards is refused.
func TestAP8_PoliciesJudgeTheCallNotThePurge(t *testing.T) {
	forEach(t, Config{}, func(t *testing.T, w *world) {
		c := w.first("ann")
		going, saved, staying := w.folder("ann", c.GetId(), "going"), w.folder("ann", c.GetId(), "saved"), w.folder("ann", c.GetId(), "staying")
		op := must[*operationpb.Operation](t)(w.deleteFolder("ann", going.GetId(), nil))
		must[*operationpb.Operation](t)(w.deleteFolder("ann", saved.GetId(), nil))

		w.access.deny("resource-manager.folders.delete", "resource-manager.clouds.delete")
		for what, call := range map[string]func() error{
			"a folder":             func() error { _, err := w.deleteFolder("ann", staying.GetId(), w.in(0)); return err },
			"a folder, later":      func() error { _, err := w.deleteFolder("ann", staying.GetId(), nil); return err },
			"a pending one sooner": func() error { _, err := w.deleteFolder("ann", going.GetId(), w.in(0)); return err },
			"the cloud":            func() error { _, err := w.deleteCloud("ann", c.GetId(), w.in(0)); return err },
		} {
			wantRefusal(t, what, call(), codes.PermissionDenied, apierr.ReasonDeniedByPolicy)
		}
		must[*operationpb.Operation](t)(w.deletions.CancelFolderDeletion(w.User("ann"), &brmv1.CancelFolderDeletionRequest{FolderId: saved.GetId()}))

		w.pass(25 * time.Hour)
		if done := w.poll(w.User("ann"), op.GetId()); done.GetError() != nil {
			t.Errorf("the pending deletion ended with %v", done.GetError())
		}
		_, err := w.folders.Get(w.User("ann"), &rmv1.GetFolderRequest{FolderId: going.GetId()})
		wantRefusal(t, "what was deleted before", err, codes.NotFound, apierr.ReasonResourceNotFound)
		for _, f := range []*rmv1.Folder{saved, staying} {
			if got := must[*rmv1.Folder](t)(w.folders.Get(w.User("ann"), &rmv1.GetFolderRequest{FolderId: f.GetId()})); got.GetStatus() != rmv1.Folder_ACTIVE {
				t.Errorf("folder %s is %s", f.GetName(), got.GetStatus())
			}
		}
	})
}
