package notifications

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"slices"
	"time"
)

// Config is what an operator may change. A zero field means its default.
type Config struct {
	// SMTP is the server that takes mail; its zero value writes notices into the log
	// instead of sending them.
	SMTP SMTP

	// MailFrom is the sender of mail: an address, or a name and an address in angle
	// brackets. Required beside SMTP.
	MailFrom string

	// GiveUpAfter is how long a delivery is tried before it is dead.
	GiveUpAfter time.Duration

	// KeepFor is how long a notice is kept after it was taken; within it the same
	// notice is not taken again.
	KeepFor time.Duration

	// WebhookAllow are networks that webhooks may lead to beside public addresses.
	WebhookAllow []netip.Prefix

	// WebhookPorts are the ports that webhooks may lead to.
	WebhookPorts []uint16

	tls *tls.Config // of the servers that are called; nil means the authorities of the system
}

// Defaults of Config.
const (
	DefaultGiveUpAfter = 72 * time.Hour
	DefaultKeepFor     = 30 * 24 * time.Hour
)

func (c Config) withDefaults() Config {
	if c.GiveUpAfter == 0 {
		c.GiveUpAfter = DefaultGiveUpAfter
	}
	if c.KeepFor == 0 {
		c.KeepFor = DefaultKeepFor
	}
	if len(c.WebhookPorts) == 0 {
		c.WebhookPorts = []uint16{443, 8443}
	}
	return c
}

// split tells networks of the two versions apart.
func split(all []netip.Prefix) (v4, v6 []netip.Prefix) {
	for _, p := range all {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	return v4, v6
}

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var errs []error
	if c.SMTP.Host != "" {
		if _, err := mail.ParseAddress(c.MailFrom); err != nil {
			errs = append(errs, fmt.Errorf("the sender of mail, %q, is no address", c.MailFrom))
		}
	}
	if c.GiveUpAfter < 0 || c.KeepFor < 0 {
		errs = append(errs, errors.New("a time to give up, or to keep notices for, is negative"))
	}
	for _, p := range c.WebhookAllow {
		if !p.IsValid() || p.Addr().Is4In6() {
			errs = append(errs, fmt.Errorf("%v is no network of IPv4 or IPv6 that webhooks may lead to", p))
		}
	}
	if slices.Contains(c.WebhookPorts, 0) {
		errs = append(errs, errors.New("webhooks cannot lead to port 0"))
	}
	return errors.Join(errs...)
}
