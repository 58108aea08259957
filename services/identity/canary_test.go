package identity

import (
	"fmt"
	"strings"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// noCanary fails the test when a secret that was shown lies in the log, a metric or
// any table but the sealed ones.
func (w *keySuite) noCanary() {
	w.t.Helper()
	families, err := w.Metrics.Gather()
	w.must(err)
	dump := []string{w.log.String(), fmt.Sprint(families)}
	tables, err := sqldb.Layout(w.t.Context(), Unit().Migrations...)
	w.must(err)
	for _, table := range tables {
		for _, column := range table.Columns {
			dump = append(dump, w.column(table.Name, column.Name)...)
		}
	}
	if len(w.secrets) == 0 {
		w.t.Error("no secret was shown that could be looked for")
	}
	for _, secret := range w.secrets {
		for _, text := range dump {
			if i := strings.Index(text, secret); i >= 0 {
				w.t.Errorf("a secret is in %.200q", text[max(0, i-100):])
			}
		}
	}
}

// column reads all values of a column as text.
func (w *keySuite) column(table, column string) (values []string) {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT `+column+` FROM `+table)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var value any
		w.must(rows.Scan(&value))
		if b, ok := value.([]byte); ok {
			value = string(b)
		}
		values = append(values, fmt.Sprint(value))
	}
	w.must(rows.Err())
	return values
}
