package partner

import (
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/decimal"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// linksLock is the name of the lock by which changes of links and the taking of usage
// follow one another.
const linksLock = "links and usage"

// payer is who paid for a cloud from one moment until before another, in microseconds; to
// is 0 while it goes on.
type payer struct {
	account, root string
	from, to      int64
}

// readPayers reads who has ever paid for the clouds of records.
func (s *Store) readPayers(b *sqldb.Batch, uses []Use, into map[string][]payer) {
	clouds := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts}}
	asked := make(map[string]bool)
	for _, u := range uses {
		if !asked[u.Cloud] {
			asked[u.Cloud] = true
			clouds.Add(u.Cloud)
		}
	}
	b.QueryRows(func(row sqldb.Scanner) error {
		var cloud string
		var p payer
		err := row.Scan(&cloud, &p.account, &p.root, &p.from, &p.to)
		into[cloud] = append(into[cloud], p)
		return err
	}, `SELECT l.cloud_id, a.id, COALESCE(a.partner_id, a.id), l.linked_at, l.unlinked_at
		FROM partner_links l JOIN partner_accounts a ON a.id = l.account_id WHERE l.cloud_id IN (`, clouds, `)`)
}

// insertKeys adds the keys that may be new.
func (s *Store) insertKeys(b *sqldb.Batch, keys map[hash]usageKey, unknown []hash) {
	t := sqldb.Texts
	rows := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Blobs, t, t, t, t, t, t, t}}
	for _, h := range unknown {
		k := keys[h]
		rows.Add(slices.Clone(h[:]), k.root, k.account, k.cloud, k.folder, k.service, k.sku, k.labels)
	}
	b.ExecRows(`INSERT INTO partner_usage_keys (key, root_id, account_id, cloud_id, folder_id, service_id, sku_id, labels_id)`,
		rows, `ON CONFLICT (key) DO NOTHING`)
}

// insertLabels adds the labels of the keys that may be new.
func (s *Store) insertLabels(b *sqldb.Batch, uses []Use, keyOf []hash, unknown []hash) {
	isNew := make(map[hash]bool, len(unknown))
	for _, h := range unknown {
		isNew[h] = true
	}
	sets := make(map[string]map[string]string)
	for i, u := range uses {
		if len(u.Labels) > 0 && isNew[keyOf[i]] {
			sets[u.labelsID] = u.Labels
		}
	}
	rows := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts, sqldb.Texts, sqldb.Texts}}
	for id, labels := range sets {
		for name, value := range labels {
			rows.Add(id, name, value)
		}
	}
	slices.SortFunc(rows.Values, func(a, b []any) int {
		return strings.Compare(a[0].(string)+a[1].(string), b[0].(string)+b[1].(string)) //nolint:forcetypeassert // of a fixed length, then what was added
	})
	b.ExecRows(`INSERT INTO partner_usage_labels (labels_id, name, value)`, rows, `ON CONFLICT (labels_id, name) DO NOTHING`)
}

// insertUses adds the records that are new, and calls fresh with the id of each.
func (s *Store) insertUses(b *sqldb.Batch, uses []Use, keyOf []hash, now int64, fresh func(id string)) {
	t := sqldb.Texts
	rows := &sqldb.Rows{Columns: []sqldb.Type{t, sqldb.Blobs, sqldb.Blobs, sqldb.Ints, t, t, t, t, t, sqldb.Ints}}
	for i, u := range uses {
		rows.Add(u.ID, uses[i].digest[:], keyOf[i][:], sqldb.Micros(u.UsedAt),
			u.Quantity.String(), u.Cost.String(), u.Discount.String(), u.Reward.String(), u.Adjustment.String(), now)
	}
	b.QueryRows(func(row sqldb.Scanner) error {
		var id string
		err := row.Scan(&id)
		fresh(id)
		return err
	}, `INSERT INTO partner_usage_records (id, digest, key, used_at, quantity, cost, discount, reward, adjustment, taken_at)`,
		rows, `ON CONFLICT (id) DO NOTHING RETURNING id`)
}

// readDigests reads what is known of records.
func (s *Store) readDigests(b *sqldb.Batch, known map[string]hash, each func(id string, digest []byte)) {
	rows := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Texts}}
	for id := range known {
		rows.Add(id)
	}
	b.QueryRows(func(row sqldb.Scanner) error {
		var id string
		var digest []byte
		err := row.Scan(&id, &digest)
		each(id, digest)
		return err
	}, `SELECT id, digest FROM partner_usage_records WHERE id IN (`, rows, `)`)
}

// sumColumns are the columns of sums, in the order of Amounts.
var sumColumns = func() []string {
	all := []string{"records"}
	for _, amount := range []string{"quantity", "cost", "discount", "reward", "adjustment"} {
		all = append(all, amount+"_units", amount+"_nanos")
	}
	return all
}()

// addSums adds to the sums by day, by month and of nights.
func (s *Store) addSums(b *sqldb.Batch, days, months, nights usageSums) {
	addTo := func(table string, sums usageSums, by ...string) {
		rows := &sqldb.Rows{Columns: []sqldb.Type{sqldb.Blobs}}
		for range len(by) + len(sumColumns) {
			rows.Columns = append(rows.Columns, sqldb.Ints)
		}
		for _, c := range sums.inOrder() {
			values := []any{slices.Clone(c.key[:])}
			for _, name := range by {
				values = append(values, map[string]int64{"day": int64(c.day), "month": int64(c.month)}[name])
			}
			rows.Add(append(values, sums[c].columns()...)...)
		}
		var set []string
		for _, c := range sumColumns {
			set = append(set, c+` = `+table+`.`+c+` + excluded.`+c)
		}
		b.ExecRows(`INSERT INTO `+table+` (key, `+strings.Join(slices.Concat(by, sumColumns), ", ")+`)`, rows,
			`ON CONFLICT (key, `+by[0]+`) DO UPDATE SET `+strings.Join(set, ", "))
	}
	addTo("partner_usage_days", days, "day", "month")
	addTo("partner_usage_months", months, "month")
	if len(nights) > 0 {
		addTo("partner_usage_nights", nights, "day")
	}
}

// columns are the values of sumColumns.
func (u usageSum) columns() []any {
	all := []any{u.records}
	for _, d := range []decimal.Decimal{u.Quantity, u.Cost, u.Discount, u.Reward, u.Adjustment} {
		all = append(all, d.Units, d.Nanos)
	}
	return all
}
