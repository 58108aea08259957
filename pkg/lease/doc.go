// Package lease is the rule by which a process may answer from memory while others
// change what it remembers (design §6). A replica holds a lease that it renews in a
// store that all share; whoever changes something acknowledges it after every
// replica with a living lease has applied it, or is dead. The rule is safe without
// any two clocks agreeing on the time:
//
//   - Only durations are measured, each on one clock, and that clock goes on while
//     the machine sleeps (CLOCK_BOOTTIME). No clock is compared with another.
//   - A replica counts its lease from a reading taken before it sent the renewal:
//     the renewal is in the store later than that, never earlier.
//   - It reads the clock again for every answer, after the request has arrived and
//     before it looks at what it remembers. A flag set by a timer would not do: the
//     process may have been stopped since.
//   - A writer calls a replica dead when, on the writer's own clock, Duration and
//     Margin have passed since it first saw the latest renewal; then it takes the row
//     of the lease away, if the renewal is still the latest, so that one that comes
//     too late fails.
//
// What it does not cover: a machine that is stopped as a whole, by its hypervisor,
// between the reading for an answer and the packet that carries it.
package lease
