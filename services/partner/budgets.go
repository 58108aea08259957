package partner

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/server"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Permissions on budgets.
const (
	permBudgets      = "billing.budgets.get"
	permBudgetCreate = "billing.budgets.create"
)

// budgets is the platform's BudgetService.
type budgets struct {
	billingv1.UnsafeBudgetServiceServer // a missing method does not compile
	*Service
}

// Get reads a budget. Fails: BUDGET_NOT_FOUND.
func (s *budgets) Get(ctx context.Context, req *billingv1.GetBudgetRequest) (*billingv1.Budget, error) {
	b, err := s.store.Budget(ctx, s.store.db, req.GetId(), "")
	if err != nil {
		return nil, err
	}
	return b.proto(s.now()), nil
}

// List lists the budgets of an account, oldest first.
func (s *budgets) List(ctx context.Context, req *billingv1.ListBudgetsRequest) (*billingv1.ListBudgetsResponse, error) {
	scope := []string{"budgets", req.GetBillingAccountId()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	all, err := s.store.Budgets(ctx, s.store.db, req.GetBillingAccountId(), after, size+1)
	if err != nil {
		return nil, err
	}
	fit, next, err := onPage(s.Service, all, size, Budget.position, func(b Budget) int { return proto.Size(b.proto(s.now())) }, scope...)
	if err != nil {
		return nil, err
	}
	resp := &billingv1.ListBudgetsResponse{NextPageToken: next}
	for _, b := range fit {
		resp.Budgets = append(resp.Budgets, b.proto(s.now()))
	}
	return resp, nil
}

// Create makes a budget (US-3, US-8), which is looked at when usage comes in, or payments
// tell the balance, and once when it begins. Fails: BILLING_ACCOUNT_NOT_FOUND,
// BILLING_ACCOUNT_BUSY, BILLING_ACCOUNT_IS_SUBACCOUNT, BUDGETS_TOO_MANY.
func (s *budgets) Create(ctx context.Context, req *billingv1.CreateBudgetRequest) (*operationpb.Operation, error) {
	b, err := s.newBudget(ctx, req)
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		a, err := s.lockLiving(ctx, tx, b.AccountID)
		if err != nil {
			return op, err
		}
		if a.PartnerID != "" && b.Spec.GetBalanceBudget() != nil {
			return op, errIsSubaccount // its balance is always zero (PT-4)
		}
		n, err := s.store.count(ctx, tx, `SELECT COUNT(*) FROM partner_budgets WHERE account_id = $1`, a.ID)
		if err != nil {
			return op, err
		}
		if n >= maxBudgets {
			return op, errTooManyBudgets
		}
		if err := s.store.InsertBudget(ctx, tx, b); err != nil {
			return op, err
		}
		if op, err = s.begun(ctx, tx, a.ID, operation.New{
			Description: "Create budget", ViewPermission: permBudgets, Response: b.proto(s.now()),
			Metadata: &billingv1.CreateBudgetMetadata{BudgetId: b.ID},
		}); err != nil {
			return op, err
		}
		if err := s.record(ctx, tx, a, event{
			name: eventBudgetCreate, status: audit.Done, permission: permBudgetCreate,
			details: map[string]any{"operation_id": op.ID, "budget_id": b.ID},
		}); err != nil {
			return op, err
		}
		if b.begins() > 0 {
			return op, nil // the sweep looks at it then
		}
		_, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobBudgets, Payload: budgetLook{[]string{b.ID}, int64(dayOf(b.CreatedAt))}, NotBefore: atOnce})
		return op, err
	})
	if err != nil {
		return nil, err
	}
	s.jobs.Kick()
	return op.Answer()
}

// newBudget reads a request.
func (s *Service) newBudget(ctx context.Context, req *billingv1.CreateBudgetRequest) (Budget, error) {
	spec, field := &billingv1.Budget{Name: req.GetName()}, "cost_budget_spec"
	switch x := req.GetBudgetSpec().(type) {
	case *billingv1.CreateBudgetRequest_CostBudgetSpec:
		spec.BudgetSpec = &billingv1.Budget_CostBudget{CostBudget: x.CostBudgetSpec}
	case *billingv1.CreateBudgetRequest_ExpenseBudgetSpec:
		spec.BudgetSpec, field = &billingv1.Budget_ExpenseBudget{ExpenseBudget: x.ExpenseBudgetSpec}, "expense_budget_spec"
	case *billingv1.CreateBudgetRequest_BalanceBudgetSpec:
		spec.BudgetSpec, field = &billingv1.Budget_BalanceBudget{BalanceBudget: x.BalanceBudgetSpec}, "balance_budget_spec"
	}
	b := Budget{ID: id.New(id.Budget), AccountID: req.GetBillingAccountId(), CreatedAt: s.now(), Spec: spec}
	if err := checkBudget(b, field, dayOf(b.CreatedAt)); err != nil {
		return b, err
	}
	return b, s.checkUsers(ctx, b, field)
}

// checkUsers refuses to tell somebody whom nobody knows.
func (s *Service) checkUsers(ctx context.Context, b Budget, field string) error {
	lists := map[string][]string{"": b.terms().GetNotificationUserAccountIds()}
	for i, r := range b.terms().GetThresholdRules() {
		lists[fmt.Sprintf(".threshold_rules[%d]", i)] = r.GetNotificationUserAccountIds()
	}
	var ids []string
	for _, list := range lists {
		ids = union(ids, list)
	}
	known, err := s.users(ctx, ids)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(lists)) {
		for i, userID := range lists[name] {
			if known[userID] == nil {
				return apierr.InvalidField(fmt.Sprintf("%s%s.notification_user_account_ids[%d]", field, name, i), "there is no user %s", userID)
			}
		}
	}
	return nil
}

// users looks users up by their ids. Those that nobody knows, and what is no user, are
// left out.
func (s *Service) users(ctx context.Context, ids []string) (map[string]*identityv1.SubjectEntry, error) {
	known := make(map[string]*identityv1.SubjectEntry)
	for part := range slices.Chunk(ids, 1000) {
		resp, err := s.directory.BatchGetSubjects(server.AsUnit(ctx), &identityv1.BatchGetSubjectsRequest{Ids: part})
		if err != nil {
			return nil, fmt.Errorf("look users up: %w", apierr.FromRPC(err))
		}
		for _, e := range resp.GetSubjects() {
			if e.GetType() == authn.UserAccount {
				known[e.GetId()] = e
			}
		}
	}
	return known, nil
}

// resolveBudget leads from a budget to its account.
func (s *Service) resolveBudget(ctx context.Context, budgetID string) (authz.Resource, error) {
	b, err := s.store.Budget(ctx, s.store.db, budgetID, "")
	return accountResource(b.AccountID), err
}
