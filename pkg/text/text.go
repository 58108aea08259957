// Package text says what text a request may hold (NM-9): printable Unicode as
// valid UTF-8, with line feed and tab.
//
// Refused are the other control characters, NUL among them, which neither every
// store nor every log line can hold, and the characters that embed, override or
// isolate the direction of what follows: with them one name is shown as another.
// The marks that languages written from right to left need are allowed.
package text

import (
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Problem says what keeps s out of a request, as the description of a field
// violation; "" when nothing does.
func Problem(s string) string {
	if i := plain(s); i == len(s) {
		return ""
	}
	if !utf8.ValidString(s) {
		return "must be valid UTF-8"
	}
	for _, r := range s {
		switch {
		case r == '\n' || r == '\t':
		case unicode.IsControl(r):
			return fmt.Sprintf("must not contain the control character %U", r)
		case turns(r):
			return fmt.Sprintf("must not contain %U, which changes the direction of text", r)
		}
	}
	return ""
}

// plain returns the length of the part of s before anything but printable ASCII.
func plain(s string) int {
	for i := range len(s) {
		if s[i] < ' ' || s[i] > '~' {
			return i
		}
	}
	return len(s)
}

// turns reports whether r embeds, overrides or isolates direction (Unicode Standard
// Annex 9, sections 2.1, 2.2 and 2.4), or ends what does.
func turns(r rune) bool {
	return r >= '\u202A' && r <= '\u202E' || r >= '\u2066' && r <= '\u2069'
}
