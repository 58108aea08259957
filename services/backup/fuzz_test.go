package backup

import (
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// FuzzLines gives any lines to the reader of a file whose checksum is right: it
// refuses or takes them, and what it takes can be written again as it was.
func FuzzLines(f *testing.F) {
	f.Add(`{"header":{"program":"v1","epoch":1,"schemas":{"tree":{"tree":1,"goqite":2},"book":{"book":1,"goqite":2}}}}
{"table":{"unit":"tree","name":"tree_nodes","columns":["id","parent_id","done","raw"]}}
["a",null,1,"AAE="]
{"end":{"tables":1,"rows":1}}`)
	f.Add(`["a"]`)
	f.Add(`{"header":{}}`)
	f.Add(`{"end":{"tables":0,"rows":0}}`)
	l, err := newLayout(f.Context(), units())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var current sqldb.Table
		r := &reader{
			layout: l,
			tables: make(map[string]bool),
			table:  func(_ *tableHead, table sqldb.Table) error { current = table; return nil },
			row: func(values []any) error {
				line, err := encode(nil, current.Columns, values)
				if err != nil {
					return err
				}
				again, err := decode(line, current.Columns)
				if err != nil || len(again) != len(values) {
					t.Errorf("%q cannot be read again: %v", line, err)
				}
				return nil
			},
		}
		for line := range strings.SplitSeq(text, "\n") {
			if r.line([]byte(line)) != nil {
				return
			}
		}
	})
}
