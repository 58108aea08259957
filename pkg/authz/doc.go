// Package authz admits calls by the rule written beside each RPC
// (bindery.authz.v1.rule), before the handler runs.
//
// NewTable reads the rules of the services that a process registers and fails,
// with everything wrong at once, when one is missing, contradicts itself, or
// names a permission, field or resolver that does not exist: such a process does
// not start. Method.Authorize then judges one call: public methods pass; internal
// ones admit units by name; the others ask a Decider, which is the checker's
// AccessService (Client) or, inside accessbindings, the checker itself. Nobody to
// ask means UNAVAILABLE, never a pass. A handler holds no authorization line, but
// for lists, which ask for each item (Decider.AuthorizeEach) and read Withheld.
package authz
