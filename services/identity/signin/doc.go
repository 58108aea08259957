// Package signin is what people and programs meet who sign in: the pages under /login
// and /device, and what the providers send back there. It knows OpenID Connect, cookies
// and HTML; who somebody is and what a session is, it asks of its Directory.
//
// A sign-in, OpenID Connect Core 3.1 with PKCE (RFC 7636, S256):
//
//	GET /login/NAME           → the provider, with state, nonce and challenge; what
//	                            belongs to them goes into a sealed cookie of ten minutes
//	GET /login/callback/NAME  ← the answer: state as in the cookie and not seen before,
//	                            iss as expected (RFC 9207), the code exchanged, the ID
//	                            token's signature, issuer, audience, end and nonce
//	                            verified by the keys that the provider has now
//
// The redirect URI is another one for each provider, and exact. Nothing of a sign-in
// under way lies in a process: any replica of identity goes on with it, after a restart
// too.
//
// Cookies: the session's holds its refresh token, sealed, and is good on these pages
// alone. The token is never spent, it proves the session. REST never takes a cookie, so that no other site can call it: a page that needs
// an IAM token gets one by POST /login/iam-token. Over https cookies have the prefix
// __Host-; all are HttpOnly and SameSite=Lax.
//
// Programs (RFC 8252): `bindery login` opens /login/authorize, which asks the person
// who is signed in, and sends a code to a loopback address. The program exchanges it at
// POST /login/token, by PKCE, for a session of its own. One without a browser shows the
// person a code to type in at /device (RFC 8628).
//
// Every page forbids being framed and cached, carries no script, and refuses forms that
// another site sends.
package signin
