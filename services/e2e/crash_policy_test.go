package e2e

import (
	"fmt"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// What writers freeze a folder by, and the permission that nobody has on it then.
const (
	freezing = "iam.denyServiceAccountCreation"
	frozen   = "iam.serviceAccounts.create"
)

// freeze binds an access policy to a folder of the writer's own, or takes it away.
func (w *writer) freeze(f *folder) error {
	f.frozen.unsure = true
	var op *operationpb.Operation
	var err error
	if f.frozen.is {
		op, err = w.world.folders().UnbindAccessPolicy(w.as(w.owner), &accesspb.UnbindAccessPolicyRequest{ResourceId: f.id, AccessPolicyTemplateId: freezing})
	} else {
		op, err = w.world.folders().BindAccessPolicy(w.as(w.owner), &accesspb.BindAccessPolicyRequest{
			ResourceId: f.id, AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: freezing},
		})
	}
	if err != nil {
		return err
	}
	f.frozen = state{is: !f.frozen.is}
	if err := w.acknowledged(op); err != nil {
		return err
	}
	return w.verifyPolicy(f)
}

// verifyPolicy checks what is sure about the policy of a folder: it binds the owner
// of the cloud, too (AP-10).
func (w *writer) verifyPolicy(f *folder) error {
	if f.id == "" || f.gone.unsure || f.frozen.unsure {
		return nil
	}
	got, err := w.holds(w.owner, frozen, f.id)
	if err == nil && got != (!f.frozen.is && !f.gone.is) {
		return fmt.Errorf("the policy is acknowledged as %+v, check says allowed is %t", f.frozen, got)
	}
	return err
}

// settlePolicy checks that the policy of a folder is as acknowledged and that the
// checker agrees with the list, which makes an unsure one sure.
func (w *writer) settlePolicy(f *folder) error {
	if f.gone.is {
		return nil
	}
	list, err := w.world.folders().ListAccessPolicyBindings(w.as(w.owner), &accesspb.ListAccessPolicyBindingsRequest{ResourceId: f.id})
	if err != nil {
		return err
	}
	check, err := w.holds(w.owner, frozen, f.id)
	if err != nil {
		return err
	}
	bound := len(list.GetAccessPolicyBindings()) == 1
	if check == bound || !f.frozen.unsure && bound != f.frozen.is {
		return fmt.Errorf("the policy: acknowledged %+v, bound is %v, check says allowed is %t", f.frozen, list.GetAccessPolicyBindings(), check)
	}
	f.frozen = state{is: bound}
	return nil
}
