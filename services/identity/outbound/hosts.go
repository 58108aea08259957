package outbound

import (
	"sync"

	"golang.org/x/time/rate"
)

// How often a host is called, however many documents tenants name there.
const (
	hostRate  = 5  // a second
	hostBurst = 20 // at once
	mostHosts = 4096
)

// hostLimits bounds what one host is called.
type hostLimits struct {
	mu     sync.Mutex
	hosts  map[string]*rate.Limiter
	others *rate.Limiter // of all hosts for which there is no room
}

func newHostLimits() *hostLimits {
	return &hostLimits{hosts: map[string]*rate.Limiter{}, others: rate.NewLimiter(hostRate, hostBurst)}
}

// allow takes one call of a host's share, if there is one left.
func (h *hostLimits) allow(host string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.hosts[host]
	if l == nil {
		if l = h.others; len(h.hosts) < mostHosts || h.forget() {
			l = rate.NewLimiter(hostRate, hostBurst)
			h.hosts[host] = l
		}
	}
	return l.Allow()
}

// forget drops the hosts whose share is whole again, which a new limiter has too. It
// reports whether there is room then.
func (h *hostLimits) forget() bool {
	for host, l := range h.hosts {
		if l.Tokens() >= hostBurst {
			delete(h.hosts, host)
		}
	}
	return len(h.hosts) < mostHosts
}
