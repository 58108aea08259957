package checker

import (
	"fmt"
	"strings"
	"testing"
)

// TestNames: names of every length, the same ids under several types, and ids
// that end where others go on, keep their numbers apart.
func TestNames(t *testing.T) {
	n := newNames()
	var all []name
	for size := range 100 {
		for _, typ := range []string{"", "userAccount", "serviceAccount"} {
			all = append(all, name{typ, strings.Repeat("x", size)}, name{typ, strings.Repeat("y", size) + "\x00"})
		}
	}
	for i := range 5000 {
		all = append(all, name{"resource-manager.folder", fmt.Sprintf("fld%017d", i)})
	}
	numbers := map[uint32]name{}
	for _, k := range all {
		if got := n.find(k); got != 0 {
			t.Fatalf("find(%q) = %d before it was added", k, got)
		}
		number := n.add(k)
		if other, taken := numbers[number]; taken || number == 0 {
			t.Fatalf("%q has number %d, as %q", k, number, other)
		}
		numbers[number] = k
	}
	for number, k := range numbers {
		if got := n.find(k); got != number {
			t.Errorf("find(%q) = %d, want %d", k, got, number)
		}
		if got := n.add(k); got != number {
			t.Errorf("add(%q) again = %d, want %d", k, got, number)
		}
		if got := n.at(number); got != k {
			t.Errorf("at(%d) = %q, want %q", number, got, k)
		}
		if got := n.find(name{"another", k.ID}); got != 0 {
			t.Errorf("find of %q under another type = %d", k.ID, got)
		}
	}
}

// TestNames_SameHash: names are told apart even when their hashes agree.
func TestNames_SameHash(t *testing.T) {
	n := newNames()
	a, long := name{"t", "a"}, name{"t", strings.Repeat("b", 40)}
	numberA, numberLong := n.add(a), n.add(long)
	if n.is(n.record(numberA), long) || n.is(n.record(numberLong), a) || n.is(n.record(numberLong), name{"t", strings.Repeat("c", 40)}) {
		t.Error("one name is taken for another")
	}
	if !n.is(n.record(numberA), a) || !n.is(n.record(numberLong), long) {
		t.Error("a name is not known again")
	}
}
