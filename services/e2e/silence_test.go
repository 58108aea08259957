package e2e

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// windows are how long writes took and replicas were silent, by the fault meanwhile.
type windows struct {
	mu     sync.Mutex
	faults []started
	kinds  map[string]*silences
	all    []time.Duration // of all writes
}

// silences are what happened in faults of a kind.
type silences struct {
	times               int
	hit, others, writes []time.Duration
}

// started is a fault that began.
type started struct {
	at      time.Time
	kind    *silences
	replica int // the one it was done to
}

func (w *windows) start(kind string, replica int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.kinds == nil {
		w.kinds = make(map[string]*silences)
	}
	if w.kinds[kind] == nil {
		w.kinds[kind] = new(silences)
	}
	w.kinds[kind].times++
	w.faults = append(w.faults, started{time.Now(), w.kinds[kind], replica})
}

// meanwhile is the fault in whose time the middle of what began at a time and ends now
// lies; ok is false for what was before the first. The next fault may have begun by now.
func (w *windows) meanwhile(begun time.Time) (one started, ok bool) {
	middle := begun.Add(time.Since(begun) / 2)
	for _, one := range slices.Backward(w.faults) {
		if one.at.Before(middle) {
			return one, true
		}
	}
	return one, false
}

// wrote notes a write that is acknowledged now.
func (w *windows) wrote(begun time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, time.Since(begun))
	if one, ok := w.meanwhile(begun); ok {
		one.kind.writes = append(one.kind.writes, time.Since(begun))
	}
}

// silent notes that a replica answers again.
func (w *windows) silent(replica int, since time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch one, ok := w.meanwhile(since); {
	case !ok:
	case one.replica == replica:
		one.kind.hit = append(one.kind.hit, time.Since(since))
	default:
		one.kind.others = append(one.kind.others, time.Since(since))
	}
}

// lines tells of each kind of fault.
func (w *windows) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var lines []string
	for _, kind := range faultKinds() {
		if s := w.kinds[kind.name]; s != nil {
			lines = append(lines, fmt.Sprintf("  %-46s %3d times: the replica %s; others %s; writes %s",
				kind.name, s.times, spread(s.hit), spread(s.others), spread(s.writes)))
		}
	}
	return lines
}

// spread is the median, the 99th percentile and the greatest of some durations.
func spread(all []time.Duration) string {
	if len(all) == 0 {
		return "never"
	}
	slices.Sort(all)
	at := func(part int) time.Duration { return all[(len(all)-1)*part/100].Round(time.Millisecond) }
	return fmt.Sprintf("%v, %v, %v", at(50), at(99), at(100))
}
