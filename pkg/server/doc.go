// Package server runs units: services that share one process, one port and one
// chain of interceptors.
//
// The chain is written once (chain.go), in this order: metrics, request id and
// log, recovery, error edge, authentication, authorization, validation, handler.
// A unit gives constructors, not interceptors: its Build returns what to register
// and is never asked again. What a unit calls it reaches by Base.Peer, a real gRPC
// connection through the same chain, also when both live in one process.
//
// A unit may be a process of its own: then its peers are reached by TLS or, on
// loopback, in plaintext, with the same credentials and chain. A unit at the edge,
// the one that clients know, names the services of all others (Parts.Routes), and
// the process passes their calls on to where they are served (route.go).
//
// A request has one id and one trace, which travel with its calls to other units, as
// x-request-id and traceparent. Spans are made where Options.Traces is set (trace.go).
//
// Of the official clients' demands this package keeps: TLS and plaintext h2c on
// one port, pings every 20 seconds, ids in headers on success and in the trailer
// and google.rpc.RequestInfo on failure.
package server
