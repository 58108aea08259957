package partner

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

func (w *world) budgets() billingv1.BudgetServiceClient {
	return billingv1.NewBudgetServiceClient(w.Conn)
}

// monthly is a request for a budget of costs that begins anew with each month.
func (w *world) monthly(accountID, amount string, whom ...person) *billingv1.CreateBudgetRequest {
	spec := &billingv1.CostBudgetSpec{
		Amount: amount, EndDate: fmt.Sprintf("%d-12-31", w.now().Year()+1),
		StartType: &billingv1.CostBudgetSpec_ResetPeriod{ResetPeriod: billingv1.ResetPeriodType_MONTHLY},
	}
	for _, p := range whom {
		spec.NotificationUserAccountIds = append(spec.NotificationUserAccountIds, p.id)
	}
	return &billingv1.CreateBudgetRequest{
		BillingAccountId: accountID, Name: "all", BudgetSpec: &billingv1.CreateBudgetRequest_CostBudgetSpec{CostBudgetSpec: spec},
	}
}

func (w *world) budget(who person, req *billingv1.CreateBudgetRequest) *billingv1.Budget {
	w.t.Helper()
	b, m := new(billingv1.Budget), new(billingv1.CreateBudgetMetadata)
	w.done(must(w.budgets().Create(w.as(who), req))(w.t), b, m)
	if m.GetBudgetId() != b.GetId() {
		w.t.Errorf("metadata %v of %v", m, b)
	}
	return b
}

// told are the mails about budgets so far, as "address id", in order.
func (w *world) told() []string {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `
		SELECT d.target, n.id FROM notifications_deliveries d JOIN notifications_notices n ON n.id = d.notice_id WHERE n.event = 'budget.passed'`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var target, notice string
		if err := rows.Scan(&target, &notice); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, target+" "+notice)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

// passed are the limits that were recorded as spent, as "budget period number".
func (w *world) passed() []string {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT budget_id, period, threshold FROM partner_budget_alerts ORDER BY budget_id, period, threshold`)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	var all []string
	for rows.Next() {
		var budget string
		var period int64
		var number int
		if err := rows.Scan(&budget, &period, &number); err != nil {
			w.t.Fatal(err)
		}
		all = append(all, fmt.Sprint(budget, " ", Day(period), " ", number))
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return all
}

// settled waits until the jobs of the unit that are due are done.
func (w *world) settled() {
	w.t.Helper()
	w.eventually("jobs are done", func() bool {
		var n int64
		err := w.db.QueryRowContext(context.WithoutCancel(w.t.Context()), `SELECT COUNT(*) FROM goqite WHERE queue = 'partner'`).Scan(&n)
		return err == nil && n == 0
	})
}

func TestUS3_US4_EachLimitIsToldOnceInAPeriod(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann, bob, eve := w.person("ann"), w.person("bob"), w.person("eve")
		partner := w.partner(ann)
		sub := w.served(ann, partner)
		w.grant(ann, typeAccount, partner, "billing.accounts.viewer", bob)
		cloud := w.cloud(ann, "").GetId()
		w.link(ann, sub, cloud)
		req := w.monthly(partner, "100", ann)
		req.GetCostBudgetSpec().ThresholdRules = []*billingv1.ThresholdRule{
			{Type: billingv1.ThresholdType_PERCENT, Amount: "50", NotificationUserAccountIds: []string{bob.id, eve.id}}, // eve may see nothing of it (US-4)
			{Type: billingv1.ThresholdType_AMOUNT, Amount: "80.5"},
		}
		b := w.budget(ann, req)
		if b.GetStatus() != billingv1.BudgetStatus_ACTIVE || b.GetBillingAccountId() != partner || !proto.Equal(b.GetCostBudget(), req.GetCostBudgetSpec()) {
			t.Errorf("made: %v", b)
		}
		at := w.now()
		month := dayOf(at).month()
		want := func(numbers ...int) {
			t.Helper()
			w.settled()
			var all []string
			for _, n := range numbers {
				all = append(all, fmt.Sprint(b.GetId(), " ", month, " ", n))
			}
			if got := w.passed(); !slices.Equal(got, all) {
				t.Errorf("passed %v, want %v", got, all)
			}
		}
		w.ingest(w.used("a", cloud, at, "49.999999999"))
		want()
		w.ingest(w.used("b", cloud, at, "0.000000001"))
		want(1)
		w.ingest(w.used("b", cloud, at, "0.000000001"), w.used("c", cloud, at, "1"))
		want(1)
		w.ingest(w.used("d", cloud, at, "-10")) // below it again, and above
		w.ingest(w.used("e", cloud, at, "10"))
		want(1)
		w.ingest(w.used("f", cloud, at, "1000"))
		want(0, 1, 2)
		w.eventually("mails", func() bool { return len(w.told()) == 3 })
		for i, start := range []string{ann.email, ann.email, bob.email} {
			if got := w.told()[i]; !strings.HasPrefix(got, start+" ") {
				t.Errorf("mail %d is %s", i, got)
			}
		}
	})
}

func TestUS3_WhatABudgetCounts(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		one := w.cloud(ann, "")
		two := w.cloud(ann, one.GetOrganizationId())
		w.link(ann, account, one.GetId())
		w.link(ann, account, two.GetId())
		budget := func(change func(*billingv1.CostBudgetSpec)) string {
			t.Helper()
			req := w.monthly(account, "10", ann)
			change(req.GetCostBudgetSpec())
			return w.budget(ann, req).GetId()
		}
		places := func(all ...*billingv1.CloudFoldersConsumptionFilter) func(*billingv1.CostBudgetSpec) {
			return func(s *billingv1.CostBudgetSpec) { s.Filter = &billingv1.ConsumptionFilter{CloudFoldersFilters: all} }
		}
		all := budget(func(*billingv1.CostBudgetSpec) {})
		ofOne := budget(places(&billingv1.CloudFoldersConsumptionFilter{CloudId: one.GetId()}))
		ofFolder := budget(places(
			&billingv1.CloudFoldersConsumptionFilter{CloudId: one.GetId(), FolderIds: []string{"a"}}, &billingv1.CloudFoldersConsumptionFilter{CloudId: two.GetId(), FolderIds: []string{"b"}},
		))
		ofService := budget(func(s *billingv1.CostBudgetSpec) {
			s.Filter = &billingv1.ConsumptionFilter{ServiceIds: []string{"storage"}}
		})
		year := w.now().Year()
		fixed := budget(func(s *billingv1.CostBudgetSpec) {
			s.StartType = &billingv1.CostBudgetSpec_StartDate{StartDate: fmt.Sprintf("%d-01-01", year)}
		})
		expense := w.monthly(account, "10", ann)
		x := new(billingv1.ExpenseBudgetSpec)
		raw := must(proto.Marshal(expense.GetCostBudgetSpec()))(t) // of the same fields
		must(0, proto.Unmarshal(raw, x))(t)
		expense.BudgetSpec = &billingv1.CreateBudgetRequest_ExpenseBudgetSpec{ExpenseBudgetSpec: x}
		paid := w.budget(ann, expense).GetId()
		w.settled()
		use := func(id, cloud, folder, service, cost, discount string) {
			r := w.used(id, cloud, w.now(), cost)
			r.FolderId, r.ServiceId, r.Discount = folder, service, discount
			w.ingest(r)
			w.settled()
		}
		want := func(what string, budgets ...string) {
			t.Helper()
			var got []string
			for _, line := range w.passed() {
				got = append(got, strings.Fields(line)[0])
			}
			slices.Sort(budgets)
			if !slices.Equal(got, budgets) {
				t.Errorf("%s: passed %v, want %v", what, got, budgets)
			}
		}
		use("a", one.GetId(), "x", "compute", "10", "1")
		want("in one cloud", all, ofOne, fixed)
		use("b", two.GetId(), "b", "compute", "10", "9.5")
		want("in a folder", all, ofOne, fixed, ofFolder)
		use("c", two.GetId(), "c", "storage", "10", "9.5")
		want("of a service", all, ofOne, fixed, ofFolder, ofService, paid)
		// One that is made when its limit is spent already says so, too.
		late := w.budget(ann, w.monthly(account, "29", ann)).GetId()
		w.settled()
		want("made late", all, ofOne, fixed, ofFolder, ofService, paid, late)
	})
}

// A budget that begins anew is told anew, a late record for its own month.
func TestUS3_PeriodsOfBudgets(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account, cloud := w.account(ann, partnerv1.BillingAccount_ACTIVE), w.cloud(ann, "").GetId()
		w.link(ann, account, cloud)
		b := w.budget(ann, w.monthly(account, "10", ann))
		first := w.now()
		w.ahead.Add(int64(time.Until(dayOf(first).monthEnd().after()) + 40*24*time.Hour))
		ann = w.again(ann)
		w.ingest(w.used("now", cloud, w.now(), "10"))
		w.settled()
		w.ingest(w.used("late", cloud, first, "10"))
		w.settled()
		want := []string{fmt.Sprint(b.GetId(), " ", dayOf(first).month(), " 0"), fmt.Sprint(b.GetId(), " ", dayOf(w.now()).month(), " 0")}
		if got := w.passed(); !slices.Equal(got, want) {
			t.Errorf("passed %v, want %v", got, want)
		}
		w.ahead.Add(int64(3 * 365 * 24 * time.Hour))
		ann = w.again(ann)
		if b := must(w.budgets().Get(w.as(ann), &billingv1.GetBudgetRequest{Id: b.GetId()}))(t); b.GetStatus() != billingv1.BudgetStatus_FINISHED {
			t.Errorf("at its end: %v", b)
		}
	})
}

// after is a moment after the day.
func (d Day) after() time.Time {
	y, m, n := d.date()
	return time.Date(y, m, n+1, 0, 0, 0, 0, usageZone)
}

func TestSpansOfBudgets(t *testing.T) {
	day := func(s string) Day { return must(parseDay("", s))(t) }
	made := time.Date(2026, 5, 20, 12, 0, 0, 0, time.UTC)
	spec := func(reset billingv1.ResetPeriodType, start, end string) Budget {
		s := &billingv1.CostBudgetSpec{Amount: "1", EndDate: end}
		if start == "" {
			s.StartType = &billingv1.CostBudgetSpec_ResetPeriod{ResetPeriod: reset}
		} else {
			s.StartType = &billingv1.CostBudgetSpec_StartDate{StartDate: start}
		}
		return Budget{CreatedAt: made, Spec: &billingv1.Budget{BudgetSpec: &billingv1.Budget_CostBudget{CostBudget: s}}}
	}
	for _, tt := range []struct {
		b        Budget
		from, to string
		want     string
	}{
		{spec(billingv1.ResetPeriodType_MONTHLY, "", "2026-12-31"), "2026-06-15", "2026-07-01", "[{2026-06-01 2026-06-30} {2026-07-01 2026-07-31}]"},
		{spec(billingv1.ResetPeriodType_MONTHLY, "", "2026-12-31"), "2025-01-01", "2026-05-21", "[{2026-05-01 2026-05-31}]"},
		{spec(billingv1.ResetPeriodType_MONTHLY, "", "2026-06-30"), "2026-06-15", "2026-09-01", "[{2026-06-01 2026-06-30}]"},
		{spec(billingv1.ResetPeriodType_QUARTER, "", "2026-12-31"), "2026-06-15", "2026-07-01", "[{2026-04-01 2026-06-30} {2026-07-01 2026-09-30}]"},
		{spec(billingv1.ResetPeriodType_QUARTER, "", "2026-08-31"), "2026-08-15", "2026-08-20", "[{2026-07-01 2026-08-31}]"},
		{spec(billingv1.ResetPeriodType_ANNUALLY, "", "2027-12-31"), "2026-12-30", "2027-01-01", "[{2026-01-01 2026-12-31} {2027-01-01 2027-12-31}]"},
		{spec(0, "2026-03-01", "2026-08-31"), "2026-05-01", "2026-05-02", "[{2026-03-01 2026-08-31}]"},
		{spec(0, "2026-03-01", "2026-08-31"), "2026-09-01", "2026-09-02", "[]"},
		{spec(0, "2026-03-01", "2026-08-31"), "2026-01-01", "2026-02-02", "[]"},
	} {
		var all []string
		for _, s := range tt.b.spans(day(tt.from), day(tt.to)) {
			all = append(all, fmt.Sprintf("{%v %v}", s.from, s.to))
		}
		if got := fmt.Sprint(all); got != tt.want {
			t.Errorf("from %s to %s: %s, want %s", tt.from, tt.to, got, tt.want)
		}
	}
}

func TestUS3_RefusedBudgets(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		ann := w.person("ann")
		account := w.account(ann, partnerv1.BillingAccount_ACTIVE)
		const spec = "cost_budget_spec."
		for _, tt := range []struct {
			field string
			spoil func(*billingv1.CostBudgetSpec)
		}{
			{spec + "amount", func(s *billingv1.CostBudgetSpec) { s.Amount = "0" }},
			{spec + "amount", func(s *billingv1.CostBudgetSpec) { s.Amount = "ten" }},
			{spec + "notification_user_account_ids[0]", func(s *billingv1.CostBudgetSpec) { s.NotificationUserAccountIds = []string{"usrx"} }},
			{spec + "notification_user_account_ids", func(s *billingv1.CostBudgetSpec) { s.NotificationUserAccountIds = nil }},
			{spec + "end_date", func(s *billingv1.CostBudgetSpec) { s.EndDate = "2030-12-30" }},
			{spec + "end_date", func(s *billingv1.CostBudgetSpec) { s.EndDate = "2020-12-31" }},
			{spec + "end_date", func(s *billingv1.CostBudgetSpec) { s.EndDate = "9999-12-31" }},
			{spec + "reset_period", func(s *billingv1.CostBudgetSpec) {
				s.StartType = &billingv1.CostBudgetSpec_ResetPeriod{}
			}},
			{spec + "start_date", func(s *billingv1.CostBudgetSpec) {
				s.StartType = &billingv1.CostBudgetSpec_StartDate{StartDate: "2026-01-02"}
			}},
			{spec + "threshold_rules[0].amount", func(s *billingv1.CostBudgetSpec) {
				s.ThresholdRules = []*billingv1.ThresholdRule{{Type: billingv1.ThresholdType_PERCENT, Amount: "101"}}
			}},
			{spec + "threshold_rules[0].amount", func(s *billingv1.CostBudgetSpec) {
				s.ThresholdRules = []*billingv1.ThresholdRule{{Type: billingv1.ThresholdType_AMOUNT, Amount: "10.1"}}
			}},
			{spec + "filter.cloud_folders_filters[0].cloud_id", func(s *billingv1.CostBudgetSpec) {
				s.Filter = &billingv1.ConsumptionFilter{CloudFoldersFilters: []*billingv1.CloudFoldersConsumptionFilter{{}}}
			}},
		} {
			req := w.monthly(account, "10", ann)
			tt.spoil(req.GetCostBudgetSpec())
			_, err := w.budgets().Create(w.as(ann), req)
			wantRefusal(t, fmt.Sprint(req), err, codes.InvalidArgument, tt.field)
		}
		_, err := w.budgets().Get(w.as(ann), &billingv1.GetBudgetRequest{Id: "bdgx"})
		wantRefusal(t, "no budget", err, codes.NotFound, ReasonBudgetNotFound)
		for range maxBudgets {
			w.budget(ann, w.monthly(account, "10", ann))
		}
		_, err = w.budgets().Create(w.as(ann), w.monthly(account, "10", ann))
		wantRefusal(t, "one more", err, codes.FailedPrecondition, ReasonTooManyBudgets)
		var n int
		for req := (&billingv1.ListBudgetsRequest{BillingAccountId: account, PageSize: 33}); ; {
			page := must(w.budgets().List(w.as(ann), req))(t)
			n += len(page.GetBudgets())
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if n != maxBudgets {
			t.Errorf("%d budgets are listed", n)
		}
	})
}
