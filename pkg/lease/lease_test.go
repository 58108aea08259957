package lease

import (
	"maps"
	"testing"
	"time"
)

// hand is a clock that a test moves.
type hand struct{ now time.Duration }

func (h *hand) read() time.Duration { return h.now }

var terms = Terms{Duration: 5 * time.Second, Margin: 2 * time.Second, Renew: time.Second}

func TestLease(t *testing.T) {
	h := &hand{now: time.Hour}
	l := &Lease{Clock: h.read}
	held := func(want bool, when string) {
		t.Helper()
		if l.Held() != want {
			t.Errorf("held is %t %s", !want, when)
		}
	}
	held(false, "before the first renewal")
	sent := h.read()
	h.now += 3 * time.Second // the store took its time
	l.Extend(sent, terms.Duration)
	held(true, "after a slow renewal")
	h.now += 2*time.Second - 1
	held(true, "until the very end")
	h.now++
	held(false, "five seconds after the renewal was sent, not after it was answered")
	l.Extend(h.read(), terms.Duration)
	held(true, "again")
	l.Extend(sent, terms.Duration)
	held(true, "after an answer that came out of order")
	l.Drop()
	held(false, "after it was dropped")
}

func TestWatch(t *testing.T) {
	h := &hand{now: time.Hour}
	w := &Watch{Terms: terms, Clock: h.read}
	dead := func(want map[string]int64, when string) {
		t.Helper()
		if got := w.Dead(); !maps.Equal(got, want) {
			t.Errorf("%s: dead are %v, want %v", when, got, want)
		}
	}
	w.See(map[string]int64{"a": 7, "b": 1})
	h.now += 7 * time.Second
	dead(nil, "when a renewal just sent may still run out")
	w.See(map[string]int64{"a": 7, "b": 2})
	h.now++
	dead(map[string]int64{"a": 7}, "when one was renewed and one not")
	w.See(map[string]int64{"a": 8, "b": 2})
	dead(nil, "when the other was renewed after all")
	h.now += 8 * time.Second
	w.See(map[string]int64{"b": 2})
	dead(map[string]int64{"b": 2}, "when one left and one is silent")
	w.See(map[string]int64{"a": 1, "b": 2})
	dead(map[string]int64{"b": 2}, "when one came back under its old name")
}

// The promise: at no moment does a replica answer that a writer has called dead,
// whatever the two clocks show and however late a renewal arrives.
func TestDeadMeansSilent(t *testing.T) {
	for delay := time.Duration(0); delay <= 9*time.Second; delay += 250 * time.Millisecond {
		replica, writer := &hand{now: time.Hour}, &hand{now: 99 * time.Hour}
		l := &Lease{Clock: replica.read}
		w := &Watch{Terms: terms, Clock: writer.read}
		sent := replica.read()
		pass := func(d time.Duration) { replica.now += d; writer.now += d }
		pass(delay) // until the store has the renewal, and the writer sees it
		w.See(map[string]int64{"a": 1})
		l.Extend(sent, terms.Duration)
		for range 100 {
			if _, dead := w.Dead()["a"]; dead && l.Held() {
				t.Fatalf("a renewal that took %v: called dead while it answers", delay)
			}
			pass(100 * time.Millisecond)
		}
	}
}

func TestBoot(t *testing.T) {
	before := Boot()
	time.Sleep(2 * time.Millisecond) // of the very clock that is tested
	if passed := Boot() - before; passed < 2*time.Millisecond || passed > time.Minute {
		t.Errorf("2 ms took %v", passed)
	}
}
