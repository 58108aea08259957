package text_test

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/bindery-iam/bindery/pkg/text"
)

func TestProblem_NM9(t *testing.T) {
	for s, want := range map[string]string{
		"":                           "",
		"a name":                     "",
		"two\nlines\twith a tab":     "",
		"Ärger, Привет, 你好, שלום":    "",
		"\u200Fשלום\u200F, \u200Cمی": "", // marks and joiners
		"pаypal with a Cyrillic а":   "", // looks alike: for people to judge
		"nul\x00":                    "must not contain the control character U+0000",
		"carriage\r\nreturn":         "must not contain the control character U+000D",
		"escape\x1b[31m":             "must not contain the control character U+001B",
		"delete\x7f":                 "must not contain the control character U+007F",
		"C1\u0085":                   "must not contain the control character U+0085",
		"override\u202Egpj.exe":      "must not contain U+202E, which changes the direction of text",
		"isolate\u2066":              "must not contain U+2066, which changes the direction of text",
		"\xff":                       "must be valid UTF-8",
		"cut\xe4\xbd":                "must be valid UTF-8",
		"surrogate\xed\xa0\x80":      "must be valid UTF-8",
		"overlong\xc0\x80":           "must be valid UTF-8",
	} {
		if got := text.Problem(s); got != want {
			t.Errorf("%q: got %q, want %q", s, got, want)
		}
	}
}

func TestProblemAllocatesNothingForGoodText(t *testing.T) {
	s := strings.Repeat("Привет, name ", 20)
	if n := testing.AllocsPerRun(100, func() { _ = text.Problem(s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// FuzzProblem reads the rule a second time, by Unicode's own tables.
func FuzzProblem(f *testing.F) {
	for _, s := range []string{"", "plain", "\x00", "é\n", "\u202E", "\u2065\u2066", "\xff", "\u061C"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		good := utf8.ValidString(s)
		for _, r := range s {
			if unicode.In(r, unicode.Cc) && !strings.ContainsRune("\n\t", r) {
				good = false
			}
			if unicode.In(r, unicode.Bidi_Control) && r != '\u061C' && r != '\u200E' && r != '\u200F' {
				good = false
			}
		}
		if got := text.Problem(s); (got == "") != good {
			t.Errorf("%q: %q", s, got)
		}
	})
}
