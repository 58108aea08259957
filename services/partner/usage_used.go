package partner

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Used reads the first limit values of a list, in their order; with 0 all of them.
func (s *Store) Used(ctx context.Context, q sqldb.Querier, r Report, of used, limit int) (all []usedValue, err error) {
	text, args := r.usedQuery(of, limit)
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, fmt.Errorf("list what was used: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var v usedValue
		if err := rows.Scan(&v.a, &v.b); err != nil {
			return nil, fmt.Errorf("list what was used: %w", err)
		}
		all = append(all, v)
	}
	return all, rows.Err()
}

// usedQuery is its statement: it counts the records of the days of UTC, which are those of
// the days at UTC+3, less what the first one has of the day before it, with what the day
// after the last one has of that (PT-44).
func (r Report) usedQuery(of used, limit int) (string, []any) {
	args := new(arguments)
	b, join := of.b, ``
	if b == "" {
		b = `CAST('' AS TEXT)`
	}
	if strings.HasPrefix(of.a, "l.") {
		join = ` JOIN partner_usage_labels l ON l.labels_id = k.labels_id`
	}
	var parts []string
	for _, p := range []struct {
		table, sign string
		from, to    Day
	}{{"partner_usage_days", "", r.From, r.To}, {"partner_usage_nights", "-", r.From, r.From}, {"partner_usage_nights", "", r.To + 1, r.To + 1}} {
		where := append(r.which(args.add), `u.day BETWEEN `+args.add(int64(p.from))+` AND `+args.add(int64(p.to)))
		if len(of.names) > 0 {
			where = append(where, in(args.add, "l.name", of.names))
		}
		if of.prefix != "" {
			where = append(where, `SUBSTR(`+of.a+`, 1, `+args.add(utf8.RuneCountInString(of.prefix))+`) = `+args.add(of.prefix))
		}
		if of.after != nil {
			where = append(where, `(`+of.a+`, `+b+`) > (`+args.add(of.after.a)+`, `+args.add(of.after.b)+`)`)
		}
		parts = append(parts, `SELECT `+of.a+` AS a, `+b+` AS b, CAST(`+p.sign+`SUM(u.records) AS BIGINT) AS records
			FROM partner_usage_keys k JOIN `+p.table+` u ON u.key = k.key`+join+` WHERE `+strings.Join(where, " AND ")+` GROUP BY 1, 2`)
	}
	text := `SELECT a, b FROM (` + strings.Join(parts, " UNION ALL ") + `) p GROUP BY a, b HAVING SUM(records) > 0 ORDER BY a, b`
	if limit > 0 {
		text += ` LIMIT ` + args.add(limit)
	}
	return text, *args
}
