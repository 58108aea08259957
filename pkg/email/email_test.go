package email_test

import (
	"net/mail"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/email"
)

func TestProblem(t *testing.T) {
	label := strings.Repeat("d", 63)
	for s, want := range map[string]string{
		"vera@example.com":                  "",
		"Vera.Nova+work@Sub.Example.COM":    "",
		"o'neill_99@ex-ample.org":           "",
		"vera@localhost":                    "",
		"vera@xn--e1afmkfd.xn--p1ai":        "", // пример.рф
		strings.Repeat("a", 64) + "@ex.com": "",
		"a@" + label + ".com":               "",

		"":                                  "user@example.com",
		"vera":                              "user@example.com",
		"@example.com":                      "user@example.com",
		"vera@":                             "user@example.com",
		"vera@@example.com":                 "user@example.com",
		"Vera <vera@example.com>":           "U+0020",
		"<vera@example.com>":                "user@example.com",
		"vera(work)@example.com":            "user@example.com",
		`"vera"@example.com`:                "user@example.com",
		"vera@example.com,nick@x.com":       "user@example.com",
		".vera@example.com":                 "user@example.com",
		"ve..ra@example.com":                "user@example.com",
		"vera@[127.0.0.1]":                  "domain",
		"vera@-example.com":                 "domain",
		"vera@example..com":                 "user@example.com",
		"vera@example.com.":                 "user@example.com",
		"vera@xn--exam-wd7a.com":            "domain", // hides an override
		"vera@exam_ple.com":                 "domain",
		"vera@" + label + "d.com":           "domain",
		"vera@xn--a.com":                    "domain", // no label at all
		"vera@xn--example-r06c.com":         "domain", // hides a bidirectional mark
		strings.Repeat("a", 65) + "@ex.com": "64 characters before",
		strings.Repeat("a", 60) + "@" + strings.Repeat(label+".", 3) + "com": "254",

		"vеra@example.com":       "U+0435", // a Cyrillic e
		"vera@exаmple.com":       "U+0430",
		"vera@пример.рф":         "xn--",
		"ve\u200Bra@example.com": "U+200B",
		"vera@exam\u200Dple.com": "U+200D",
		"vera\u202E@example.com": "U+202E",
		"vera@example\u2066.com": "U+2066",
		"ｖera@example.com":       "U+FF56",
		"vera@example\u3002com":  "U+3002", // a full stop to IDNA
		"vera@example.com\n":     "U+000A",
		"vera@example.com\x00":   "U+0000",
		"vera@example.com\xff":   "U+FFFD",
		"vera@exa mple.com":      "U+0020",
	} {
		if got := email.Problem(s); got == "" != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%q: %q, want %q in it", s, got, want)
		}
	}
}

// FuzzProblem holds what is taken to what everybody else reads in it.
func FuzzProblem(f *testing.F) {
	for _, s := range []string{"vera@example.com", "", "a@b", "vera@xn--e1afmkfd.xn--p1ai", "\"a\"@b", "é@b", "<a@b>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if email.Problem(s) != "" {
			return
		}
		if parsed, err := mail.ParseAddress("<" + s + ">"); err != nil || parsed.Address != s {
			t.Errorf("%q is taken, and read as %v, %v", s, parsed, err)
		}
		if strings.ContainsAny(s, "\r\n <>()\",;:\\") || strings.Count(s, "@") != 1 || len(s) > email.MaxLength {
			t.Errorf("%q is taken", s)
		}
		if folded := email.Fold(s); email.Problem(folded) != "" || email.Fold(folded) != folded {
			t.Errorf("%q folds to %q", s, folded)
		}
	})
}
