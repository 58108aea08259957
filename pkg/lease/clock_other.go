//go:build !linux

package lease

import "time"

var started = time.Now()

// Boot reads Go's monotonic time, which elsewhere than on Linux may stand still
// while the machine sleeps: production runs on Linux.
func Boot() time.Duration { return time.Since(started) }
