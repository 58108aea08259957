package partner

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// may asks the check by whose answer other services go.
func (w *world) may(who person, permission, typ, id string) error {
	w.t.Helper()
	_, err := accessservicev2.NewAccessServiceClient(w.Conn).Authorize(w.as(who), &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: who.token}, Permission: permission,
		ResourcePath: []*accessservicev2.Resource{{Type: typ, Id: id}},
	})
	return err
}

// folder makes a folder in a cloud.
func (w *world) folder(owner person, cloudID string) string {
	w.t.Helper()
	f := new(rmv1.Folder)
	w.done(must(rmv1.NewFolderServiceClient(w.Conn).Create(w.as(owner), &rmv1.CreateFolderRequest{CloudId: cloudID, Name: "prod"}))(w.t), f, nil)
	return f.GetId()
}

const (
	use    = "kms.keys.encrypt"                // of the data plane
	look   = "kms.keys.get"                    // looks
	manage = "resource-manager.folders.update" // manages
)

func TestPT27_PT30_PT31_SuspendedAccounts(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		id, other := w.served(ann, partner), w.served(ann, partner)
		c := w.cloud(ann, "")
		beside := w.cloud(ann, c.GetOrganizationId())
		in, out := w.folder(ann, c.GetId()), w.folder(ann, beside.GetId())
		must(w.public.BindBillableObject(w.as(ann), bind(id, c.GetId())))(t)
		must(w.public.BindBillableObject(w.as(ann), bind(other, beside.GetId())))(t)
		bindings := func() int {
			return len(must(w.clouds.ListAccessBindings(w.as(ann), &accesspb.ListAccessBindingsRequest{ResourceId: c.GetId()}))(t).GetAccessBindings())
		}
		stopped := func(what string, want bool) {
			t.Helper()
			for _, at := range []struct{ typ, id string }{{"resource-manager.folder", in}, {typeCloud, c.GetId()}} {
				err := w.may(ann, use, at.typ, at.id)
				if !want && err != nil {
					t.Errorf("%s: use on %s: %v", what, at.typ, err)
				} else if want {
					wantRefusal(t, what, err, codes.PermissionDenied, apierr.ReasonPayerStopped)
				}
				if err := w.may(ann, look, at.typ, at.id); err != nil {
					t.Errorf("%s: look on %s: %v", what, at.typ, err)
				}
			}
			if err := w.may(ann, manage, "resource-manager.folder", in); err != nil {
				t.Errorf("%s: manage: %v", what, err)
			}
			if err := w.may(ann, use, "resource-manager.folder", out); err != nil {
				t.Errorf("%s: use in a cloud that another account pays for: %v", what, err)
			}
		}
		before := bindings()
		stopped("at first", false)
		must(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: id}))(t)
		stopped("suspended", true)
		if got := bindings(); got != before { // PT-31
			t.Errorf("%d bindings before, %d after", before, got)
		}
		w.restart()
		stopped("after a restart", true)
		must(w.customers.Activate(w.as(ann), &billingv1.ActivateCustomerRequest{CustomerId: id}))(t)
		stopped("resumed", false)
		w.state(id, partnerv1.BillingAccount_SUSPENDED)
		stopped("suspended by the platform", true)
		// PT-37: a cloud that moves to an account that pays is in use again.
		must(w.public.BindBillableObject(w.as(ann), bind(other, c.GetId())))(t)
		stopped("moved away", false)
	})
}

// The deletion of a cloud is taken back only while its account pays.
func TestDL11_DeletionsOfStoppedClouds(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		c := w.cloud(ann, "").GetId()
		must(w.public.BindBillableObject(w.as(ann), bind(account, c)))(t)
		deleted := must(w.clouds.Delete(w.as(ann), &rmv1.DeleteCloudRequest{CloudId: c}))(t)
		w.state(account, partnerv1.BillingAccount_SUSPENDED)
		deletions := brmv1.NewDeletionServiceClient(w.Conn)
		_, err := deletions.CancelCloudDeletion(w.as(ann), &brmv1.CancelCloudDeletionRequest{CloudId: c})
		wantRefusal(t, "while the account is suspended", err, codes.PermissionDenied, apierr.ReasonPayerStopped)
		_, err = operationpb.NewOperationServiceClient(w.Conn).Cancel(w.as(ann), &operationpb.CancelOperationRequest{OperationId: deleted.GetId()})
		wantRefusal(t, "by its operation", err, codes.PermissionDenied, apierr.ReasonPayerStopped)
		w.state(account, partnerv1.BillingAccount_ACTIVE)
		must(deletions.CancelCloudDeletion(w.as(ann), &brmv1.CancelCloudDeletionRequest{CloudId: c}))(t)
	})
}

// A cloud whose subaccount was deleted is paid for by nobody; what was suspended with it
// is nobody's either.
func TestPT13_DeletedAccountsStopNothing(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		id := w.served(ann, w.partner(ann))
		c := w.cloud(ann, "").GetId()
		must(w.public.BindBillableObject(w.as(ann), bind(id, c)))(t)
		must(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: id}))(t)
		must(w.subaccounts.DeleteSubaccount(w.as(ann), &partnerv1.DeleteSubaccountRequest{SubaccountId: id}))(t)
		w.eventually("the cloud is nobody's", func() bool { return w.may(ann, use, typeCloud, c) == nil })
	})
}

// Whoever is told late is told what is so now: an older change does not undo a newer one.
func TestPT30_LateTellings(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		c := w.cloud(ann, "").GetId()
		must(w.public.BindBillableObject(w.as(ann), bind(account, c)))(t)
		payers := accessv1.NewPayerServiceClient(w.Unit(Name, "accessbindings"))
		set := func(stopped bool, version int64) {
			t.Helper()
			must(payers.SetPayerStopped(t.Context(), &accessv1.SetPayerStoppedRequest{BillingAccountId: account, Stopped: stopped, Version: version}))(t)
		}
		set(true, 1000)
		set(false, 999)
		wantRefusal(t, "an older telling", w.may(ann, use, typeCloud, c), codes.PermissionDenied, apierr.ReasonPayerStopped)
		set(false, 1001)
		if err := w.may(ann, use, typeCloud, c); err != nil {
			t.Error(err)
		}
		must(payers.SetPayer(t.Context(), &accessv1.SetPayerRequest{CloudId: c, Version: 1}))(t) // long ago
		set(true, 1002)
		wantRefusal(t, "an older payer", w.may(ann, use, typeCloud, c), codes.PermissionDenied, apierr.ReasonPayerStopped)
	})
}

// The operation of a suspension is done with the call, which waits for the checker.
func TestSuspensionIsDoneWhenItIsEnforced(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		id := w.served(ann, w.partner(ann))
		op := must(w.subaccounts.SuspendSubaccount(w.as(ann), &partnerv1.SuspendSubaccountRequest{SubaccountId: id}))(t)
		got := must(operationpb.NewOperationServiceClient(w.Conn).Get(w.as(ann), &operationpb.GetOperationRequest{OperationId: op.GetId()}))(t)
		if !op.GetDone() || !got.GetDone() || time.Since(op.GetCreatedAt().AsTime()) > time.Minute {
			t.Errorf("operation %v, then %v", op, got)
		}
	})
}
