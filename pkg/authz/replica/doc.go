// Package replica decides in the process of the service that asks: it follows the
// facts that decide (bindery.access.v1.ChangeService) and holds them in memory, so that
// an answer costs less than a microsecond and no call.
//
// It keeps the promise of the checker that it stands beside: once a change was
// acknowledged, no answer is from before it. How a replica takes part in that:
//
//   - It answers only while it has the right to, which the server grants for a
//     duration. The duration is counted from a reading of this process's clock that was
//     taken before the right was asked for, and the clock (CLOCK_BOOTTIME) is read again
//     for every question, before the facts are looked at. A process that was stopped, or
//     cut off, finds its right run out.
//   - It reports each revision after it has put it in force. The server acknowledges a
//     change when every replica that may answer has reported it.
//   - It never goes back in time while it has the right to answer: before it takes a
//     snapshot it gives the right up, and says so.
//   - What ends (a binding, a subject, a token) is judged by the store's clock: by what
//     the server told with the right and what has passed since that was asked for, which
//     is never earlier than the store's time.
//
// While it has no right to answer, every answer is UNAVAILABLE: after the start until the
// facts are there, and whenever the server is out of reach for longer than the right lasts
// (5 seconds). It comes back by itself.
//
// A replica of an organization knows what decides there and nothing else: a resource of
// another organization does not exist for it.
package replica
