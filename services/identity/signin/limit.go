package signin

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// How often one network may ask: people click slowly, so this bounds guessing and what
// providers are asked on account of strangers. Behind a proxy all come from one.
const (
	perSecond  = 20
	atOnce     = 100
	maxSenders = 10_000 // remembered at a time
)

// limiter bounds the requests of each network.
type limiter struct {
	now func() time.Time

	mu      sync.Mutex
	senders map[netip.Prefix]*rate.Limiter
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, senders: make(map[netip.Prefix]*rate.Limiter)}
}

// allow reports whether the sender at host:port may ask once more.
func (l *limiter) allow(remote string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	from, now := networkOf(remote), l.now()
	one := l.senders[from]
	if one == nil {
		if len(l.senders) >= maxSenders {
			l.forget(now)
		}
		one = rate.NewLimiter(perSecond, atOnce)
		l.senders[from] = one
	}
	return one.AllowN(now, 1)
}

// forget drops those who were silent long enough to be as good as new; all of them when
// that leaves no room, since the table must not grow.
func (l *limiter) forget(now time.Time) {
	for from, one := range l.senders {
		if one.TokensAt(now) >= atOnce {
			delete(l.senders, from)
		}
	}
	if len(l.senders) >= maxSenders {
		clear(l.senders)
	}
}

// networkOf is the address of a sender, or its /64: one machine has so many of IPv6.
func networkOf(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 64
	if addr = addr.Unmap(); addr.Is4() {
		bits = 32
	}
	p, _ := addr.Prefix(bits)
	return p
}
