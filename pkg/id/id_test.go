package id

import (
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	const n = 20_000
	seen := make(map[string]bool, n)
	used := make(map[byte]int)
	for range n {
		s := New(Folder)
		if !Valid(s) || Prefix(s) != "fld" || len(s) != 20 {
			t.Fatalf("New(fld) = %q: not a valid id", s)
		}
		if seen[s] {
			t.Fatalf("New(fld) made %q twice in %d", s, n)
		}
		seen[s] = true
		for i := prefixSize; i < len(s); i++ {
			used[s[i]]++
		}
	}
	// 340,000 characters over 32: 10,625 each; 5 % is more than 5 sigma.
	for _, c := range []byte(alphabet) {
		if got := used[c]; got < 10_100 || got > 11_150 {
			t.Errorf("character %q occurs %d times in %d, want about 10625", c, got, n*randomSize)
		}
	}
}

func TestPrefix(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"made here", "fld0123456789abcdefg", "fld"},
		{"letters of a prefix may lie beyond v", "xyz0123456789abcdefg", "xyz"},
		{"empty", "", ""},
		{"too short", "fld0123456789abcdef", ""},
		{"too long", "fld0123456789abcdefgh", ""},
		{"digit in the prefix", "f1d0123456789abcdefg", ""},
		{"upper case", "FLD0123456789abcdefg", ""},
		{"beyond the alphabet", "fld0123456789abcdefw", ""},
		{"not ASCII", "fld0123456789abcdé" + "f", ""},
		{"NUL", "fld" + strings.Repeat("\x00", 17), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Prefix(tt.in); got != tt.want {
				t.Errorf("Prefix(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}
