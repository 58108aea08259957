// Package idempotency makes a write happen once, however often its caller sends it.
//
// A caller names a write by a key of its own, in the metadata idempotency-key
// (over REST the header Idempotency-Key): 1 to 128 printable ASCII characters.
// The official clients send one with every call, and the same one again when they
// retry. What that means:
//
//   - The scope of a key is who calls (the subject, or the unit in a call of its
//     own), the full method, and the key. Both doors lead to one method, so they
//     share the scope; another caller's same key is another key.
//   - The same key with the same request has no second effect. It is answered as
//     the first one was: by the operation, as it stands now, or by the same message.
//     With another request it is INVALID_ARGUMENT, IDEMPOTENCY_KEY_REUSED.
//   - A key is kept for 24 hours from the write on. A write that was refused keeps
//     nothing: the retry is judged anew.
//   - Authorization runs for a replay as for any call. Only where it finds that the
//     resource is gone, by this very write perhaps, the caller is still given the
//     operation: its creator may see it anyway.
//   - A replay, like any success, tells of what is in force.
//
// It is the row of the key that decides. A write claims it first of all in its own
// transaction and fills it in at the end (Store.Operation, Store.Answer): of
// several at once one gets it, and the others wait for that one to commit, and
// replay, or to fail, and take its place. Hence a caller that does not know how its
// commit ended finds out by sending the same call again. Turns makes those of one
// process wait their turn before they get that far.
//
// The methods that honour keys are those that return an Operation, and those that
// their unit names (server.Parts.Keyed). All others ignore the header: they read, or
// exchange credentials, or do nothing new when repeated (OperationService.Cancel says
// OPERATION_DONE). A write that was accepted and failed later is answered by its
// failed operation, which is an error of the call.
//
// Of the key only hashes are kept. An answer that is kept as a message, since it
// shows a secret once, is sealed by a key derived from the caller's. Both are worth
// what the key is worth: a random UUID hides what it seals, a counter does not.
package idempotency
