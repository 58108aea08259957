package backup

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// The parts of a file around its lines.
const (
	magicWord   = "bindery backup "
	magic       = magicWord + "1\n"
	sumWord     = "sha256 "
	sumLen      = len(sumWord) + 64 + 1
	maxLine     = 64 << 20 // bytes; no row of ours comes near
	maxMagicLen = 40       // bytes, of any version
)

// Header says what a backup is of.
type Header struct {
	Program  string    `json:"program"`  // version that made it
	Engine   string    `json:"engine"`   // where it came from
	MadeAt   time.Time `json:"made_at"`  // UTC
	Revision int64     `json:"revision"` // of the deciding facts
	Epoch    int64     `json:"epoch"`    // of the store
	// Schemas are the versions of the series of each unit.
	Schemas map[string]map[string]int `json:"schemas"`
}

// tableHead begins the rows of a table.
type tableHead struct {
	Unit    string   `json:"unit"`
	Name    string   `json:"name"`
	Columns []string `json:"columns"`
	Counter int64    `json:"counter,omitempty"`
}

// end is the last line.
type end struct {
	Tables int   `json:"tables"`
	Rows   int64 `json:"rows"`
}

// mark is a line that is no row; one field is set.
type mark struct {
	Header *Header    `json:"header,omitempty"`
	Table  *tableHead `json:"table,omitempty"`
	End    *end       `json:"end,omitempty"`
}

// errText refuses what JSON would change and PostgreSQL would not take.
var errText = errors.New("a text that is not UTF-8 without NUL")

// encode appends a row as a line.
func encode(line []byte, columns []sqldb.Column, values []any) ([]byte, error) {
	line = append(line, '[')
	for i, v := range values {
		if i > 0 {
			line = append(line, ',')
		}
		if b, ok := v.([]byte); ok && columns[i].Kind == sqldb.Bytes {
			line = append(line, '"')
			line = base64.StdEncoding.AppendEncode(line, b)
			line = append(line, '"')
			continue
		}
		if !fits(columns[i].Kind, v) {
			return nil, fmt.Errorf("column %s holds a %T", columns[i].Name, v)
		}
		if s, ok := v.(string); ok && (!utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0) {
			return nil, fmt.Errorf("column %s holds %w", columns[i].Name, errText)
		}
		raw, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		line = append(line, raw...)
	}
	return append(line, ']', '\n'), nil
}

// fits reports whether a value may stand in a column.
func fits(k sqldb.Kind, v any) bool {
	switch v.(type) {
	case nil:
		return true
	case string:
		return k == sqldb.Text
	case int64:
		return k == sqldb.Integer
	case []byte:
		return k == sqldb.Bytes
	default:
		return false
	}
}

// decode reads what encode wrote.
func decode(line []byte, columns []sqldb.Column) ([]any, error) {
	var raw []json.RawMessage
	if err := json.Unmarshal(line, &raw); err != nil {
		return nil, err
	}
	if len(raw) != len(columns) {
		return nil, fmt.Errorf("a row of %d values for %d columns", len(raw), len(columns))
	}
	row := make([]any, len(raw))
	for i, r := range raw {
		if string(r) == "null" {
			continue
		}
		var err error
		switch columns[i].Kind {
		case sqldb.Text:
			row[i], err = read[string](r)
		case sqldb.Integer:
			row[i], err = read[int64](r)
		case sqldb.Bytes:
			row[i], err = read[[]byte](r)
		default:
			err = fmt.Errorf("kind %q", columns[i].Kind)
		}
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", columns[i].Name, err)
		}
	}
	return row, nil
}

func read[T any](raw json.RawMessage) (any, error) {
	var v T
	err := json.Unmarshal(raw, &v)
	return v, err
}
