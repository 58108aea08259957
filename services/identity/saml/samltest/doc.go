// Package samltest is an identity provider for tests, that of github.com/crewjam/saml: one
// that runs and has people (Server), one that answers as it is told to (Provider), and the
// ways in which answers are forged.
package samltest
