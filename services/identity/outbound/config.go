package outbound

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// Config is what an operator may change. Its zero value calls public addresses alone.
type Config struct {
	// Allow are networks that may be called beside public addresses: that of a cluster
	// with an issuer of its own, say.
	Allow []netip.Prefix

	// Ports may be called; 443, 6443 and 8443 when empty.
	Ports []uint16

	// Loopback lets addresses of the machine itself be called, on any port and by plain
	// http. For tests and development: tenants reach what listens there.
	Loopback bool

	// Roots are the authorities whose certificates are trusted; nil means the system's.
	Roots *x509.CertPool
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	for _, p := range c.Allow {
		if !p.IsValid() || p.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("%v is no network of IPv4 or IPv6 that issuers may be in", p))
		}
	}
	if slices.Contains(c.Ports, 0) {
		errs = append(errs, errors.New("issuers cannot be at port 0"))
	}
	return errors.Join(errs...)
}

func (c Config) ports() []uint16 {
	if len(c.Ports) == 0 {
		return []uint16{443, 6443, 8443}
	}
	return c.Ports
}
