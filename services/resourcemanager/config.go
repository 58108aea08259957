package resourcemanager

import (
	"cmp"
	"fmt"
	"time"
)

// Config is what an operator may change. A zero field means its default.
type Config struct {
	// DeletionDelay is how long a deletion whose request names no time is pending
	// (DL-3, C-2).
	DeletionDelay time.Duration `help:"How long a deletion is pending when the request does not say." default:"24h"`
}

// Validate reports what is wrong with the configuration.
func (c Config) Validate() error {
	if c.DeletionDelay < 0 {
		return fmt.Errorf("deletion delay: %s is negative", c.DeletionDelay)
	}
	return nil
}

func (c Config) withDefaults() Config {
	c.DeletionDelay = cmp.Or(c.DeletionDelay, 24*time.Hour)
	return c
}
