package e2e

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

const (
	folderType = "resource-manager.folder"
	folderGet  = "resource-manager.folders.get"
	viewerRole = "resource-manager.viewer"

	// patience is how long the server may take to finish what was under way.
	patience = 15 * time.Second
)

// each does something for all writers, a few of them at once.
func (w *world) each(t *testing.T, all []*writer, do func(*writer) error) {
	t.Helper()
	var running sync.WaitGroup
	slots := make(chan struct{}, writers)
	for _, each := range all {
		running.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := do(each); err != nil {
				t.Errorf("writer %d, cloud %s: %v", each.n, each.cloud, err)
			}
		})
	}
	running.Wait()
}

// verify looks, without any patience, at all that was acknowledged.
func (w *writer) verify() error {
	for _, f := range w.folders {
		if err := errors.Join(w.verifyRoles(f), w.verifyPolicy(f)); err != nil {
			return fmt.Errorf("%s %s: %w", f.name, f.id, err)
		}
	}
	for _, a := range w.operations {
		if err := w.ended(a); err != nil {
			return fmt.Errorf("operation %s: %w", a.id, err)
		}
	}
	return w.verifyCrew()
}

// settle waits for what was under way, until all is sure, and compares what there
// is in the end.
func (w *writer) settle() error {
	for _, f := range w.folders {
		if err := w.settleFolder(f); err != nil {
			return fmt.Errorf("%s %s: %w", f.name, f.id, err)
		}
	}
	for _, a := range w.operations {
		if err := eventually(func() error { return w.ended(ack{id: a.id}) }); err != nil {
			return fmt.Errorf("operation %s: %w", a.id, err)
		}
	}
	return errors.Join(w.verifyList(), eventually(w.settleCrew))
}

// verifyRoles checks what is sure about who may see a folder: first that nobody
// may who must not.
func (w *writer) verifyRoles(f *folder) error {
	if f.id == "" || f.gone.unsure {
		return nil
	}
	for i, role := range f.roles {
		if role.unsure {
			continue
		}
		want := role.is && !f.gone.is
		got, err := w.allowed(w.members[i].token, f.id)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("member %d: check says allowed is %t, acknowledged is %t", i, got, want)
		}
	}
	if f.gone.is {
		return w.whole(f)
	}
	_, err := w.world.folders().Get(w.as(w.owner), &rmv1.GetFolderRequest{FolderId: f.id})
	return err
}

// settleFolder waits until a folder is there whole or not at all, and until what
// was to go is gone. What was not acknowledged may have either end, which is then
// sure.
func (w *writer) settleFolder(f *folder) error {
	if f.id == "" {
		return eventually(func() error { return w.settleCreation(f) })
	}
	if err := eventually(func() error { return w.whole(f) }); err != nil {
		return err
	}
	if f.gone.unsure {
		got, err := w.world.folders().Get(w.as(w.owner), &rmv1.GetFolderRequest{FolderId: f.id})
		if code := status.Code(err); code != codes.OK && code != codes.NotFound {
			return err
		}
		if f.gone.is || got.GetStatus() != rmv1.Folder_ACTIVE { // its time has come, or comes soon
			return w.settleRemoval(f)
		}
		f.gone = state{}
	}
	return errors.Join(w.settleRoles(f), w.settlePolicy(f))
}

// settleRemoval waits until a folder is gone with its row: its name is free, and
// is taken by another.
func (w *writer) settleRemoval(f *folder) error {
	if err := eventually(func() error { return w.absent(f) }); err != nil {
		return err
	}
	f.gone = state{is: true}
	again := &folder{name: f.name}
	w.folders = append(w.folders, again)
	return eventually(func() error { return w.settleCreation(again) })
}

// settleCreation makes a creation sure whose answer never came: the folder is in
// the list, whole; or it is not there at all, and its name is free.
func (w *writer) settleCreation(f *folder) error {
	found, err := w.listed()
	if err != nil {
		return err
	}
	if id := found[f.name]; id != "" {
		f.id = id
		return w.whole(f)
	}
	op, err := w.world.folders().Create(w.as(w.owner), &rmv1.CreateFolderRequest{CloudId: w.cloud, Name: f.name})
	if err != nil {
		return fmt.Errorf("in no list, but: %w", err)
	}
	var made rmv1.Folder
	if err := op.GetResponse().UnmarshalTo(&made); err != nil {
		return err
	}
	f.id = made.GetId()
	return nil
}

// whole checks that the folder's row, the tree and the checker agree: all know
// the folder, or none does.
func (w *writer) whole(f *folder) error {
	_, row := w.world.folders().Get(w.as(w.owner), &rmv1.GetFolderRequest{FolderId: f.id})
	_, tree := w.world.folders().ListAccessBindings(w.as(w.owner), &accesspb.ListAccessBindingsRequest{ResourceId: f.id})
	check, err := w.allowed(w.owner, f.id)
	if err != nil {
		return err
	}
	for _, err := range []error{row, tree} {
		if code := status.Code(err); code != codes.OK && code != codes.NotFound {
			return err
		}
	}
	if there := row == nil; there != (tree == nil) || there != check {
		return fmt.Errorf("half there: row %s, tree %s, checker allows is %t", status.Code(row), status.Code(tree), check)
	}
	return nil
}

// absent checks that a folder is gone, for its owner too.
func (w *writer) absent(f *folder) error {
	got, err := w.world.folders().Get(w.as(w.owner), &rmv1.GetFolderRequest{FolderId: f.id})
	if status.Code(err) != codes.NotFound {
		return fmt.Errorf("still there: %v, %w", got, err)
	}
	return w.whole(f)
}

// settleRoles checks that the bindings of a folder are those acknowledged and
// that the checker agrees with each, which makes the unsure ones sure.
func (w *writer) settleRoles(f *folder) error {
	if f.gone.is {
		return w.absent(f)
	}
	list, err := w.world.folders().ListAccessBindings(w.as(w.owner), &accesspb.ListAccessBindingsRequest{ResourceId: f.id, PageSize: 1000})
	if err != nil {
		return err
	}
	bound := map[string]bool{}
	for _, b := range list.GetAccessBindings() {
		if b.GetRoleId() != viewerRole || bound[b.GetSubject().GetId()] {
			return fmt.Errorf("a binding nobody made: %v", b)
		}
		bound[b.GetSubject().GetId()] = true
	}
	for i := range f.roles {
		m, role := w.members[i], &f.roles[i]
		check, err := w.allowed(m.token, f.id)
		if err != nil {
			return err
		}
		if check != bound[m.id] || !role.unsure && check != role.is {
			return fmt.Errorf("member %d: acknowledged %+v, bound is %t, check says %t", i, *role, bound[m.id], check)
		}
		*role = state{is: check}
		delete(bound, m.id)
	}
	if len(bound) > 0 {
		return fmt.Errorf("bindings nobody made: %v", bound)
	}
	return nil
}

// verifyList checks that the list of a cloud's folders holds those that are there
// and no other.
func (w *writer) verifyList() error {
	found, err := w.listed()
	if err != nil {
		return err
	}
	for _, f := range w.folders {
		if id := found[f.name]; (id == f.id) == f.gone.is {
			return fmt.Errorf("%s %s: gone is %t, the list has %q", f.name, f.id, f.gone.is, id)
		}
		if !f.gone.is {
			delete(found, f.name)
		}
	}
	if len(found) > 0 {
		return fmt.Errorf("folders nobody made: %v", found)
	}
	return nil
}

// listed returns the ids of the cloud's folders by name.
func (w *writer) listed() (map[string]string, error) {
	list, err := w.world.folders().List(w.as(w.owner), &rmv1.ListFoldersRequest{CloudId: w.cloud, PageSize: 1000})
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, f := range list.GetFolders() {
		found[f.GetName()] = f.GetId()
	}
	return found, nil
}

// ended checks that an operation is done and has succeeded, or waits for its time.
func (w *writer) ended(a ack) error {
	op, err := w.world.operations().Get(w.as(w.owner), &operationpb.GetOperationRequest{OperationId: a.id})
	if err != nil {
		return err
	}
	waits := a.later && !op.GetDone()
	if op.GetError() != nil || !waits && op.GetResponse() == nil {
		return fmt.Errorf("has not ended well: %v", op)
	}
	return nil
}

// allowed asks the checker whether the holder of a token may see a folder.
func (w *world) allowed(token, folderID string) (bool, error) {
	return w.holds(token, folderGet, folderID)
}

// holds asks the checker whether the holder of a token has a permission on a folder.
func (w *world) holds(token, permission, folderID string) (bool, error) {
	_, err := w.access().Authorize(w.as(token), &accessservicev2.AuthorizeRequest{
		Identity:     &accessservicev2.AuthorizeRequest_IamToken{IamToken: token},
		Permission:   permission,
		ResourcePath: []*accessservicev2.Resource{{Type: folderType, Id: folderID}},
	})
	if status.Code(err) == codes.PermissionDenied { // so it is for what does not exist
		return false, nil
	}
	return err == nil, err
}

// eventually tries until there is no error or patience ends.
func eventually(try func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := try()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}
