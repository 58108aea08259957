package checker_test

import (
	"math/rand/v2"
	"testing"
)

// FuzzDecide lets the fuzzer choose the worlds in which the engine is compared
// with the second reading.
func FuzzDecide(f *testing.F) {
	for n := range uint64(8) {
		f.Add(n, n+1)
	}
	f.Fuzz(func(t *testing.T, a, b uint64) {
		runOracle(t, rand.New(rand.NewPCG(a, b)), 3, 30, map[string]int{})
	})
}
