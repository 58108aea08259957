// Package checker decides whether a subject may do something to a resource. It
// is pure: no input or output, no clock, no logger, no goroutine of its own; any
// Go program can import it.
//
// The decision:
//
//  1. A permission that no catalogue names, or a token that is void or came from a
//     void session, is answered no.
//  2. A subject that is unknown, suspended, deleted or past its end is answered no.
//  3. A resource that is unknown or removed is answered no.
//  4. A subject acts under its identities: itself; the two public groups; every
//     group that it is in, directly or by groups in groups; and, unless it is a
//     service account, the users of the organizations, federations and user pools
//     that it is in (SU-7, SU-8, PG-1, PG-2, GR-3).
//  5. A role bound to one of these identities on the resource or on anything above
//     it, and not past its end, grants the permissions of that role (RH-3, RH-4).
//  6. Among granted permissions, one that an access policy on the resource or
//     above it denies is answered no, to owners too (AP-1, AP-10); so is one that
//     a policy on a child of the resource denies on its parent (AP-8). So is what a
//     stopped payer takes away, on what it pays for and below that (PT-30).
//  7. What is granted and not denied is answered yes.
//  8. Everything else is answered no (RH-8).
//
// A Graph holds the facts and is changed by Apply, one revision at a time, all
// changes of a revision at once. Each revision is an immutable View: what a
// revision does not touch it shares with the one before, and Apply puts the new
// one in place by a single atomic store. A decision reads one View from beginning
// to end. So it waits for no writer and delays none; it never sees half a
// revision, nor one part of the facts older than another, whatever the order of
// the changes; and it sees every revision whose Apply returned before it began.
// It costs a hash look-up for the subject and one for the resource, then a few
// steps for each resource on the path; nothing that lies beside the path counts.
package checker
