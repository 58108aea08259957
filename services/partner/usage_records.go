package partner

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	recordsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/billing/usage_records/v1"
)

// PT-44: the platform's report of usage. Its days are those of UTC, its discounts are
// negative and called credit, and an expense is a cost with its credit.

// maxPeriods bounds an answer, which is not paged: that many are some 2 MB.
const maxPeriods = 20_000

// consumption is the platform's ConsumptionCoreService.
type consumption struct {
	recordsv1.UnsafeConsumptionCoreServiceServer // a missing method does not compile
	*Service
}

// consumed is a report: all of it, and by what used it.
type consumed struct {
	Report
	total Amounts
	by    []consumer
	info  map[string]consumerInfo
}

// consumer is one value of the axis of a report.
type consumer struct {
	key, id string // key of a label
	Amounts
	periods []consumedIn
}

// consumedIn is what was used in the period of a report that begins with a day.
type consumedIn struct {
	day     Day
	records int64
	Amounts
}

// maxChoices bounds each filter of a report: the contract has no limits.
const maxChoices = 1000

// choices refuses filters of too many values.
func choices(req *recordsv1.UsageReportRequest) error {
	labels := len(req.GetLabels())
	for _, l := range req.GetLabels() {
		labels += len(l.GetValues())
	}
	for _, f := range []struct {
		field string
		n     int
	}{
		{"cloud_ids", len(req.GetCloudIds())}, {"folder_ids", len(req.GetFolderIds())}, {"service_ids", len(req.GetServiceIds())},
		{"sku_ids", len(req.GetSkuIds())}, {"labels", labels}, {"resource_ids", len(req.GetResourceIds())},
		{"service_instance_ids", len(req.GetServiceInstanceIds())},
	} {
		if f.n > maxChoices {
			return apierr.InvalidField(f.field, "has %d values, at most %d are allowed", f.n, maxChoices)
		}
	}
	return nil
}

// report reads what is asked for. Fails: BILLING_ACCOUNT_NOT_FOUND, for filters of too
// many values, and for a wrong range of days or one of more than maxPeriods periods.
func (s *consumption) report(ctx context.Context, axis partnerv1.UsageReport_Axis, req *recordsv1.UsageReportRequest) (*consumed, error) {
	if err := choices(req); err != nil {
		return nil, err
	}
	a, err := s.store.Account(ctx, s.store.db, req.GetBillingAccountId())
	if err != nil {
		return nil, err
	}
	c := &consumed{Report: Report{
		Account: a, Axis: axis, Clouds: req.GetCloudIds(), Folders: req.GetFolderIds(), Services: req.GetServiceIds(), SKUs: req.GetSkuIds(),
		AnyLabel: req.GetLabelsOrFilterLogic(),
	}}
	keys := slices.Sorted(maps.Keys(req.GetLabels()))
	for _, key := range keys {
		c.Labels = append(c.Labels, labelFilter{key: key, values: req.GetLabels()[key].GetValues()})
	}
	if c.From, c.To, err = utcDays(req.GetStartDate(), req.GetEndDate()); err != nil {
		return nil, err
	}
	may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permDiscounts, []authz.Resource{a.resource()})
	if err != nil {
		return nil, err
	}
	c.discounts = may[0]
	if len(req.GetResourceIds()) > 0 || len(req.GetServiceInstanceIds()) > 0 {
		return c, nil // no record names any
	}
	if err := c.read(ctx, s.store, keys, req.GetAggregationPeriod()); err != nil {
		return nil, err
	}
	c.info, err = s.store.consumerInfo(ctx, s.store.db, axis, a)
	return c, err
}

// wrongDays refuses a range of days: either end may be the wrong one.
func wrongDays(message string) error {
	return apierr.Invalid(apierr.Field{Name: "end_date", Message: message}, apierr.Field{Name: "start_date", Message: message})
}

// utcDays are the days of a report, the last one included.
func utcDays(start, end *timestamppb.Timestamp) (from, to Day, err error) {
	for _, f := range []struct {
		name string
		at   *timestamppb.Timestamp
		into *Day
	}{{"start_date", start, &from}, {"end_date", end, &to}} {
		if !f.at.IsValid() {
			return 0, 0, apierr.InvalidField(f.name, "must be a time")
		}
		*f.into = utcDayOf(f.at.AsTime())
	}
	switch n := to - from + 1; {
	case n < 1:
		return 0, 0, wrongDays(fmt.Sprintf("the last day must not be before the first one, %s", from))
	case n > maxReportDays:
		return 0, 0, wrongDays(fmt.Sprintf("a report is of at most %d days, and this one of %d: ask for a year at a time", maxReportDays, n))
	}
	return from, to, nil
}

// read sums up, by periods.
func (c *consumed) read(ctx context.Context, store *Store, keys []string, grouping recordsv1.TimeGrouping) error {
	periods := 0
	err := store.EachUTCLine(ctx, store.db, c.Report, keys, func(l UTCLine) error {
		if l.Total {
			c.total = c.total.add(l.Amounts)
			return nil
		}
		if last := len(c.by) - 1; last < 0 || c.by[last].key != l.Key || c.by[last].id != l.ID {
			c.by = append(c.by, consumer{key: l.Key, id: l.ID})
		}
		by := &c.by[len(c.by)-1]
		begin := max(periodOf(l.Day, grouping), c.From)
		if last := len(by.periods) - 1; last < 0 || by.periods[last].day != begin {
			by.periods = append(by.periods, consumedIn{day: begin})
			if periods++; periods > maxPeriods {
				return apierr.InvalidField("aggregation_period", "the report has more than %d periods of all that it sums up by: ask for longer ones, or fewer days", maxPeriods)
			}
		}
		in := &by.periods[len(by.periods)-1]
		in.records, in.Amounts = in.records+l.Records, in.add(l.Amounts)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range c.by {
		by := &c.by[i]
		// What another day took away leaves nothing of a day that had only that.
		by.periods = slices.DeleteFunc(by.periods, func(p consumedIn) bool { return p.records == 0 })
		for _, p := range by.periods {
			by.Amounts = by.add(p.Amounts)
		}
		if c.Axis != partnerv1.UsageReport_LABEL {
			c.total = c.total.add(by.Amounts)
		}
	}
	c.by = slices.DeleteFunc(c.by, func(by consumer) bool { return len(by.periods) == 0 })
	return nil
}

// periodOf is the first day of the period that a day is in.
func periodOf(d Day, grouping recordsv1.TimeGrouping) Day {
	y, m, _ := d.date()
	switch grouping {
	case recordsv1.TimeGrouping_WEEK:
		return d - (d+3)%7 // day 4 was a Monday
	case recordsv1.TimeGrouping_MONTH:
		return date(y, m, 1)
	case recordsv1.TimeGrouping_QUARTER:
		return date(y, m-(m-1)%3, 1)
	case recordsv1.TimeGrouping_YEAR:
		return date(y, time.January, 1)
	case recordsv1.TimeGrouping_TIME_GROUPING_UNSPECIFIED, recordsv1.TimeGrouping_DAY:
	}
	return d
}

// number is a decimal as the platform writes it.
func number(d decimal.Decimal) *recordsv1.StringDecimal {
	return &recordsv1.StringDecimal{Value: d.String()}
}

// credit is what is taken off, and what remains; nothing where discounts are not shown.
func (c *consumed) credit(a Amounts) (*recordsv1.CreditDetails, *recordsv1.StringDecimal) {
	if !c.discounts {
		return nil, nil
	}
	var none decimal.Decimal
	off := none.Sub(a.Discount)
	return &recordsv1.CreditDetails{
		Credit: number(off), MonetaryGrantCredit: number(none), VolumeIncentiveCredit: number(off), CudCredit: number(none), FreeCredit: number(none),
	}, number(a.Cost.Add(off))
}

// currency of the account.
func (c *consumed) currency() recordsv1.Currency {
	return recordsv1.Currency(recordsv1.Currency_value[c.Account.Currency])
}

// periodic are the messages of the periods.
func (c *consumed) periodic(by consumer) (all []*recordsv1.UsageReportPeriodicData) {
	for _, p := range by.periods {
		credit, expense := c.credit(p.Amounts)
		all = append(all, &recordsv1.UsageReportPeriodicData{
			Cost: number(p.Cost), CreditDetails: credit, Expense: expense,
			Timestamp: timestamppb.New(time.Unix(int64(p.day)*secondsPerDay, 0)),
		})
	}
	return all
}

// consumerInfo is what is shown of a value of an axis beside its id.
type consumerInfo struct{ name, description, unit, service string }

// consumerInfo reads it for all values there can be.
func (s *Store) consumerInfo(ctx context.Context, q sqldb.Querier, axis partnerv1.UsageReport_Axis, of Account) (map[string]consumerInfo, error) {
	text, args := "", []any(nil)
	switch axis {
	case partnerv1.UsageReport_SUBACCOUNT:
		text, args = `SELECT id, name, '', '', '' FROM partner_accounts WHERE id = $1 OR partner_id = $1`, []any{of.ID}
	case partnerv1.UsageReport_SERVICE:
		text = `SELECT id, name, description, '', '' FROM partner_services`
	case partnerv1.UsageReport_SKU:
		text = `SELECT id, name, description, pricing_unit, service_id FROM partner_skus`
	default:
		return nil, nil
	}
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("read names of usage: %w", err)
	}
	defer rows.Close() //nolint:errcheck // Err tells what matters
	all := make(map[string]consumerInfo)
	for rows.Next() {
		var id string
		var i consumerInfo
		if err := rows.Scan(&id, &i.name, &i.description, &i.unit, &i.service); err != nil {
			return nil, fmt.Errorf("read names of usage: %w", err)
		}
		all[id] = i
	}
	return all, rows.Err()
}
