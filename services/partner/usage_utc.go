package partner

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
)

// UTCLine is what was used in one day of UTC by one value of the axis of a report; Total
// lines are of all that the report is about, whatever labels it has.
type UTCLine struct {
	Total   bool
	Key     string // of the label, in a report by labels
	ID      string
	Day     Day
	Records int64
	Amounts
}

// utcSources are the sums that make up the days of UTC: those of days at UTC+3, less what
// they have of the day before, with what the next ones have of them (PT-44).
var utcSources = []struct{ table, sign, day string }{
	{"partner_usage_days", "", "u.day"}, {"partner_usage_nights", "-", "u.day"}, {"partner_usage_nights", "", "(u.day - 1)"},
}

// EachUTCLine calls each with the lines of a report, ordered by key, id and day, those of
// the total first; a day has up to three lines, that add up. One statement reads them, so
// that they are of one moment.
func (s *Store) EachUTCLine(ctx context.Context, q sqldb.Querier, r Report, keys []string, each func(UTCLine) error) (err error) {
	text, args := r.utcQuery(keys)
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return fmt.Errorf("sum usage up: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var l UTCLine
		var kind, day int64
		into := []any{&kind, &l.Key, &l.ID, &day, &l.Records}
		for _, d := range []*decimal.Decimal{&l.Quantity, &l.Cost, &l.Discount, &l.Reward, &l.Adjustment} {
			into = append(into, &d.Units, &d.Nanos)
		}
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("sum usage up: %w", err)
		}
		l.Total, l.Day = kind == 0, Day(day)
		if err := each(l); err != nil {
			return err
		}
	}
	return rows.Err()
}

// utcQuery is the statement of EachUTCLine.
func (r Report) utcQuery(keys []string) (string, []any) {
	args := new(arguments)
	parts := r.utcParts(args, "1", keys)
	if r.Axis == partnerv1.UsageReport_LABEL {
		total := r
		total.Axis = partnerv1.UsageReport_AXIS_UNSPECIFIED
		parts = append(parts, total.utcParts(args, "0", nil)...)
	}
	return strings.Join(parts, " UNION ALL ") + ` ORDER BY 1, 2, 3, 4`, *args
}

func (r Report) utcParts(args *arguments, kind string, keys []string) (parts []string) {
	key, id, join := `CAST('' AS TEXT)`, axes[r.Axis].column, ``
	if r.Axis == partnerv1.UsageReport_LABEL {
		key, id, join = `l.name`, `l.value`, ` JOIN partner_usage_labels l ON l.labels_id = k.labels_id`
	}
	for _, source := range utcSources {
		var sums []string
		for _, c := range sumColumns {
			sums = append(sums, `CAST(`+source.sign+`SUM(u.`+c+`) AS BIGINT)`)
		}
		where := append(r.which(args.add), source.day+` BETWEEN `+args.add(int64(r.From))+` AND `+args.add(int64(r.To)))
		if len(keys) > 0 && r.Axis == partnerv1.UsageReport_LABEL {
			where = append(where, in(args.add, "l.name", keys))
		}
		parts = append(parts, `SELECT `+kind+` AS kind, `+key+` AS label, `+id+` AS id, `+source.day+` AS day, `+strings.Join(sums, ", ")+
			` FROM partner_usage_keys k JOIN `+source.table+` u ON u.key = k.key`+join+
			` WHERE `+strings.Join(where, " AND ")+` GROUP BY 2, 3, 4`)
	}
	return parts
}
