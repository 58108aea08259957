package main

import (
	"fmt"
	"net/netip"

	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/identity/outbound"
)

// issuerFlags say where issuers of tokens and identity providers may be, whose keys
// and metadata identity reads at addresses that tenants name.
type issuerFlags struct {
	IssuerAllow    []netip.Prefix `placeholder:"CIDR" help:"Network that token issuers and identity providers may be in beside public addresses. Once for each."`
	IssuerPort     []uint16       `placeholder:"PORT" help:"Port that they may be at, instead of 443, 6443 and 8443. Once for each."`
	IssuerLoopback bool           `help:"Let them be on this machine, over plain http too. For tests and development: tenants then reach what listens here."`
}

// config adds to the configuration of the unit identity.
func (f issuerFlags) config(c *identity.Config) error {
	c.Issuers = outbound.Config{Allow: f.IssuerAllow, Ports: f.IssuerPort, Loopback: f.IssuerLoopback}
	if err := c.Issuers.Validate(); err != nil {
		return fmt.Errorf("--issuer-allow, --issuer-port: %w", err)
	}
	return nil
}

// setIdentity puts the configured unit identity in the place of the one of the list.
func setIdentity(units []server.Unit, flags ...interface {
	config(c *identity.Config) error
}) error {
	var c identity.Config
	for _, f := range flags {
		if err := f.config(&c); err != nil {
			return err
		}
	}
	for i, u := range units {
		if u.Name == identity.Name {
			units[i] = c.Unit()
		}
	}
	return nil
}
