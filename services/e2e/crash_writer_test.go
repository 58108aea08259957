package e2e

import (
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// Bounds that keep a writer below the quota of folders of a cloud (QL).
const (
	maxFolders = 30 // alive at a time
	maxLate    = 60 // folders it has made when it still deletes some late: they are made anew in the end
)

// beyondSkew is far enough ahead for a deletion to wait: what lies a few seconds
// ahead means now, by the clock of a client that is fast.
const beyondSkew = 6 * time.Second

// state is what is known of one thing a writer changes. It is unsure while a
// change is under way, and so after a change whose answer never came.
type state struct {
	is     bool
	unsure bool
}

// folder is what its writer knows of a folder.
type folder struct {
	name string
	id   string // empty while its creation is not acknowledged

	gone   state
	roles  [writers]state // of each member, whether it may see the folder
	frozen state          // whether an access policy is bound to it
}

// writer changes things one after the other and keeps what was acknowledged.
type writer struct {
	*world
	n      int
	random *rand.Rand
	cloud  string

	shared     *folder   // of all writers; this one changes roles[n] alone
	folders    []*folder // its own
	operations []ack
}

// ack is an operation that was acknowledged.
type ack struct {
	id    string
	later bool // it was not to be done at once
}

// write changes things until a call fails.
func (w *writer) write() error {
	for {
		if err := w.change(); err != nil {
			return err
		}
	}
}

// change makes one random change.
func (w *writer) change() error {
	f := w.shared
	if alive := w.alive(); len(alive) > 0 && w.random.IntN(4) > 0 {
		f = alive[w.random.IntN(len(alive))]
	}
	switch p := w.random.IntN(20); {
	case p < 6 && len(w.alive()) < maxFolders:
		return w.create(&folder{name: fmt.Sprintf("folder-%d", len(w.folders))})
	case p == 6 && f != w.shared:
		return w.remove(f, time.Now())
	case p == 7 && f != w.shared && len(w.folders) < maxLate:
		return w.remove(f, time.Now().Add(beyondSkew))
	case p == 8:
		return w.set(f, !f.roles[w.n].is)
	case p == 9 && f != w.shared:
		return w.freeze(f)
	case p == 10:
		return w.regroup()
	case p == 11:
		return w.halt()
	default:
		return w.toggle(f)
	}
}

// alive are the writer's folders that nobody has deleted.
func (w *writer) alive() []*folder {
	var alive []*folder
	for _, f := range w.folders {
		if !f.gone.is && f != w.shared {
			alive = append(alive, f)
		}
	}
	return alive
}

func (w *writer) create(f *folder) error {
	w.folders = append(w.folders, f)
	op, err := w.world.folders().Create(w.as(w.owner), &rmv1.CreateFolderRequest{CloudId: w.cloud, Name: f.name})
	if err != nil {
		return err
	}
	if err := w.acknowledged(op); err != nil {
		return err
	}
	var made rmv1.Folder
	if err := op.GetResponse().UnmarshalTo(&made); err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	f.id = made.GetId()
	return nil
}

// remove deletes a folder at a time; when that is now, at once.
func (w *writer) remove(f *folder, at time.Time) error {
	later := at.After(time.Now())
	f.gone.unsure = true
	op, err := w.world.folders().Delete(w.as(w.owner), &rmv1.DeleteFolderRequest{FolderId: f.id, DeleteAfter: timestamppb.New(at)})
	if err != nil {
		return err
	}
	f.gone = state{is: true, unsure: later}
	if later && op.GetError() == nil {
		w.operations = append(w.operations, ack{op.GetId(), true})
		return nil
	}
	return w.acknowledged(op)
}

// toggle gives the writer's member a role on a folder, or takes it away.
func (w *writer) toggle(f *folder) error {
	role := &f.roles[w.n]
	action := accesspb.AccessBindingAction_ADD
	if role.is {
		action = accesspb.AccessBindingAction_REMOVE
	}
	role.unsure = true
	op, err := w.world.folders().UpdateAccessBindings(w.as(w.owner), &accesspb.UpdateAccessBindingsRequest{
		ResourceId:          f.id,
		AccessBindingDeltas: []*accesspb.AccessBindingDelta{{Action: action, AccessBinding: w.viewer()}},
	})
	if err != nil {
		return err
	}
	*role = state{is: !role.is}
	return w.enforced(op, f)
}

// set replaces the bindings of a folder of its own by one or none.
func (w *writer) set(f *folder, held bool) error {
	if f == w.shared {
		return w.toggle(f)
	}
	role := &f.roles[w.n]
	req := &accesspb.SetAccessBindingsRequest{ResourceId: f.id}
	if held {
		req.AccessBindings = []*accesspb.AccessBinding{w.viewer()}
	}
	role.unsure = true
	op, err := w.world.folders().SetAccessBindings(w.as(w.owner), req)
	if err != nil {
		return err
	}
	*role = state{is: held}
	return w.enforced(op, f)
}

// enforced keeps an operation and asks the checker at once: acknowledged means
// enforced, with all the other writers at work.
func (w *writer) enforced(op *operationpb.Operation, f *folder) error {
	if err := w.acknowledged(op); err != nil {
		return err
	}
	got, err := w.allowed(w.members[w.n].token, f.id)
	if err == nil && got != f.roles[w.n].is {
		return fmt.Errorf("%s %s: acknowledged is %+v, check says allowed is %t", f.name, f.id, f.roles[w.n], got)
	}
	return err
}

// viewer is the binding that the writer gives and takes.
func (w *writer) viewer() *accesspb.AccessBinding {
	return &accesspb.AccessBinding{RoleId: viewerRole, Subject: w.members[w.n].subject()}
}

// acknowledged keeps an operation that is done; another acknowledges nothing.
func (w *writer) acknowledged(op *operationpb.Operation) error {
	if err := w.finish(op); err != nil {
		return err
	}
	if !op.GetDone() || op.GetResponse() == nil {
		return fmt.Errorf("operation %v", op)
	}
	w.operations = append(w.operations, ack{id: op.GetId()})
	return nil
}

// isCutOff says whether a call failed since the server is gone.
func isCutOff(err error) bool { return status.Code(err) == codes.Unavailable }
