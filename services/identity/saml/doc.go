// Package saml holds what the unit identity needs for SAML federations apart from its
// API: the schema of their tables.
package saml
