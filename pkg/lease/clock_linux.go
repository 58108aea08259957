package lease

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Boot reads CLOCK_BOOTTIME. Go's own monotonic time stands still while the machine
// sleeps, and a lease does not.
func Boot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil { // no Linux since 2.6.39
		return math.MaxInt64 // no lease is held then
	}
	return time.Duration(ts.Nano())
}
