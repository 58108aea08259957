package partner

import (
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	billingv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/v1"
)

// Limits of budgets. **ours**
const (
	maxBudgets      = 100 // of an account
	maxThresholds   = 20
	maxBudgetUsers  = 100 // in one list
	maxBudgetFilter = 100 // services, clouds, folders of a cloud
)

// Budget is a budget of an account.
type Budget struct {
	ID        string
	AccountID string
	CreatedAt time.Time
	Spec      *billingv1.Budget // its name and what it is of
}

func (b Budget) position() page.Position {
	return page.Position{Time: sqldb.Micros(b.CreatedAt), ID: b.ID}
}

// terms are what budgets have in common.
type terms interface {
	GetAmount() string
	GetNotificationUserAccountIds() []string
	GetThresholdRules() []*billingv1.ThresholdRule
	GetFilter() *billingv1.ConsumptionFilter
	GetResetPeriod() billingv1.ResetPeriodType
	GetStartDate() string
	ProtoReflect() protoreflect.Message
	GetEndDate() string
}

// terms are those of the budget.
func (b Budget) terms() terms {
	if e := b.Spec.GetExpenseBudget(); e != nil {
		return e
	}
	if e := b.Spec.GetBalanceBudget(); e != nil {
		return balanceTerms{e}
	}
	return b.Spec.GetCostBudget()
}

// spent is what the budget counts of some usage (US-3).
func (b Budget) spent(a Amounts) decimal.Decimal {
	if b.Spec.GetExpenseBudget() != nil {
		return a.client()
	}
	return a.Cost
}

// last is the last day of the budget, which was read before.
func (b Budget) last() Day {
	day, _ := parseDay("", b.terms().GetEndDate())
	return day
}

// proto is the message of the platform.
func (b Budget) proto(now time.Time) *billingv1.Budget {
	p, _ := proto.Clone(b.Spec).(*billingv1.Budget) // what it was cloned from
	p.Id, p.BillingAccountId, p.CreatedAt, p.Status = b.ID, b.AccountID, timestamppb.New(b.CreatedAt), billingv1.BudgetStatus_ACTIVE
	if dayOf(now) > b.last() {
		p.Status = billingv1.BudgetStatus_FINISHED
	}
	return p
}

// span is days of a budget, the last one included.
type span struct{ from, to Day }

// spans are the periods of the budget that have days from one until another, oldest first.
func (b Budget) spans(from, to Day) []span {
	last := b.last()
	if start := b.terms().GetStartDate(); start != "" {
		first, _ := parseDay("", start)
		if to < first || from > last {
			return nil
		}
		return []span{{first, last}}
	}
	months := map[billingv1.ResetPeriodType]int{
		billingv1.ResetPeriodType_MONTHLY: 1, billingv1.ResetPeriodType_QUARTER: 3, billingv1.ResetPeriodType_ANNUALLY: 12,
	}[b.terms().GetResetPeriod()]
	var all []span
	y, m, _ := max(from, dayOf(b.CreatedAt)).date()
	for m = (m-1)/time.Month(months)*time.Month(months) + 1; ; m += time.Month(months) {
		s := span{date(y, m, 1), min(date(y, m+time.Month(months), 1)-1, last)}
		if s.from > min(to, last) {
			return all
		}
		all = append(all, s)
	}
}

// limit is an amount of the budget, and who is told when it is spent (US-3).
type limit struct {
	number int // of the rule, from 1 on; 0 is the budget itself
	amount decimal.Decimal
	text   string
	users  []string
}

// limits are the rules of the budget in their order, and the budget itself.
func (b Budget) limits() []limit {
	t := b.terms()
	whole, _ := decimal.Parse(t.GetAmount())
	all := []limit{{amount: whole, text: "the whole budget", users: t.GetNotificationUserAccountIds()}}
	for i, r := range t.GetThresholdRules() {
		l := limit{number: i + 1, users: r.GetNotificationUserAccountIds()}
		l.amount, _ = decimal.Parse(r.GetAmount())
		l.text = l.amount.String()
		if r.GetType() == billingv1.ThresholdType_PERCENT {
			l.text = l.amount.String() + " percent of it"
			l.amount = whole.Percent(l.amount)
		}
		if len(l.users) == 0 {
			l.users = t.GetNotificationUserAccountIds()
		}
		all = append(all, l)
	}
	return all
}

// checkBudget collects what is wrong with a budget. field is where its terms stand.
func checkBudget(b Budget, field string, today Day) error {
	c := &budgetCheck{field: field, today: today}
	t := b.terms()
	if n := utf8.RuneCountInString(b.Spec.GetName()); n > maxName {
		c.bad = append(c.bad, apierr.Field{Name: "name", Message: fmt.Sprintf("must have at most %d characters", maxName)})
	}
	whole, err := decimal.Parse(t.GetAmount())
	if err != nil || whole.Sign() <= 0 {
		c.refuse(".amount", "%v, and more than zero", decimal.ErrForm)
	}
	c.users(".notification_user_account_ids", t.GetNotificationUserAccountIds())
	if len(t.GetThresholdRules()) > maxThresholds {
		c.refuse(".threshold_rules", "must be at most %d", maxThresholds)
	} else {
		for i, r := range t.GetThresholdRules() {
			c.threshold(fmt.Sprintf(".threshold_rules[%d]", i), r, whole)
		}
	}
	c.filter(t.GetFilter())
	c.dates(t)
	if len(c.bad) > 0 {
		return apierr.Invalid(c.bad[:min(len(c.bad), maxViolations)]...)
	}
	return nil
}

// budgetCheck is what is found wrong.
type budgetCheck struct {
	field string
	today Day
	bad   []apierr.Field
}

func (c *budgetCheck) refuse(name, format string, args ...any) {
	c.bad = append(c.bad, apierr.Field{Name: c.field + name, Message: fmt.Sprintf(format, args...)})
}

func (c *budgetCheck) users(name string, ids []string) {
	if len(ids) > maxBudgetUsers {
		c.refuse(name, "must be at most %d", maxBudgetUsers)
	}
	for i, id := range ids {
		if n := utf8.RuneCountInString(id); n < 1 || n > maxUsageID {
			c.refuse(fmt.Sprintf("%s[%d]", name, i), "must have 1 to %d characters", maxUsageID)
		}
	}
}

func (c *budgetCheck) threshold(name string, r *billingv1.ThresholdRule, whole decimal.Decimal) {
	most := whole
	switch r.GetType() {
	case billingv1.ThresholdType_PERCENT:
		most = decimal.Decimal{Units: 100}
	case billingv1.ThresholdType_AMOUNT:
	case billingv1.ThresholdType_THRESHOLD_TYPE_UNSPECIFIED:
		c.refuse(name+".type", "is required")
	default:
		c.refuse(name+".type", "must be PERCENT or AMOUNT")
	}
	if d, err := decimal.Parse(r.GetAmount()); err != nil || d.Sign() <= 0 || d.Cmp(most) > 0 {
		c.refuse(name+".amount", "%v, more than zero and at most %s", decimal.ErrForm, most)
	}
	c.users(name+".notification_user_account_ids", r.GetNotificationUserAccountIds())
}

func (c *budgetCheck) filter(f *billingv1.ConsumptionFilter) {
	ids := func(name string, ids []string) {
		if len(ids) > maxBudgetFilter {
			c.refuse(name, "must be at most %d", maxBudgetFilter)
		}
		for i, id := range ids {
			if n := utf8.RuneCountInString(id); n < 1 || n > maxUsageID {
				c.refuse(fmt.Sprintf("%s[%d]", name, i), "must have 1 to %d characters", maxUsageID)
			}
		}
	}
	ids(".filter.service_ids", f.GetServiceIds())
	if len(f.GetCloudFoldersFilters()) > maxBudgetFilter {
		c.refuse(".filter.cloud_folders_filters", "must be at most %d", maxBudgetFilter)
	}
	for i, place := range f.GetCloudFoldersFilters() {
		name := fmt.Sprintf(".filter.cloud_folders_filters[%d]", i)
		if n := utf8.RuneCountInString(place.GetCloudId()); n < 1 || n > maxUsageID {
			c.refuse(name+".cloud_id", "must have 1 to %d characters", maxUsageID)
		}
		ids(name+".folder_ids", place.GetFolderIds())
	}
}

// maxBudgetYears is how far ahead a budget ends at most. **ours**
const maxBudgetYears = 10

func (c *budgetCheck) dates(t terms) {
	end, err := parseDay("", t.GetEndDate())
	switch {
	case err != nil || end != end.monthEnd():
		c.refuse(".end_date", "must be the last day of a month, as YYYY-MM-DD")
	case end < c.today:
		c.refuse(".end_date", "must not be over: today is %s", c.today)
	case end > c.today+maxBudgetYears*maxReportDays:
		c.refuse(".end_date", "must be within %d years", maxBudgetYears)
	}
	if balance, ok := t.(balanceTerms); ok && balance.GetStartDate() == "" {
		return
	}
	m := t.ProtoReflect()
	if m.Descriptor().Oneofs().ByName("start_type") == nil {
		c.startDate(t, end, err == nil)
		return
	}
	if start := m.WhichOneof(m.Descriptor().Oneofs().ByName("start_type")); start == nil || start.Name() != "start_date" {
		switch t.GetResetPeriod() {
		case billingv1.ResetPeriodType_MONTHLY, billingv1.ResetPeriodType_QUARTER, billingv1.ResetPeriodType_ANNUALLY:
		case billingv1.ResetPeriodType_RESET_PERIOD_TYPE_UNSPECIFIED:
			c.refuse(".reset_period", "is required, or a start_date")
		default:
			c.refuse(".reset_period", "must be MONTHLY, QUARTER or ANNUALLY")
		}
		return
	}
	c.startDate(t, end, err == nil)
}

// startDate looks at the first day; ends says whether there is a last one to compare it with.
func (c *budgetCheck) startDate(t terms, end Day, ends bool) {
	switch start, err := parseDay("", t.GetStartDate()); {
	case err != nil || start != start.month():
		c.refuse(".start_date", "must be the first day of a month, as YYYY-MM-DD")
	case ends && start > end:
		c.refuse(".start_date", "must not be after the last day, %s", end)
	case start < c.today-maxBudgetYears*maxReportDays:
		c.refuse(".start_date", "must be within %d years", maxBudgetYears)
	}
}

func encodeBudget(b *billingv1.Budget) ([]byte, error) { return protojson.Marshal(b) }

func decodeBudget(text string) (*billingv1.Budget, error) {
	b := new(billingv1.Budget)
	if err := protojson.Unmarshal([]byte(text), b); err != nil {
		return nil, fmt.Errorf("read budget: %w", err)
	}
	return b, nil
}
