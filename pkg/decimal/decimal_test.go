package decimal

import (
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for in, want := range map[string]string{
		"": "0", "0": "0", "-0": "0", "-0.0": "0", "1": "1", "0.1": "0.1", "1.50": "1.5", "0010.010": "10.01", "-0.000000001": "-0.000000001",
		"9999999999.999999999": "9999999999.999999999", "-9999999999.999999999": "-9999999999.999999999",
	} {
		if d, err := Parse(in); err != nil || d.String() != want {
			t.Errorf("Parse(%q) = %s, %v; want %s", in, d, err, want)
		}
	}
	for _, in := range []string{
		"-", ".", "1.", ".5", "+1", " 1", "1 ", "1e3", "0x1", "1,5", "NaN", "Inf", "١", "--1", "1.-5", "12345678901", "1.0123456789",
	} {
		if d, err := Parse(in); err == nil {
			t.Errorf("Parse(%q) = %s, want it refused", in, d)
		}
	}
}

// Whatever is added up, in whatever order, is what exact fractions make of it.
func TestSumsAreExact(t *testing.T) {
	var sum, difference Decimal
	want, less := new(big.Rat), new(big.Rat)
	for range 100_000 {
		d := Decimal{rand.Int64N(2e10) - 1e10, rand.Int64N(2*nanosPerUnit) - nanosPerUnit}
		text := d.String()
		r, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%v is written %q", d, text)
		}
		sum, difference = sum.Add(d), difference.Sub(d)
		want.Add(want, r)
		less.Sub(less, r)
	}
	for got, want := range map[string]*big.Rat{sum.String(): want, difference.String(): less} {
		if exact := strings.TrimSuffix(strings.TrimRight(want.FloatString(MaxFraction), "0"), "."); got != exact {
			t.Errorf("the sum is %s, want %s", got, exact)
		}
	}
}

func TestComparisonAndPercent(t *testing.T) {
	parse := func(s string) Decimal {
		d, err := Parse(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, tt := range []struct {
		a, b string
		want int
	}{{"1", "1.0", 0}, {"0.999999999", "1", -1}, {"-1", "-1.5", 1}, {"-0.1", "0", -1}} {
		if got := parse(tt.a).Cmp(parse(tt.b)); got != tt.want {
			t.Errorf("%s compared to %s: %d", tt.a, tt.b, got)
		}
	}
	if d := (Decimal{1, -nanosPerUnit}); d.Sign() != 0 || d.String() != "0" {
		t.Errorf("%v is %s", d, d)
	}
	for in, want := range map[string]string{"100": "10", "0.05": "0.005", "0.000000009": "0", "-12.3": "-1.23", "9999999999.99": "999999999.999"} {
		if got := parse(in).Percent(Decimal{Units: 10}); got.String() != want {
			t.Errorf("10 %% of %s is %s, want %s", in, got, want)
		}
	}
}

// What Parse takes String writes so that Parse reads the same again.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"", "-0.0", "12.50", "9999999999.999999999", "1e3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := Parse(s)
		if err != nil {
			return
		}
		again, err := Parse(d.String())
		if err != nil || again != d {
			t.Errorf("%q is %v, written %q, which is %v (%v)", s, d, d, again, err)
		}
	})
}
