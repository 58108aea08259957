package e2e

import (
	"fmt"
	"strconv"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// crew is a group that may see a folder, and the service account that its writer puts
// into it and takes out, suspends and lets act again. The account sees the folder while
// it is a member and active.
type crew struct {
	folder, group, account string

	mu             sync.Mutex // writers of several rounds look at it at once
	member, active state
}

// hire makes the crew of each writer.
func (w *world) hire(t testing.TB, cloudID string) {
	t.Helper()
	must := func(op *operationpb.Operation, err error) *operationpb.Operation {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return op
	}
	var folder rmv1.Folder
	op := must(w.folders().Create(w.as(w.owner), &rmv1.CreateFolderRequest{CloudId: cloudID, Name: "crews"}))
	if err := op.GetResponse().UnmarshalTo(&folder); err != nil {
		t.Fatal(err)
	}
	for n := range w.crews {
		var group orgv1.Group
		op := must(w.groups().Create(w.as(w.owner), &orgv1.CreateGroupRequest{OrganizationId: w.org, Name: "crew-" + strconv.Itoa(n)}))
		if err := op.GetResponse().UnmarshalTo(&group); err != nil {
			t.Fatal(err)
		}
		var account iamv1.ServiceAccount
		op = must(w.accounts().Create(w.as(w.owner), &iamv1.CreateServiceAccountRequest{FolderId: folder.GetId(), Name: "hand-" + strconv.Itoa(n)}))
		if err := op.GetResponse().UnmarshalTo(&account); err != nil {
			t.Fatal(err)
		}
		must(w.folders().UpdateAccessBindings(w.as(w.owner), &accesspb.UpdateAccessBindingsRequest{
			ResourceId: folder.GetId(),
			AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
				Action:        accesspb.AccessBindingAction_ADD,
				AccessBinding: &accesspb.AccessBinding{RoleId: viewerRole, Subject: &accesspb.Subject{Type: "group", Id: group.GetId()}},
			}},
		}))
		w.crews[n] = &crew{folder: folder.GetId(), group: group.GetId(), account: account.GetId(), active: state{is: true}}
	}
}

func (w *world) groups() orgv1.GroupServiceClient { return orgv1.NewGroupServiceClient(w.conn) }
func (w *world) accounts() iamv1.ServiceAccountServiceClient {
	return iamv1.NewServiceAccountServiceClient(w.conn)
}

// regroup puts the account into the group, or takes it out.
func (w *writer) regroup() error {
	c := w.crews[w.n]
	action := orgv1.MemberDelta_ADD
	if c.member.is {
		action = orgv1.MemberDelta_REMOVE
	}
	return w.changeCrew(&c.member, func() (*operationpb.Operation, error) {
		return w.groups().UpdateMembers(w.as(w.owner), &orgv1.UpdateGroupMembersRequest{
			GroupId: c.group, MemberDeltas: []*orgv1.MemberDelta{{Action: action, SubjectId: c.account}},
		})
	})
}

// halt suspends the account, or lets it act again.
func (w *writer) halt() error {
	c := w.crews[w.n]
	return w.changeCrew(&c.active, func() (*operationpb.Operation, error) {
		if c.active.is {
			return w.accounts().Suspend(w.as(w.owner), &iamv1.SuspendServiceAccountRequest{ServiceAccountId: c.account})
		}
		return w.accounts().Reactivate(w.as(w.owner), &iamv1.ReactivateServiceAccountRequest{ServiceAccountId: c.account})
	})
}

// changeCrew turns one state around, and asks the checker at once.
func (w *writer) changeCrew(of *state, change func() (*operationpb.Operation, error)) error {
	c := w.crews[w.n]
	c.set(of, state{is: of.is, unsure: true})
	op, err := change()
	if err != nil {
		return err
	}
	c.set(of, state{is: !of.is})
	if err := w.acknowledged(op); err != nil {
		return err
	}
	return w.verifyCrew()
}

func (c *crew) set(of *state, to state) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*of = to
}

// forgetCrews makes what is known of the crews unsure.
func (w *world) forgetCrews() {
	for _, c := range w.crews {
		c.set(&c.member, state{unsure: true})
		c.set(&c.active, state{unsure: true})
	}
}

// verifyCrew checks what is sure about the crew. A suspended account may nothing,
// and a member of no group sees nothing, whatever else is unsure.
func (w *writer) verifyCrew() error {
	c := w.crews[w.n]
	c.mu.Lock()
	defer c.mu.Unlock()
	got, err := w.crewAllowed(c)
	if err != nil {
		return err
	}
	never := !c.member.unsure && !c.member.is || !c.active.unsure && !c.active.is
	always := !c.member.unsure && c.member.is && !c.active.unsure && c.active.is
	if got && never || !got && always {
		return fmt.Errorf("crew %d: member %+v, active %+v, check says allowed is %t", w.n, c.member, c.active, got)
	}
	return nil
}

// settleCrew checks that the group and the account are as acknowledged and that the
// checker agrees, which makes what is unsure sure.
func (w *writer) settleCrew() error {
	c := w.crews[w.n]
	c.mu.Lock()
	defer c.mu.Unlock()
	list, err := w.groups().ListMembers(w.as(w.owner), &orgv1.ListGroupMembersRequest{GroupId: c.group})
	if err != nil {
		return err
	}
	ops, err := w.accounts().ListOperations(w.as(w.owner), &iamv1.ListServiceAccountOperationsRequest{ServiceAccountId: c.account})
	if err != nil {
		return err
	}
	for _, op := range ops.GetOperations() {
		if !op.GetDone() { // of a call that was cut off
			return fmt.Errorf("operation %s is under way", op.GetId())
		}
	}
	account, err := w.accounts().Get(w.as(w.owner), &iamv1.GetServiceAccountRequest{ServiceAccountId: c.account})
	if err != nil {
		return err
	}
	check, err := w.crewAllowed(c)
	if err != nil {
		return err
	}
	member, active := len(list.GetMembers()) == 1, account.GetStatus() == iamv1.ServiceAccount_ACTIVE
	if check != (member && active) || !c.member.unsure && member != c.member.is || !c.active.unsure && active != c.active.is {
		return fmt.Errorf("crew %d: acknowledged member %+v, active %+v; is member %t, active %t, check says allowed is %t",
			w.n, c.member, c.active, member, active, check)
	}
	c.member, c.active = state{is: member}, state{is: active}
	return nil
}

// crewAllowed asks the checker about the account, by no token of its own: a restore
// makes tokens void.
func (w *writer) crewAllowed(c *crew) (bool, error) {
	_, err := w.access().Authorize(w.as(w.owner), &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_Subject{Subject: &accessservicev2.Subject{
			Type: &accessservicev2.Subject_ServiceAccount_{ServiceAccount: &accessservicev2.Subject_ServiceAccount{Id: c.account}},
		}},
		Permission:   folderGet,
		ResourcePath: []*accessservicev2.Resource{{Type: folderType, Id: c.folder}},
	})
	if status.Code(err) == codes.PermissionDenied { // so it is for one that is suspended
		return false, nil
	}
	return err == nil, err
}
