// Package filter reads the filter of a list request, which the public API keeps
// to one comparison: name = "value" (NM-7).
//
//	filter = [ field "=" quoted ]
//	quoted = '"' { any character but '"' } '"' | "'" { any character but "'" } "'"
//
// Spaces around the parts are free. There is no escape, since the clients write
// none.
package filter

import (
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// Filter is one comparison; the zero value lets everything pass.
type Filter struct {
	Field string
	Value string
}

// Parse reads a filter over one of the given fields. An empty text is the zero
// Filter. Anything else than the grammar is an InvalidField error of "filter".
func Parse(text string, fields ...string) (Filter, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Filter{}, nil
	}
	field, quoted, found := strings.Cut(text, "=")
	field, quoted = strings.TrimSpace(field), strings.TrimSpace(quoted)
	if !found {
		return Filter{}, apierr.InvalidField("filter", `the form is %s = "value"`, fields[0])
	}
	if !slices.Contains(fields, field) {
		return Filter{}, apierr.InvalidField("filter", "the list can be filtered by %s only", strings.Join(fields, ", "))
	}
	value, ok := unquote(quoted)
	if !ok {
		return Filter{}, apierr.InvalidField("filter", `the value stands between double or single quotes: %s = "value"`, field)
	}
	return Filter{Field: field, Value: value}, nil
}

// unquote takes off one pair of quotes. The same quote inside, and what cannot be
// stored (invalid UTF-8, NUL), is refused.
func unquote(s string) (string, bool) {
	if len(s) < 2 || s[0] != s[len(s)-1] || (s[0] != '"' && s[0] != '\'') {
		return "", false
	}
	inner := s[1 : len(s)-1]
	if strings.IndexByte(inner, s[0]) >= 0 || strings.IndexByte(inner, 0) >= 0 || !utf8.ValidString(inner) {
		return "", false
	}
	return inner, true
}
