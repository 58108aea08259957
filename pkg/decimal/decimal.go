// Package decimal holds exact decimal numbers, as amounts of money and of what was used
// are written in the API: "1234.5". A number has at most nine digits after the point.
//
// It is kept as two whole numbers, units and nanos (billionths), which databases add up
// without rounding: the sum of both columns is the sum of the numbers.
package decimal

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

// Most digits that Parse takes before and after the point.
const (
	MaxWhole    = 10
	MaxFraction = 9
)

const nanosPerUnit = 1_000_000_000

// ErrForm is what Parse answers to anything else than a number.
var ErrForm = errors.New("must be a decimal number such as -12.5, of at most 10 digits before and 9 after the point")

// Decimal is units + nanos/10^9. The two need not have the same sign, nor nanos be less
// than one unit: it may be a sum. The zero value is 0.
type Decimal struct{ Units, Nanos int64 }

// Parse reads an optional minus, 1 to MaxWhole digits and, after a point, 1 to
// MaxFraction more. "" is 0. Anything else is ErrForm.
func Parse(s string) (Decimal, error) {
	if s == "" {
		return Decimal{}, nil
	}
	digits, negative := strings.CutPrefix(s, "-")
	whole, fraction, point := strings.Cut(digits, ".")
	if len(whole) == 0 || len(whole) > MaxWhole || point && len(fraction) == 0 || len(fraction) > MaxFraction {
		return Decimal{}, ErrForm
	}
	units, ok := number(whole)
	nanos, fine := number(fraction)
	if !ok || !fine {
		return Decimal{}, ErrForm
	}
	for range MaxFraction - len(fraction) {
		nanos *= 10
	}
	if negative {
		units, nanos = -units, -nanos
	}
	return Decimal{units, nanos}, nil
}

// number reads decimal digits, too few to overflow.
func number(digits string) (n int64, ok bool) {
	for _, c := range []byte(digits) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

// Add is the sum. It is exact as long as the sums of units and of nanos are int64s.
func (d Decimal) Add(e Decimal) Decimal { return Decimal{d.Units + e.Units, d.Nanos + e.Nanos} }

// Sub is the difference.
func (d Decimal) Sub(e Decimal) Decimal { return Decimal{d.Units - e.Units, d.Nanos - e.Nanos} }

// Big is the number in billionths.
func (d Decimal) Big() *big.Int {
	n := big.NewInt(d.Units)
	n.Mul(n, big.NewInt(nanosPerUnit))
	return n.Add(n, big.NewInt(d.Nanos))
}

// Cmp is -1, 0 or 1 as d is less than e, equal to it or more.
func (d Decimal) Cmp(e Decimal) int { return d.Big().Cmp(e.Big()) }

// Sign is -1, 0 or 1 as d is below zero, zero or above.
func (d Decimal) Sign() int { return d.Cmp(Decimal{}) }

// Percent is p percent of d, less than a billionth of it left out. It is exact as long as
// the result is a Decimal whose units are an int64.
func (d Decimal) Percent(p Decimal) Decimal {
	part := d.Big()
	part.Mul(part, p.Big())
	part.Quo(part, big.NewInt(100*nanosPerUnit))
	units, nanos := part.QuoRem(part, big.NewInt(nanosPerUnit), new(big.Int))
	return Decimal{units.Int64(), nanos.Int64()}
}

// String is the one way to write the number: no zeros that say nothing, no minus before 0.
func (d Decimal) String() string {
	units, nanos := d.Units+d.Nanos/nanosPerUnit, d.Nanos%nanosPerUnit
	switch {
	case units > 0 && nanos < 0:
		units, nanos = units-1, nanos+nanosPerUnit
	case units < 0 && nanos > 0:
		units, nanos = units+1, nanos-nanosPerUnit
	}
	b := make([]byte, 0, 24)
	if units < 0 || nanos < 0 {
		b = append(b, '-')
		units, nanos = -units, -nanos
	}
	b = strconv.AppendInt(b, units, 10)
	if nanos == 0 {
		return string(b)
	}
	b = append(b, '.')
	for scale := int64(nanosPerUnit / 10); nanos > 0; scale /= 10 {
		b = append(b, "0123456789"[nanos/scale])
		nanos %= scale
	}
	return string(b)
}
