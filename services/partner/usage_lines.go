package partner

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// Lines reads at most limit lines of a report that follow after.
func (s *Store) Lines(ctx context.Context, q sqldb.Querier, r Report, after page.Position, limit int) (all []Line, err error) {
	err = s.EachLine(ctx, q, r, after, limit, func(l Line) error {
		all = append(all, l)
		return nil
	})
	return all, err
}

// EachLine calls each with the lines of a report that follow after, in their order; at
// most limit, or with 0 all of them.
func (s *Store) EachLine(ctx context.Context, q sqldb.Querier, r Report, after page.Position, limit int, each func(Line) error) (err error) {
	text, args := r.query(after, limit)
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return fmt.Errorf("sum usage up: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		l, err := scanLine(rows)
		if err != nil {
			return fmt.Errorf("sum usage up: %w", err)
		}
		if err := each(l); err != nil {
			return err
		}
	}
	return rows.Err()
}

func scanLine(rows *sql.Rows) (l Line, err error) {
	var from int64
	into := []any{&l.ID, &from, &l.Name, &l.ExternalID, &l.Records}
	for _, d := range []*decimal.Decimal{&l.Quantity, &l.Cost, &l.Discount, &l.Reward, &l.Adjustment} {
		into = append(into, &d.Units, &d.Nanos)
	}
	err = rows.Scan(into...)
	l.From = Day(from)
	return l, err
}

// axes are the columns of the axes, and where the names of their values are found.
var axes = map[partnerv1.UsageReport_Axis]struct{ column, name, external, join string }{
	partnerv1.UsageReport_AXIS_UNSPECIFIED: {`CAST('' AS TEXT)`, `''`, `''`, ``},
	partnerv1.UsageReport_SUBACCOUNT: {
		`k.account_id`, `COALESCE(a.name, '')`, `COALESCE(c.external_id, '')`,
		`LEFT JOIN partner_accounts a ON a.id = r.id LEFT JOIN partner_customers c ON c.account_id = r.id`,
	},
	partnerv1.UsageReport_CLOUD:   {`k.cloud_id`, `''`, `''`, ``},
	partnerv1.UsageReport_FOLDER:  {`k.folder_id`, `''`, `''`, ``},
	partnerv1.UsageReport_SERVICE: {`k.service_id`, `COALESCE(n.name, '')`, `''`, `LEFT JOIN partner_services n ON n.id = r.id`},
	partnerv1.UsageReport_SKU:     {`k.sku_id`, `COALESCE(n.name, '')`, `''`, `LEFT JOIN partner_skus n ON n.id = r.id`},
	partnerv1.UsageReport_LABEL:   {`COALESCE(l.value, '')`, `''`, `''`, ``},
}

// query is the statement that sums a report up: of the sums by month where its days are
// whole months, which are thirty times fewer, else of those by day.
func (r Report) query(after page.Position, limit int) (string, []any) {
	args := new(arguments)
	arg := args.add
	axis := axes[r.Axis]
	from := `partner_usage_keys k JOIN ` + r.table() + ` u ON u.key = k.key`
	if r.Axis == partnerv1.UsageReport_LABEL {
		from += ` LEFT JOIN partner_usage_labels l ON l.labels_id = k.labels_id AND l.name = ` + arg(r.LabelKey)
	}
	where := r.where(arg)
	if after != (page.Position{}) {
		where = append(where, `(`+axis.column+`, `+r.period()+`) > (`+arg(after.ID)+`, `+arg(after.Time-1)+`)`)
	}
	var sums, names []string
	for _, c := range sumColumns {
		sums = append(sums, `CAST(SUM(u.`+c+`) AS BIGINT) AS `+c)
		names = append(names, `r.`+c)
	}
	inner := `SELECT ` + axis.column + ` AS id, ` + r.period() + ` AS day, ` + strings.Join(sums, ", ") +
		` FROM ` + from + ` WHERE ` + strings.Join(where, " AND ") + ` GROUP BY 1, 2 ORDER BY 1, 2`
	if limit > 0 {
		inner += ` LIMIT ` + arg(limit)
	}
	return `SELECT r.id, r.day, ` + axis.name + `, ` + axis.external + `, ` + strings.Join(names, ", ") +
		` FROM (` + inner + `) r ` + axis.join + ` ORDER BY r.id, r.day`, *args
}

// arguments are those of a statement.
type arguments []any

// add adds one, and returns the mark that stands for it.
func (a *arguments) add(value any) string {
	*a = append(*a, value)
	return "$" + strconv.Itoa(len(*a))
}

// table is where the sums are.
func (r Report) table() string {
	whole := r.From == r.From.month() && r.To == r.To.monthEnd()
	if whole && (r.Period == partnerv1.UsageReport_PERIOD_UNSPECIFIED || r.Period == partnerv1.UsageReport_MONTH) {
		return "partner_usage_months"
	}
	return "partner_usage_days"
}

// period is the first day of the period of a sum, and of the report where it has one: 0.
func (r Report) period() string {
	switch r.Period {
	case partnerv1.UsageReport_DAY:
		return `u.day`
	case partnerv1.UsageReport_WEEK:
		return `(u.day - (u.day + 3) % 7)` // day 4 was a Monday
	case partnerv1.UsageReport_MONTH:
		return `u.month`
	case partnerv1.UsageReport_PERIOD_UNSPECIFIED:
	}
	return `CAST(0 AS BIGINT)`
}

// where are the conditions of the sums.
func (r Report) where(arg func(any) string) []string {
	all := r.which(arg)
	if r.table() == "partner_usage_months" {
		return append(all, `u.month BETWEEN `+arg(int64(r.From))+` AND `+arg(int64(r.To)))
	}
	return append(all, `u.day BETWEEN `+arg(int64(r.From))+` AND `+arg(int64(r.To)))
}

// which are the conditions of what is summed up, whenever it was used.
func (r Report) which(arg func(any) string) []string {
	var all []string
	if r.Account.PartnerID == "" {
		all = append(all, `k.root_id = `+arg(r.Account.ID))
	} else {
		all = append(all, `k.root_id = `+arg(r.Account.PartnerID), `k.account_id = `+arg(r.Account.ID))
	}
	for _, f := range []struct {
		column string
		values []string
	}{{"k.account_id", r.Accounts}, {"k.cloud_id", r.Clouds}, {"k.folder_id", r.Folders}, {"k.service_id", r.Services}, {"k.sku_id", r.SKUs}} {
		if len(f.values) > 0 {
			all = append(all, in(arg, f.column, f.values))
		}
	}
	var places []string
	for _, p := range r.Places {
		one := `k.cloud_id = ` + arg(p.cloud)
		if len(p.folders) > 0 {
			one += ` AND ` + in(arg, "k.folder_id", p.folders)
		}
		places = append(places, one)
	}
	if len(places) > 0 {
		all = append(all, `(`+strings.Join(places, " OR ")+`)`)
	}
	var labels []string
	for _, l := range r.Labels {
		one := `EXISTS (SELECT 1 FROM partner_usage_labels f WHERE f.labels_id = k.labels_id AND f.name = ` + arg(l.key)
		if len(l.values) > 0 {
			one += ` AND ` + in(arg, "f.value", l.values)
		}
		labels = append(labels, one+`)`)
	}
	if r.AnyLabel && len(labels) > 0 {
		labels = []string{`(` + strings.Join(labels, " OR ") + `)`}
	}
	return append(all, labels...)
}

// in is the condition that a column has one of some values.
func in(arg func(any) string, column string, values []string) string {
	marks := make([]string, len(values))
	for i, v := range values {
		marks[i] = arg(v)
	}
	return column + ` IN (` + strings.Join(marks, ", ") + `)`
}
