// Package request is an engine for requests that people decide: somebody asks for a
// thing and says why, both sides write to each other, those who may decide approve or
// reject, and what was approved can be taken back. What the thing is, who may
// decide, and what follows in the world is the unit's, which says it once:
//
//   - A Grid says which side may do what in which state (state.go). The states and
//     the ways between them are the engine's, one table.
//   - Steps say how many must approve, one step after another.
//   - A Consequence makes a decision true: it grants what was approved and withdraws
//     what was taken back. It is called by a durable job that was written in the
//     transaction of the decision, and looks at where the request stands by then.
//
// A requester has at most one live request for an aspect of a thing, PENDING or
// APPROVED; a unique index sees to it. Every action is taken on the locked row, so that of two at
// once one wins and the other meets the state that it left. An action that was
// taken before succeeds again without a change.
//
// Messages are package thread, whose threads have the ids of requests.
package request
