package identity

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How many refused answers to a federation's sign-ins are recorded.
const (
	refusalsEvery  = time.Minute / 10
	refusalsAtOnce = 50
)

// refusals bounds what strangers can write into the trail of an organization.
type refusals struct {
	mu           sync.Mutex
	byFederation map[string]*rate.Limiter // of those that were asked for, and are there
}

// record reports whether one more refusal is recorded.
func (r *refusals) record(federationID string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	one := r.byFederation[federationID]
	if one == nil {
		if r.byFederation == nil {
			r.byFederation = make(map[string]*rate.Limiter)
		}
		one = rate.NewLimiter(rate.Every(refusalsEvery), refusalsAtOnce)
		r.byFederation[federationID] = one
	}
	return one.AllowN(now, 1)
}
