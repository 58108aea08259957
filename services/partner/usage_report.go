package partner

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/page"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// Permissions on usage.
const (
	permUsage     = "billing.partnerUsage.get"
	permDiscounts = "billing.partnerDiscounts.get"
)

// usage is our UsageService.
type usage struct {
	partnerv1.UnsafeUsageServiceServer // a missing method does not compile
	*Service
}

// maxReportDays is how many days a report is of at most.
const maxReportDays = 366

// Report is what a report is about.
type Report struct {
	Account   Account
	From, To  Day // the last one included
	Axis      partnerv1.UsageReport_Axis
	LabelKey  string
	Period    partnerv1.UsageReport_Period
	Accounts  []string
	Clouds    []string
	Folders   []string
	Services  []string
	SKUs      []string
	Labels    []labelFilter
	AnyLabel  bool // one of Labels is enough
	Places    []place
	discounts bool // whether they are shown
}

// labelFilter lets pass what has one of some values of a label; without values, what has it.
type labelFilter struct {
	key    string
	values []string
}

// place lets pass what is of a cloud, or of some of its folders.
type place struct {
	cloud   string
	folders []string
}

// Line is one row of a report.
type Line struct {
	ID, Name, ExternalID string
	From                 Day
	Records              int64
	Amounts
}

// report reads what a caller asks for (PT-42).
func (s *Service) report(ctx context.Context, accountID string, f *partnerv1.UsageFilter) (Report, error) {
	a, err := s.store.Account(ctx, s.store.db, accountID)
	if err != nil {
		return Report{}, err
	}
	r := Report{
		Account: a, Axis: f.GetAxis(), LabelKey: f.GetLabelKey(), Period: f.GetPeriod(),
		Accounts: f.GetSubaccountIds(), Clouds: f.GetCloudIds(), Folders: f.GetFolderIds(), Services: f.GetServiceIds(), SKUs: f.GetSkuIds(),
		Labels: labelFilters(f.GetLabels()),
	}
	if isLabel := r.Axis == partnerv1.UsageReport_LABEL; isLabel != (r.LabelKey != "") {
		return r, apierr.InvalidField("filter.label_key", "is required with the axis LABEL, and only there")
	}
	if r.From, r.To, err = s.days("filter.", f.GetFromDate(), f.GetToDate()); err != nil {
		return r, err
	}
	may, err := s.decider.AuthorizeEach(ctx, authn.FromContext(ctx), permDiscounts, []authz.Resource{a.resource()})
	if err != nil {
		return r, err
	}
	r.discounts = may[0]
	return r, nil
}

// days reads the days of a report: those that are asked for, or the month of today (PT-42).
// within is what the names of the fields begin with.
func (s *Service) days(within, from, to string) (first, last Day, err error) {
	switch {
	case from == "" && to == "":
		today := dayOf(s.now())
		return today.month(), today.monthEnd(), nil
	case from == "" || to == "":
		return 0, 0, apierr.InvalidField(within+map[bool]string{true: "from_date", false: "to_date"}[from == ""],
			"is required where the other end of the report is given")
	}
	if first, err = parseDay(within+"from_date", from); err != nil {
		return 0, 0, err
	}
	if last, err = parseDay(within+"to_date", to); err != nil {
		return 0, 0, err
	}
	switch n := last - first + 1; {
	case n < 1:
		return 0, 0, apierr.InvalidField(within+"to_date", "must not be before the first day, %s", from)
	case n > maxReportDays:
		return 0, 0, apierr.InvalidField(within+"to_date", "a report is of at most %d days, and this one of %d: ask for a year at a time", maxReportDays, n)
	}
	return first, last, nil
}

// labelFilters joins the values of each label.
func labelFilters(texts []string) []labelFilter {
	var all []labelFilter
	at := make(map[string]int)
	for _, text := range texts {
		key, value, _ := strings.Cut(text, "=")
		i, known := at[key]
		if !known {
			i, at[key] = len(all), len(all)
			all = append(all, labelFilter{key: key})
		}
		all[i].values = append(all[i].values, value)
	}
	return all
}

// GetUsageReport sums up what was used (PT-42, PT-43). Fails: BILLING_ACCOUNT_NOT_FOUND.
func (s *usage) GetUsageReport(ctx context.Context, req *partnerv1.GetUsageReportRequest) (*partnerv1.GetUsageReportResponse, error) {
	r, err := s.report(ctx, req.GetBillingAccountId(), req.GetFilter())
	if err != nil {
		return nil, err
	}
	asked, err := proto.MarshalOptions{Deterministic: true}.Marshal(req.GetFilter())
	if err != nil {
		return nil, err
	}
	scope := []string{"usage report", r.Account.ID, string(asked), r.From.String()} // the month of today is another one tomorrow
	tokens := s.pages.Long()
	after, err := tokens.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	lines, err := s.store.Lines(ctx, s.store.db, r, after, size+1)
	if err != nil {
		return nil, err
	}
	resp := &partnerv1.GetUsageReportResponse{
		Currency: r.Account.Currency, FromDate: r.From.String(), ToDate: r.To.String(), DiscountsHidden: !r.discounts,
	}
	for _, l := range lines[:min(len(lines), size)] {
		resp.Rows = append(resp.Rows, l.proto(r))
	}
	fit := page.Fit(len(resp.GetRows()), func(i int) int { return proto.Size(resp.GetRows()[i]) })
	if fit < len(lines) {
		resp.Rows = resp.GetRows()[:fit]
		resp.NextPageToken, err = tokens.Seal(lines[fit-1].position(), scope...)
	}
	return resp, err
}

// position is where the line stands in its report. The beginning of a list is the zero
// Position, which the first line of a report without an axis must not have.
func (l Line) position() page.Position {
	return page.Position{Time: int64(l.From) + 1, ID: l.ID}
}

// proto is the message, without discounts and all that tells them unless the report shows
// them.
func (l Line) proto(r Report) *partnerv1.UsageRow {
	row := &partnerv1.UsageRow{
		Id: l.ID, Name: l.Name, ExternalId: l.ExternalID, FromDate: max(l.From, r.From).String(),
		Amounts: &partnerv1.UsageAmounts{Cost: l.Cost.String(), Records: l.Records},
	}
	if r.Axis == partnerv1.UsageReport_SKU {
		row.Amounts.Quantity = l.Quantity.String()
	}
	if r.discounts {
		a := row.GetAmounts()
		a.Discount, a.ClientPayable, a.Reward = l.Discount.String(), l.client().String(), l.Reward.String()
		a.Adjustment, a.PartnerPayable = l.Adjustment.String(), l.partner().String()
	}
	return row
}
