// Package outbound reads what others publish at addresses that tenants name: keys of
// token issuers, their discovery documents, metadata of SAML providers.
//
// Whoever may name an address would have the server call it: its own machine, its
// network, the metadata service of its cloud. So a Client calls public addresses
// alone, by https, and judges each address when it is dialed, after the name was
// resolved: a name that leads elsewhere the second time gains nothing. It follows no
// redirect, asks no proxy, and ends every answer by size and time. Documents on top of
// it keeps what was read, reads a document once at a time and not more often than a
// period, and goes on with what it has for a while when it cannot be read again.
package outbound
