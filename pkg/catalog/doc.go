// Package catalog holds what roles and permissions there are: which role holds
// which permission, where a role may be set, on what type of resource a
// permission is checked, and what the templates of access policies deny. It is data
// (roles.yaml, permissions.yaml, policies.yaml), so that a reviewer sees each grant
// as one line; the expanded matrix of roles and permissions stands in
// testdata/matrix.golden.
//
// The data is parsed strictly and checked as a whole when it is loaded: an
// inclusion of a role that does not exist, a cycle, a permission that nobody
// catalogued or a count that does not match stops the process that loads it.
//
// The package decides nothing. Who may do what is package checker's; who may
// give what is for the rules of the service that owns the access bindings.
package catalog
