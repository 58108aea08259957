package lease

import (
	"sync/atomic"
	"time"
)

// Terms are the durations of a lease.
type Terms struct {
	Duration time.Duration // for how long a renewal lets a replica answer
	Margin   time.Duration // that a writer waits beyond it, for clocks that run unevenly
	Renew    time.Duration // between two renewals; a few fit into Duration
}

// Default are the terms in production: a replica that dies holds up writes for at
// most 7 seconds, once.
var Default = Terms{Duration: 5 * time.Second, Margin: 2 * time.Second, Renew: time.Second}

// Clock reads the time since the machine was started, sleep included.
type Clock func() time.Duration

// Lease is the right of one replica to answer. The zero Lease is not held. It is
// safe for concurrent use.
type Lease struct {
	Clock Clock
	until atomic.Int64 // nanoseconds of the clock; 0 for none
}

// Held reports whether the replica may answer now. It reads the clock.
func (l *Lease) Held() bool {
	until := l.until.Load()
	return until != 0 && int64(l.Clock()) < until
}

// Left is for how long the lease runs on; 0 when it is not held.
func (l *Lease) Left() time.Duration {
	return max(0, time.Duration(l.until.Load())-l.Clock())
}

// Extend lets the lease run for a duration from a reading of the clock that was taken
// before the renewal was sent. A lease never becomes shorter by it.
func (l *Lease) Extend(from, duration time.Duration) {
	until := int64(from + duration)
	for {
		old := l.until.Load()
		if old >= until || l.until.CompareAndSwap(old, until) {
			return
		}
	}
}

// Drop ends the lease.
func (l *Lease) Drop() { l.until.Store(0) }
