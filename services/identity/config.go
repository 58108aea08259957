package identity

import (
	"errors"
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/services/identity/outbound"
)

// Config is what an operator may change. A zero field means its default.
type Config struct {
	// InvitationLife is how long an invitation can be answered after it was sent.
	InvitationLife time.Duration `help:"How long an invitation can be answered." default:"168h"`

	// SessionLife is how long a login session lasts, however much it is used.
	SessionLife time.Duration `help:"How long a login session lasts." default:"720h"`

	// Issuers says where token issuers and identity providers may be.
	Issuers outbound.Config
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
	return errors.Join(append(problems, c.Issuers.Validate())...)
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
