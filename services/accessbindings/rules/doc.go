// Package rules says who may give what role to whom, and where. It is pure:
// values in, an error out; no store, no clock, no logger.
//
// A call changes pairs of role and subject on one resource. Each pair that would
// really change passes May, in this order: the role may be set by hand at all,
// it is not withdrawn, it fits the type of the resource, the subject may hold
// it, and whoever asks may assign it. Then the call as a whole must leave an
// owner (OwnerRemains). Which role grants which permission is data of the
// catalogue: AS-1 to AS-8 and OW-5 to OW-8 come down to the permissions that the
// rules ask for, and to who holds them.
//
// What is looked for by number stands in the line above its function; all
// refusals stand in one block at the end of rules.go.
package rules
