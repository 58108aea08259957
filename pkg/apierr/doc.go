// Package apierr is the one error type of bindery and its way to the wire.
//
// A rule, a store or a handler returns an *Error, wrapped by whoever adds where
// it happened. Edge turns any error into the status that may leave: the inner
// *Error with its own message and details, a context error by its code, and
// anything else as INTERNAL "internal error", so that no text meant for a log
// reaches a caller. FromRPC does the same for what another unit answered.
//
// Every refusal carries google.rpc.ErrorInfo{reason, domain "bindery"}: callers
// branch on the reason, people read the message. It is the only package, with
// tests, that knows google.golang.org/grpc/status.
package apierr
