package e2e

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// neat drops what proto JSON may write or leave out: fields with the zero value.
// Numbers become strings, as proto JSON writes the large ones.
func neat(value any) any {
	switch v := value.(type) {
	case json.Number:
		return neat(v.String())
	case string:
		if v == "" || v == "0" || strings.HasSuffix(v, "_UNSPECIFIED") {
			return nil
		}
		return v
	case bool:
		if !v {
			return nil
		}
		return v
	case map[string]any:
		kept := map[string]any{}
		for key, item := range v {
			if item = neat(item); item != nil {
				kept[key] = item
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	case []any:
		if len(v) == 0 {
			return nil
		}
		kept := make([]any, 0, len(v))
		for _, item := range v {
			kept = append(kept, neat(item))
		}
		return kept
	default:
		return v
	}
}

// Ids, tokens and revisions look alike in all runs, apart from what differs in them.
var (
	anyID       = regexp.MustCompile(`\b([a-z]{3})[0-9a-v]{17}\b`)
	anyRevision = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+$`)
	anyToken    = regexp.MustCompile(`t1\.[-_0-9A-Za-z]+\.[-_0-9A-Za-z]+`)
)

// neutral replaces what differs from run to run by what it is, and puts lists,
// whose order is not promised, into one.
func (p *player) neutral(value any) any {
	switch v := neat(value).(type) {
	case string:
		if _, err := time.Parse(time.RFC3339Nano, v); err == nil {
			return "<time>"
		}
		if anyRevision.MatchString(v) {
			return "<revision>"
		}
		// A login may be the beginning of another: the longest value first.
		names := slices.SortedFunc(maps.Keys(p.vars), func(a, b string) int { return len(p.vars[b]) - len(p.vars[a]) })
		for _, name := range names {
			v = strings.ReplaceAll(v, p.vars[name], "$"+name)
		}
		return anyToken.ReplaceAllString(anyID.ReplaceAllString(v, "<$1>"), "<token>")
	case map[string]any:
		for key, item := range v {
			v[key] = p.neutral(item)
		}
		return v
	case []any:
		type line struct {
			text string
			item any
		}
		lines := make([]line, 0, len(v))
		for _, item := range v {
			item = p.neutral(item)
			text, _ := json.Marshal(item) // it came from JSON
			lines = append(lines, line{string(text), item})
		}
		slices.SortFunc(lines, func(a, b line) int { return strings.Compare(a.text, b.text) })
		for i, l := range lines {
			v[i] = l.item
		}
		return v
	default:
		return v
	}
}
