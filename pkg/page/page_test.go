package page

import (
	"bytes"
	"encoding/base64"
	"math"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

func sealer(t testing.TB, fill byte) *Sealer {
	t.Helper()
	s, err := New(bytes.Repeat([]byte{fill}, KeySize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSize(t *testing.T) {
	for in, want := range map[int64]int{-1: 100, 0: 100, 1: 1, 999: 999, 1000: 1000, 1001: 1000, math.MaxInt64: 1000} {
		if got := Size(in); got != want {
			t.Errorf("Size(%d) = %d, want %d", in, got, want)
		}
	}
}

func TestSealOpen(t *testing.T) {
	s := sealer(t, 1)
	for _, pos := range []Position{
		{Time: 1_800_000_000_000_000, ID: "cld0123456789abcdefg"},
		{Time: math.MinInt64}, {Time: math.MaxInt64, ID: strings.Repeat("x", MaxID)},
		{ID: "\x00\xff"},
	} {
		token, err := s.Seal(pos, "List", "org1", "")
		if err != nil {
			t.Fatalf("Seal(%v): %v", pos, err)
		}
		if len(token) > MaxToken {
			t.Errorf("token of %v has %d characters, at most %d", pos, len(token), MaxToken)
		}
		if strings.Contains(token, "cld") {
			t.Errorf("token %q shows the id", token)
		}
		got, err := s.Open(token, "List", "org1", "")
		if err != nil || got != pos {
			t.Errorf("Open(Seal(%v)) = %v, %v", pos, got, err)
		}
	}
	if _, err := s.Seal(Position{ID: strings.Repeat("x", MaxID+1)}); err == nil {
		t.Error("Seal of an id that is too long succeeded")
	}
	if pos, err := s.Open("", "List"); err != nil || pos != (Position{}) {
		t.Errorf("Open of no token = %v, %v; want the beginning", pos, err)
	}
}

func TestNM7_OpenRefuses(t *testing.T) {
	s := sealer(t, 1)
	token, err := s.Seal(Position{Time: 1, ID: "a"}, "List", "ab", "c")
	if err != nil {
		t.Fatal(err)
	}
	short := base64.RawURLEncoding.EncodeToString(make([]byte, nonceSize+timeSize+tagSize-1))
	last := token[len(token)-1]
	other := byte('A')
	if last == other {
		other = 'B'
	}
	tests := []struct {
		name, token string
		sealer      *Sealer
		scope       []string
	}{
		{"another method", token, s, []string{"ListOperations", "ab", "c"}},
		{"another filter", token, s, []string{"List", "ab", "d"}},
		{"no filter", token, s, []string{"List", "ab"}},
		{"parts cut elsewhere", token, s, []string{"List", "a", "bc"}},
		{"another key", token, sealer(t, 2), []string{"List", "ab", "c"}},
		{"one character changed", token[:len(token)-1] + string(other), s, []string{"List", "ab", "c"}},
		{"one character less", token[:len(token)-1], s, []string{"List", "ab", "c"}},
		{"padding", token + "=", s, []string{"List", "ab", "c"}},
		{"line feed", token + "\n", s, []string{"List", "ab", "c"}},
		{"too short", short, s, []string{"List", "ab", "c"}},
		{"too long", strings.Repeat("A", 2000), s, []string{"List", "ab", "c"}},
		{"plain text", "page 2", s, []string{"List", "ab", "c"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pos, err := tt.sealer.Open(tt.token, tt.scope...)
			e, ok := apierr.As(err)
			if !ok || e.Code != codes.InvalidArgument || len(e.Fields) != 1 || e.Fields[0].Name != "page_token" {
				t.Errorf("Open = %v, %v; want INVALID_ARGUMENT of page_token", pos, err)
			}
		})
	}
}

func TestNewRefusesKeys(t *testing.T) {
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := New(make([]byte, n)); err == nil {
			t.Errorf("New took a key of %d bytes", n)
		}
	}
}

// Whatever Open accepts was sealed here: nobody can write a token.
func FuzzOpen(f *testing.F) {
	s := sealer(f, 1)
	// Sealed by this key earlier: the processes that fuzz must mean the same one.
	const token = "QhaseMJvQkMbKPrI1hcy7R3bpVDW0Y0ydv-DUA5iR9-B6ILoFg"
	if pos, err := s.Open(token, "List"); err != nil || pos != (Position{Time: 1, ID: "a"}) {
		f.Fatalf("Open of the seed = %v, %v", pos, err)
	}
	f.Add(token, "List")
	f.Add(token+"A", "List")
	f.Add(token, "Lost")
	f.Add("", "")
	f.Fuzz(func(t *testing.T, in, scope string) {
		pos, err := s.Open(in, scope)
		if err == nil && in != "" && (in != token || scope != "List") {
			t.Errorf("Open(%q, %q) = %v: accepted what was not sealed", in, scope, pos)
		}
		if err != nil && pos != (Position{}) {
			t.Errorf("Open(%q, %q) = %v beside an error", in, scope, pos)
		}
	})
}

func TestFit(t *testing.T) {
	for _, tt := range []struct{ n, size, want int }{
		{0, 1, 0}, {1, 1, 1}, {1000, 1, 1000}, {1, MaxBytes + 1, 1}, {5, MaxBytes + 1, 1}, {5, MaxBytes, 1}, {5, MaxBytes / 2, 2},
	} {
		if got := Fit(tt.n, func(int) int { return tt.size }); got != tt.want {
			t.Errorf("%d items of %d bytes: %d fit, want %d", tt.n, tt.size, got, tt.want)
		}
	}
}
