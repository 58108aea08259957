// Package jwt reads the JSON Web Tokens that are exchanged for IAM tokens: what the
// holder of an authorized key makes (SK-3), in the one form in which the official
// clients make it. It is pure: it is told the time and the public key.
//
// The form, of which nothing is negotiable:
//
//   - the compact serialization of a JWS (RFC 7515), at most MaxLen characters, in
//     the one spelling that base64url has for it: no padding, no white space, no
//     spare bits;
//   - a header of alg, which is PS256, kid, and typ, which is JWT where it is there;
//     every other header parameter is refused, so that no key, no compression and no
//     extension can be suggested (RFC 8725, 3.1, 3.10);
//   - claims iss, the account that the key belongs to; aud, a text or an array of
//     them, one of which names this installation; iat and exp, numbers, no more than
//     MaxLife apart; where they are there, nbf is a number and sub the same as iss.
//     Claims that are not known say nothing (RFC 7519, 4). No name stands twice.
//
// Clocks may differ by Leeway. A token may be used again while it is good: the
// clients repeat theirs (TK-2), and it proves no more than the key does.
//
// The signature is verified by go-jose, with an automatic salt length, and the JSON
// is read by its decoder, which matches names exactly and refuses repeated ones. A
// refusal costs the reading of MaxLen characters, and one verification where key and
// account are right; it never costs more memory than a few times the text.
package jwt
