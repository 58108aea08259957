package filter

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

func TestNM7_Parse(t *testing.T) {
	name := func(v string) Filter { return Filter{Field: "name", Value: v} }
	tests := []struct {
		in   string
		want Filter
		ok   bool
	}{
		{``, Filter{}, true},
		{"  \t", Filter{}, true},
		{`name = "a"`, name("a"), true},
		{`name="a"`, name("a"), true},
		{`  name  =  'a'  `, name("a"), true},
		{`name = ""`, name(""), true},
		{`name = "it's"`, name("it's"), true},
		{`name = '"'`, name(`"`), true},
		{`name = "a=b"`, name("a=b"), true},
		{`name = "a\"`, name(`a\`), true},
		{`name = " a "`, name(" a "), true},
		{`name = "Ä"`, name("Ä"), true},
		{`name_id = "x"`, Filter{Field: "name_id", Value: "x"}, true},
		{`name`, Filter{}, false},
		{`name =`, Filter{}, false},
		{`name = a`, Filter{}, false},
		{`name = "a`, Filter{}, false},
		{`name = a"`, Filter{}, false},
		{`name = "a'`, Filter{}, false},
		{`name = "`, Filter{}, false},
		{`name = "a" AND name = "b"`, Filter{}, false},
		{`name != "a"`, Filter{}, false},
		{`name == "a"`, Filter{}, false},
		{`NAME = "a"`, Filter{}, false},
		{`id = "a"`, Filter{}, false},
		{`= "a"`, Filter{}, false},
		{`"a" = name`, Filter{}, false},
		{"name = \"a\x00\"", Filter{}, false},
		{"name = \"\xff\"", Filter{}, false},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := Parse(tt.in, "name", "name_id")
			if got != tt.want || (err == nil) != tt.ok {
				t.Errorf("Parse(%q) = %+v, %v; want %+v, ok %v", tt.in, got, err, tt.want, tt.ok)
			}
			if e, is := apierr.As(err); err != nil && (!is || e.Code != codes.InvalidArgument || e.Fields[0].Name != "filter") {
				t.Errorf("Parse(%q) fails with %v, want INVALID_ARGUMENT of filter", tt.in, err)
			}
		})
	}
}

// Whatever is accepted reads back the same when it is written plainly.
func FuzzParse(f *testing.F) {
	for _, s := range []string{``, `name = "a"`, `name='a'`, `name = "it's"`, `x = "a"`, `name = "a" OR name = "b"`, "name = \"\x00\""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		got, err := Parse(in, "name")
		if err != nil || got == (Filter{}) {
			if got != (Filter{}) {
				t.Errorf("Parse(%q) = %+v beside an error", in, got)
			}
			if err == nil && strings.TrimSpace(in) != "" {
				t.Errorf("Parse(%q) lets everything pass", in)
			}
			return
		}
		quote := `"`
		if strings.Contains(got.Value, quote) {
			quote = `'`
		}
		again, err := Parse("name="+quote+got.Value+quote, "name")
		if err != nil || again != got || !strings.Contains(in, got.Value) {
			t.Errorf("Parse(%q) = %+v, but written plainly it is %+v, %v", in, got, again, err)
		}
	})
}
