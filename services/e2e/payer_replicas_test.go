package e2e

import (
	"context"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// TestReplicasOfSuspension suspends and resumes a partner's customer again and again, and
// asks three replicas of the checker about the data plane of the cloud that the customer
// pays for: once the suspension is acknowledged every one of them refuses it, once the
// resumption is every one allows it, and bindings stay as they are (PT-30, PT-31). In
// every second round one replica stands for longer than its lease: it refuses, or cannot
// know, when it goes on.
func TestReplicasOfSuspension(t *testing.T) {
	binary(t)
	s := newSplitOn(t, sqldbtest.URL(t), 3)
	s.start()
	p := newPayment(t, s)
	replicas := s.processesOf(replicated)
	if len(replicas) != 3 {
		t.Fatalf("%d replicas", len(replicas))
	}
	var asked []*checkReplica
	for _, one := range replicas {
		asked = append(asked, newCheckReplica(t, p.world, one, p.folder))
	}
	before := p.bindings()
	p.everywhere("at first", asked, codes.OK)
	for round := range times(t, "BINDERY_SUSPENSION_ROUNDS", 4, 8) {
		stands := asked[round%len(asked)]
		process, awake := stands.server.cmd.Process, asked
		if round%2 == 1 {
			hang(t, process)
			awake = append(append([]*checkReplica{}, asked[:round%len(asked)]...), asked[round%len(asked)+1:]...)
		}
		p.change(&partnerv1.SuspendSubaccountRequest{SubaccountId: p.subaccount}, partnerv1.SubaccountService_SuspendSubaccount_FullMethodName)
		p.everywhere("suspended", awake, codes.PermissionDenied)
		if round%2 == 1 {
			if err := process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			for range 50 {
				if p.uses(stands) == nil {
					t.Fatalf("round %d: the replica that stood allows what is suspended", round)
				}
			}
			p.eventually(stands, codes.PermissionDenied)
		}
		if diff := cmp.Diff(before, p.bindings(), protocmp.Transform()); diff != "" {
			t.Fatalf("round %d: a suspension changed bindings (-before +now):\n%s", round, diff)
		}
		p.change(&partnerv1.ResumeSubaccountRequest{SubaccountId: p.subaccount}, partnerv1.SubaccountService_ResumeSubaccount_FullMethodName)
		p.everywhere("resumed", asked, codes.OK)
	}
}

// payment is a partner's customer who pays for a cloud with a folder, all of the owner.
type payment struct {
	*world
	t                         *testing.T
	subaccount, cloud, folder string
}

func newPayment(t *testing.T, s *split) *payment {
	t.Helper()
	p := &payment{world: newWorld(t, s.server), t: t}
	p.persist(t) // a replica that stands is asked, too
	account, customer := new(partnerv1.BillingAccount), new(partnerv1.Subaccount)
	p.done(partnerv1.BillingAccountService_CreateBillingAccount_FullMethodName,
		&partnerv1.CreateBillingAccountRequest{Name: "Reseller", CountryCode: "RU", Currency: "RUB"}, account)
	dir := s.deskOf("partner")
	command(t, "billing", "state", "--id", account.GetId(), "--state", "ACTIVE", "--data-dir", dir)
	command(t, "billing", "partner", "--id", account.GetId(), "--program", "VAR", "--data-dir", dir)
	p.done(partnerv1.SubaccountService_CreateSubaccount_FullMethodName,
		&partnerv1.CreateSubaccountRequest{ResellerId: account.GetId(), Name: "ACME", Person: &billingv1.CustomerPerson{Name: "ACME"}}, customer)
	p.subaccount, p.cloud = customer.GetId(), p.world.cloud(t)
	p.done(partnerv1.SubaccountService_ActivateSubaccount_FullMethodName, &partnerv1.ActivateSubaccountRequest{SubaccountId: p.subaccount}, customer)
	p.done(billingv1.BillingAccountService_BindBillableObject_FullMethodName, &billingv1.BindBillableObjectRequest{
		BillingAccountId: p.subaccount, BillableObject: &billingv1.BillableObject{Id: p.cloud, Type: "cloud"},
	}, new(billingv1.BillableObjectBinding))
	made := new(rmv1.Folder)
	p.done(rmv1.FolderService_Create_FullMethodName, &rmv1.CreateFolderRequest{CloudId: p.cloud, Name: "folder"}, made)
	p.folder = made.GetId()
	return p
}

// done makes a call of the owner that is to be done with its answer.
func (p *payment) done(method string, req, into proto.Message) {
	p.t.Helper()
	op := new(operationpb.Operation)
	if err := p.conn.Invoke(p.as(p.owner), method, req, op); err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	if !op.GetDone() || op.GetResponse() == nil {
		p.t.Fatalf("%s: %v, want it done", method, op)
	}
	if err := op.GetResponse().UnmarshalTo(into); err != nil {
		p.t.Fatal(err)
	}
}

// change suspends or resumes. It is acknowledged when the operation is done, which may
// be after the call: a replica that stands delays it by its lease.
func (p *payment) change(req proto.Message, method string) {
	p.t.Helper()
	op := new(operationpb.Operation)
	if err := p.conn.Invoke(p.as(p.owner), method, req, op); err != nil {
		p.t.Fatalf("%s: %v", method, err)
	}
	for end := time.Now().Add(time.Minute); !op.GetDone(); time.Sleep(20 * time.Millisecond) { // between two questions
		if time.Now().After(end) {
			p.t.Fatalf("%s is not done: %v", method, op)
		}
		var err error
		if op, err = p.operations().Get(p.as(p.owner), &operationpb.GetOperationRequest{OperationId: op.GetId()}); err != nil {
			p.t.Fatal(err)
		}
	}
	if op.GetError() != nil {
		p.t.Fatalf("%s: %v", method, op.GetError())
	}
}

// uses asks one replica for the data plane, as the services there do.
func (p *payment) uses(r *checkReplica) error {
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	_, err := accessservicev2.NewAccessServiceClient(r.conn).Authorize(ctx, &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: p.owner}, Permission: use,
		ResourcePath: []*accessservicev2.Resource{{Type: folderType, Id: p.folder}},
	})
	return err
}

// everywhere wants an answer of every replica, now; the one for what is stopped is told
// from other refusals by its reason.
func (p *payment) everywhere(when string, replicas []*checkReplica, want codes.Code) {
	p.t.Helper()
	for i, r := range replicas {
		err := p.uses(r)
		a := answerOf(status.Convert(err))
		if a.code != want || want == codes.PermissionDenied && a.reason != "PAYER_STOPPED" {
			p.t.Fatalf("%s: replica %d answers %v", when, i, err)
		}
	}
}

// eventually waits while a replica cannot know, and wants that answer then.
func (p *payment) eventually(r *checkReplica, want codes.Code) {
	p.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) { // between two questions
		code := status.Code(p.uses(r))
		if code == want {
			return
		}
		if code != codes.Unavailable || time.Now().After(end) {
			p.t.Fatalf("the replica that stood answers %v", code)
		}
	}
}

// bindings are those of the cloud.
func (p *payment) bindings() []*accesspb.AccessBinding {
	p.t.Helper()
	list, err := p.clouds().ListAccessBindings(p.as(p.owner), &accesspb.ListAccessBindingsRequest{ResourceId: p.cloud})
	if err != nil {
		p.t.Fatal(err)
	}
	return list.GetAccessBindings()
}
