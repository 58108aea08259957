package main

import (
	"fmt"
	"time"

	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/services/accessbindings"
)

// historyFlags say how long it is known who could do what.
type historyFlags struct {
	HistoryRetention time.Duration `default:"0" placeholder:"DURATION" help:"How long the history of access is kept for questions about the past, such as 2160h, at least 1h; 0 means for ever (${default})."`
}

// set puts the configured unit in the place of the one of the list.
func (f historyFlags) set(units []server.Unit) error {
	c := accessbindings.Config{HistoryRetention: f.HistoryRetention}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("--history-retention: %w", err)
	}
	for i, u := range units {
		if u.Name == accessbindings.Name {
			units[i] = c.Unit()
		}
	}
	return nil
}
