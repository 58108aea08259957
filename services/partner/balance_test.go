package partner

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/jobs"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// balance has the operator say what is on an account.
func (w *world) balance(accountID, balance string) {
	w.t.Helper()
	must(w.moneyDesk().SetBalance(w.t.Context(), &partnerv1.SetBalanceRequest{BillingAccountId: accountID, Balance: balance}))(w.t)
}

// ofBalance is a request for a budget of the balance.
func (w *world) ofBalance(accountID, amount string, whom ...person) *billingv1.CreateBudgetRequest {
	spec := &billingv1.BalanceBudgetSpec{Amount: amount, EndDate: fmt.Sprintf("%d-12-31", w.now().Year()+1)}
	for _, p := range whom {
		spec.NotificationUserAccountIds = append(spec.NotificationUserAccountIds, p.id)
	}
	return &billingv1.CreateBudgetRequest{
		BillingAccountId: accountID, Name: "what is left", BudgetSpec: &billingv1.CreateBudgetRequest_BalanceBudgetSpec{BalanceBudgetSpec: spec},
	}
}

func TestUS8_US4_LimitsOfTheBalance(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, eve := w.person("ann"), w.person("bob"), w.person("eve")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		w.grant(ann, typeAccount, account, "billing.accounts.viewer", bob)
		shown := func() string {
			return must(w.public.Get(w.as(ann), &billingv1.GetBillingAccountRequest{Id: account}))(t).GetBalance()
		}
		if got := shown(); got != "0" {
			t.Errorf("before payments say anything the balance is %s", got)
		}
		w.balance(account, "1000.5")
		req := w.ofBalance(account, "100", ann)
		req.GetBalanceBudgetSpec().ThresholdRules = []*billingv1.ThresholdRule{
			{Type: billingv1.ThresholdType_PERCENT, Amount: "50", NotificationUserAccountIds: []string{bob.id, eve.id}}, // eve may see nothing of it
			{Type: billingv1.ThresholdType_AMOUNT, Amount: "0.000000001"},
		}
		b := w.budget(ann, req)
		if b.GetStatus() != billingv1.BudgetStatus_ACTIVE || !proto.Equal(b.GetBalanceBudget(), req.GetBalanceBudgetSpec()) {
			t.Errorf("made: %v", b)
		}
		told := map[string]int{}
		step := func(balance string, whom ...person) {
			t.Helper()
			w.balance(account, balance)
			w.settled()
			for _, p := range whom {
				told[p.email]++
			}
			var n int
			for _, of := range told {
				n += of
			}
			w.eventually(fmt.Sprint(n, " mails at ", balance), func() bool { return len(w.told()) >= n })
			got := map[string]int{}
			for _, mail := range w.told() {
				got[strings.Fields(mail)[0]]++
			}
			for address := range got {
				if got[address] != told[address] || len(got) > len(told) {
					t.Errorf("at %s told %v, want %v", balance, got, told)
				}
			}
		}
		step("100.000000001")
		step("100", ann)
		step("99") // told already
		step("50", bob)
		step("49.5")
		step("100")     // above the half of it, and not above the whole
		step("50", bob) // down to it again
		step("50")
		step("-3.5", ann)
		if got := shown(); got != "-3.5" {
			t.Errorf("the balance is %s", got)
		}
		step("1000")
		step("-1", ann, bob, ann) // all at once, each again
		w.restart()
		step("-1")
		step("-2") // remembered across the restart
	})
}

func TestUS8_WhenBudgetsOfTheBalanceAreLookedAt(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		w.balance(account, "5")
		now := w.budget(ann, w.ofBalance(account, "10", ann)).GetId() // spent when it is made
		w.settled()
		next := dayOf(w.now()).monthEnd() + 1
		later := w.ofBalance(account, "10", ann)
		later.GetBalanceBudgetSpec().StartDate = next.String()
		then := w.budget(ann, later).GetId()
		passed := func() (ids []string) {
			for _, line := range w.passed() {
				ids = append(ids, strings.Fields(line)[0])
			}
			return ids
		}
		w.balance(account, "4") // before its first day
		if got := passed(); !slices.Equal(got, []string{now}) {
			t.Errorf("told %v, want %v", got, now)
		}
		sweep := &Service{store: &Store{db: w.db}, now: w.now, jobs: jobs.New(jobs.Config{DB: w.db, Unit: Name, Log: zap.NewNop()})}
		jobs.Register(sweep.jobs, jobBudgetMail, sweep.sendBudgetMail) // the unit executes it
		must(0, sweep.beginBudgets(t.Context()))(t)
		if got := passed(); !slices.Equal(got, []string{now}) {
			t.Errorf("told %v before the first day, want %v", got, now)
		}
		w.ahead.Add(int64(time.Until(next.after())))
		want := []string{now, then}
		slices.Sort(want)
		for range 2 {
			must(0, sweep.beginBudgets(t.Context()))(t)
			if got := passed(); !slices.Equal(got, want) {
				t.Errorf("told %v on its first day, want %v", got, want)
			}
		}
		w.ahead.Add(int64(3 * 365 * 24 * time.Hour))
		w.balance(account, "100")
		w.balance(account, "1") // both have ended
		if got := passed(); !slices.Equal(got, want) {
			t.Errorf("told %v after its end, want %v", got, want)
		}
	})
}

func TestUS8_PT4_RefusedBalances(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		partner := w.partner(ann)
		sub := w.served(ann, partner)
		_, err := w.budgets().Create(w.as(ann), w.ofBalance(sub, "10", ann))
		wantRefusal(t, "of a subaccount", err, codes.FailedPrecondition, ReasonIsSubaccount)
		for _, tt := range []struct {
			field string
			spoil func(*billingv1.BalanceBudgetSpec)
		}{
			{"amount", func(s *billingv1.BalanceBudgetSpec) { s.Amount = "-1" }},
			{"start_date", func(s *billingv1.BalanceBudgetSpec) { s.StartDate = "2026-01-02" }},
			{"start_date", func(s *billingv1.BalanceBudgetSpec) { s.StartDate = "2099-01-01" }},
			{"end_date", func(s *billingv1.BalanceBudgetSpec) { s.EndDate = "2020-12-31" }},
			{"threshold_rules[0].amount", func(s *billingv1.BalanceBudgetSpec) {
				s.ThresholdRules = []*billingv1.ThresholdRule{{Type: billingv1.ThresholdType_AMOUNT, Amount: "11"}}
			}},
		} {
			req := w.ofBalance(partner, "10", ann)
			tt.spoil(req.GetBalanceBudgetSpec())
			_, err := w.budgets().Create(w.as(ann), req)
			wantRefusal(t, fmt.Sprint(req), err, codes.InvalidArgument, "balance_budget_spec."+tt.field)
		}
		for _, tt := range []struct {
			account, balance string
			code             codes.Code
			reason           string
		}{
			{sub, "1", codes.FailedPrecondition, ReasonIsSubaccount}, {"none", "1", codes.NotFound, ReasonAccountNotFound},
			{partner, "1,5", codes.InvalidArgument, "balance"}, {partner, "", codes.InvalidArgument, "balance"},
		} {
			_, err := w.moneyDesk().SetBalance(t.Context(), &partnerv1.SetBalanceRequest{BillingAccountId: tt.account, Balance: tt.balance})
			wantRefusal(t, fmt.Sprintf("%q", tt.balance), err, tt.code, tt.reason)
		}
	})
}
