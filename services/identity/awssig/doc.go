// Package awssig verifies signatures of requests by access keys, as services that
// speak the AWS protocols are sent them: Signature Version 4, and Version 2 for old
// clients. It is pure: secret and time come from its caller.
//
// A signature proves that whoever has the secret signed that text, which such a
// service builds from the request as it came. The text says when it was signed,
// and a signature is good for 15 minutes to either side of that (Window). Beyond,
// it is a replay and refused. Within, the same signature is accepted again: it is
// bound to one request by the hash in its text, a service asks about it several
// times (who is it, may they), and clients send the same bytes again when an answer
// was lost. That is how AWS has it. A signed URL of Version 2 names its end itself,
// at most a week ahead; one of Version 4 does so outside of what a check is told,
// and is good for Window like any other.
//
// Every accepted text has one spelling: what its parameters say about time, date,
// region and service must be what stands in it.
package awssig
