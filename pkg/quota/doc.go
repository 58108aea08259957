// Package quota is what a unit needs to keep a limit on how much there may be of
// something: what the limit is, and how a call that would exceed it is refused
// (QL-2, QL-3).
//
// The catalogue names the quotas and their defaults. What an operator changed, for
// the installation or for one resource, resourcemanager knows; Limits asks it and
// keeps the answers for a minute. Who counts is the unit that stores what is
// counted: it locks the resource, counts, calls Check, and adds. It also tells the
// count to others by server.Parts.Usage.
//
// A limit that was lowered below what is in use only stops growth.
package quota
