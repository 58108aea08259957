// Package samltest is an identity provider for tests: that of github.com/crewjam/saml,
// which answers as it is told to, and the ways in which answers are forged.
package samltest
