package lease

import "time"

// Watch is what a writer has seen of the leases of others. It is for one goroutine.
type Watch struct {
	Terms Terms
	Clock Clock
	seen  map[string]sighting
}

// sighting is the latest renewal of a lease, and when it was first seen.
type sighting struct {
	renewals int64
	at       time.Duration
}

// See notes all leases there are, with the number of their renewals, as the store had
// them when it was asked; others are forgotten. The reading of the clock that dates
// a renewal is taken here, later than the store was read.
func (w *Watch) See(renewals map[string]int64) {
	now := w.Clock()
	seen := make(map[string]sighting, len(renewals))
	for id, n := range renewals {
		s, known := w.seen[id]
		if !known || s.renewals != n {
			s = sighting{n, now}
		}
		seen[id] = s
	}
	w.seen = seen
}

// Dead lists the leases that have not been renewed for as long as they can run, with
// the number of renewals under which they may be taken away.
func (w *Watch) Dead() map[string]int64 {
	now := w.Clock()
	dead := make(map[string]int64)
	for id, s := range w.seen {
		if now-s.at > w.Terms.Duration+w.Terms.Margin {
			dead[id] = s.renewals
		}
	}
	return dead
}
