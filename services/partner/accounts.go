package partner

import (
	"context"
	"database/sql"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Permissions that the unit names beside the rules of its methods.
const (
	permList   = "billing.accounts.list"
	permGet    = "billing.accounts.get"
	permUpdate = "billing.accounts.update"
	permDelete = "billing.accounts.delete"
	permBind   = "billing.accounts.bindBillableObject"
	permTrial  = "billing.accounts.activateTrial"
	permPaid   = "billing.accounts.activatePaidVersion"
	permLink   = "organization-manager.organizations.linkBillingAccount"
)

// accounts is our own BillingAccountService.
type accounts struct {
	partnerv1.UnsafeBillingAccountServiceServer // a missing method does not compile
	*Service
}

// GetBillingAccount reads an account with its state. Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *accounts) GetBillingAccount(ctx context.Context, req *partnerv1.GetBillingAccountRequest) (*partnerv1.BillingAccount, error) {
	a, err := s.store.Account(ctx, s.store.db, req.GetBillingAccountId())
	if err != nil {
		return nil, err
	}
	return a.proto(s.cfg.KeepFor), nil
}

// UpdateBillingAccount changes the name. An empty one means unchanged (NM-8). Fails:
// BILLING_ACCOUNT_NOT_FOUND, BILLING_ACCOUNT_BUSY.
func (s *accounts) UpdateBillingAccount(ctx context.Context, req *partnerv1.UpdateBillingAccountRequest) (*operationpb.Operation, error) {
	paths := req.GetUpdateMask().GetPaths()
	if i := slices.IndexFunc(paths, func(path string) bool { return path != "name" }); i >= 0 {
		return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed: name is", paths[i])
	}
	return s.change(ctx, req.GetBillingAccountId(), alteration{
		verb: "Update billing account", permission: permUpdate,
		metadata: &partnerv1.UpdateBillingAccountMetadata{BillingAccountId: req.GetBillingAccountId()},
		apply: func(a Account) (Account, error) {
			if req.GetName() != "" {
				a.Name = req.GetName()
			}
			return a, nil
		},
	})
}

// ActivateTrial begins the trial of a new account (BI-5). Fails:
// BILLING_ACCOUNT_NOT_FOUND, BILLING_ACCOUNT_STATE.
func (s *accounts) ActivateTrial(ctx context.Context, req *partnerv1.ActivateTrialRequest) (*operationpb.Operation, error) {
	return s.change(ctx, req.GetBillingAccountId(), alteration{
		verb: "Activate trial", permission: permTrial,
		metadata: &partnerv1.ActivateTrialMetadata{BillingAccountId: req.GetBillingAccountId()},
		apply:    s.leads(beforeTrial, TrialActive),
	})
}

// ActivatePaidVersion goes over to the paid version (BI-8). Fails:
// BILLING_ACCOUNT_NOT_FOUND, BILLING_ACCOUNT_STATE.
func (s *accounts) ActivatePaidVersion(ctx context.Context, req *partnerv1.ActivatePaidVersionRequest) (*operationpb.Operation, error) {
	return s.change(ctx, req.GetBillingAccountId(), alteration{
		verb: "Activate paid version", permission: permPaid,
		metadata: &partnerv1.ActivatePaidVersionMetadata{BillingAccountId: req.GetBillingAccountId()},
		apply:    s.leads(beforePaid, Active),
	})
}

// leads returns what leads an account from one of some states to another, and leaves one
// that is there as it is (BI-5).
func (s *Service) leads(from []State, to State) func(Account) (Account, error) {
	return func(a Account) (Account, error) {
		switch {
		case a.PartnerID != "":
			return a, errIsSubaccount
		case a.State == to:
			return a, nil
		case !slices.Contains(from, a.State):
			return a, errAccountState(a, "it does not become "+string(to)+" from there")
		}
		return a.moved(to, s.now()), nil
	}
}

// alteration is one change of an account. It is done with its transaction, or when the
// checker knows that the account is stopped or goes on.
type alteration struct {
	verb       string // description of the operation
	permission string
	metadata   proto.Message
	apply      func(Account) (Account, error)
}

func (s *Service) change(ctx context.Context, accountID string, c alteration) (*operationpb.Operation, error) {
	return s.writeMaybe(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, t *jobs.Ticket, err error) {
		before, err := s.lockLiving(ctx, tx, accountID)
		if err != nil {
			return op, nil, err
		}
		after, err := c.apply(before)
		if err != nil {
			return op, nil, err
		}
		if err := s.store.UpdateAccount(ctx, tx, after); err != nil {
			return op, nil, err
		}
		n := operation.New{Description: c.verb, Metadata: c.metadata}
		if !turns(before, after) {
			n.Response = after.proto(s.cfg.KeepFor)
		}
		if op, err = s.begun(ctx, tx, accountID, n); err != nil {
			return op, nil, err
		}
		if err := s.record(ctx, tx, after, event{
			name: eventUpdate, status: audit.Done, permission: c.permission, details: changed(before, after, op.ID),
		}); err != nil {
			return op, nil, err
		}
		t, err = s.standingJob(ctx, tx, before, after, standing{Operation: op.ID, Account: accountID})
		return op, t, err
	})
}

// changed are the details of an update.
func changed(before, after Account, operationID string) map[string]any {
	d := map[string]any{"operation_id": operationID}
	if before.State != after.State {
		d["state_before"], d["state"] = string(before.State), string(after.State)
	}
	if before.Name != after.Name {
		d["name"] = after.Name
	}
	return d
}

// lockLiving locks an account that is neither being made nor deleted. Fails:
// BILLING_ACCOUNT_NOT_FOUND, BILLING_ACCOUNT_BUSY.
func (s *Service) lockLiving(ctx context.Context, tx *sql.Tx, accountID string) (Account, error) {
	a, err := s.store.LockAccount(ctx, tx, accountID)
	if err == nil && a.Phase != Living {
		err = errAccountBusy(a)
	}
	return a, err
}

// ListCloudLinks lists what an account has paid for and when, oldest first (BI-4).
func (s *accounts) ListCloudLinks(ctx context.Context, req *partnerv1.ListCloudLinksRequest) (*partnerv1.ListCloudLinksResponse, error) {
	links, next, err := s.links(ctx, req.GetBillingAccountId(), false, req)
	if err != nil {
		return nil, err
	}
	resp := &partnerv1.ListCloudLinksResponse{NextPageToken: next}
	for _, l := range links {
		resp.CloudLinks = append(resp.CloudLinks, l.proto())
	}
	return resp, nil
}

// onPage cuts a list of one item more than a page has, and seals the token of the next
// one.
func onPage[T any](s *Service, all []T, size int, position func(T) page.Position, bytes func(T) int, scope ...string) ([]T, string, error) {
	fit := page.Fit(min(len(all), size), func(i int) int { return bytes(all[i]) })
	if fit == len(all) {
		return all, "", nil
	}
	token, err := s.pages.Seal(position(all[fit-1]), scope...)
	return all[:fit], token, err
}
