package partner

import "time"

// Config is the configuration of the unit. Its zero value works.
type Config struct {
	// KeepFor is how long the data of a suspended account is kept; it cannot be resumed
	// after that (BI-6, PT-27, PT-29). 60 days when zero.
	KeepFor time.Duration
}

// defaultKeepFor is the number of the documents (PT-27).
const defaultKeepFor = 60 * 24 * time.Hour

func (c Config) withDefaults() Config {
	if c.KeepFor == 0 {
		c.KeepFor = defaultKeepFor
	}
	return c
}
