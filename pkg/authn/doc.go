// Package authn says who calls: IAM tokens of subjects, credentials of units,
// and the Principal that a handler reads from its context.
//
// An IAM token reads t1.<claims>.<signature>: protobuf claims
// (bindery.identity.v1.TokenClaims) and an Ed25519 signature over a domain and
// the claims, each in base64url without padding, at most 1,024 characters. Every
// token has exactly one spelling. Any process verifies it by the issuer's public
// keys; that it was revoked, or its subject suspended, is a fact of the checker's
// graph and not known here.
//
// A unit proves itself to another unit of the suite by a short-lived statement
// in the metadata key bindery-unit, signed by its process's key.
package authn
