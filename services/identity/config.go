package identity

import (
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/services/identity/outbound"
	"github.com/bindery-iam/bindery/services/identity/signin"
)

// Config is what an operator may change. A zero field means its default.
type Config struct {
	// InvitationLife is how long an invitation can be answered after it was sent.
	InvitationLife time.Duration `help:"How long an invitation can be answered." default:"168h"`

	// SessionLife is how long a login session lasts, however much it is used.
	SessionLife time.Duration `help:"How long a login session lasts." default:"720h"`

	// Issuers says where token issuers and identity providers may be.
	Issuers outbound.Config

	// PublicURL is where browsers find the HTTP port of the installation, without a path;
	// nothing is served to them when it is empty.
	PublicURL string `help:"Where browsers find the HTTP port."`

	// Providers are those that people sign in by. They need PublicURL.
	Providers []signin.Provider `kong:"-"`
}

// Defaults, and the longest life of a session.
const (
	defaultInvitationLife = 7 * 24 * time.Hour
	defaultSessionLife    = 30 * 24 * time.Hour
	maxSessionLife        = 366 * 24 * time.Hour
)

// Validate reports everything that is wrong with the configuration.
func (c Config) Validate() error {
	var problems []error
	if c.InvitationLife < 0 {
		problems = append(problems, fmt.Errorf("invitation life: %s is negative", c.InvitationLife))
	}
	if c.SessionLife != 0 && c.SessionLife < time.Minute || c.SessionLife > maxSessionLife {
		problems = append(problems, fmt.Errorf("session life: %s is not between a minute and %s", c.SessionLife, maxSessionLife))
	}
	problems = append(problems, c.Issuers.Validate())
	if c.PublicURL != "" {
		if err := signin.CheckPublicURL(c.PublicURL); err != nil {
			problems = append(problems, fmt.Errorf("public URL: %w", err))
		}
	} else if len(c.Providers) > 0 {
		problems = append(problems, errors.New("public URL: missing, and providers must know where to send people back"))
	}
	for _, p := range c.Providers {
		if err := p.Validate(); err != nil {
			problems = append(problems, fmt.Errorf("provider %s: %w", p.Name, err))
		}
	}
	return errors.Join(problems...)
}

func (c Config) withDefaults() Config {
	if c.InvitationLife == 0 {
		c.InvitationLife = defaultInvitationLife
	}
	if c.SessionLife == 0 {
		c.SessionLife = defaultSessionLife
	}
	return c
}
