// Package saml is this installation as a service provider of SAML 2.0: what a federation
// tells its identity provider, and what it takes for an answer of it. It keeps the schema
// of federations, too, beside the tables of the unit identity, which has their API.
//
// A sign-in is that of the Web Browser SSO Profile (saml-profiles-2.0, 4.1), begun here:
//
//	GET  /login/saml/ID           → the provider, by redirect or by a form that is posted
//	                                (saml-bindings-2.0, 3.4 and 3.5), with a signed request
//	POST /login/saml/ID/acs       ← the answer, posted
//	GET  /login/saml/ID/metadata  what a provider must know of the federation
//
// Each federation is an entity of its own: its metadata address is its entity id, so an
// answer for one federation is for another audience and recipient than one for the next.
// The pages are those of package signin.
//
// Verified by github.com/crewjam/saml: the signature of the answer or of its one
// assertion, by SHA-256 or better and a certificate of the federation that is in force;
// that all that is read is what was signed; issuer, destination, audience, recipient,
// InResponseTo, times by the clock of the installation, conditions. Refused here, before:
// what is too large, has a document type or processing instructions, or more than one
// assertion anywhere; and after: an assertion that was accepted before, one that is not
// encrypted where that is wanted, somebody who did not sign in anew where that is, and
// name ids that stand for nobody the next time.
package saml
