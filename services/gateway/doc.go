// Package gateway is the unit at the edge: REST for every public method, the
// OpenAPI description with a page to browse it, and the list of endpoints that
// the official clients read first.
//
// It owns no tables and decides nothing. A REST call becomes a gRPC call over a
// real connection to the same port that gRPC clients use, with the caller's own
// token and without any credential of the gateway, so that a caller over REST
// passes the same chain and can do exactly what it can do over gRPC.
//
// Where units run as processes of their own the gateway is the address of all: it
// passes a gRPC call to the unit that owns its service, unread and with the
// caller's own token, and the answer back as it came (routes.go). Methods that are
// for units alone are not reached through it.
//
// What is at the URLs of sign-in, OAuth and SAML is no call of the API: the gateway
// sends such a request to identity as it came (web.go), by its own credential, since
// identity takes from it where the request came from.
//
// Only a few request headers travel on (rest.go, forwardedHeaders); none of
// them but authorization has a say in who the caller is.
package gateway
