// Package accessbindings is the unit that owns the facts which decide: the tree
// of resources, the roles bound to subjects on them, the states, memberships and
// revoked tokens of subjects. It answers the check from them.
//
// It serves yandex.cloud.priv.accessservice.v2.AccessService (authorize.go) and
// yandex.cloud.iam.v1.RoleService (roles.go) to everybody, and to the other units
// bindery.access.v1: AccessBindingService (bindings.go), ResourceService
// (resources.go), SubjectService (subjects.go), OperationLogService
// (operations.go).
//
// A write is an intent, a typed value. The committer (committer.go) locks the head
// of the store, has the intent planned on that state (change_*.go, by the rules of
// package rules), and stores what the plan says: entries of the change log, and
// from each of them the rows (changelog.go), with the audit record and the
// operation, in one transaction. Then it puts the same entries into the graph
// (translate.go, graph.go; the engine is pkg/checker), and only then answers. On
// start the graph is loaded from the rows (load.go). Checks read the graph alone.
//
// Tables: access_revision, access_resources, access_bindings, access_subjects,
// access_members, access_revoked_tokens, access_changes, and those that the kit
// keeps for the unit. One process at a time answers checks over them.
//
// Rules by number: AB, AS, SU, PG and OW in package rules and where they need
// state in change_bindings.go and change_subjects.go; RH-1 and RH-2 in
// resources.go; RH-3 to RH-9, SU-7, SU-8 and GR-3 in pkg/checker; AU-1 to AU-5 in
// events.go; TK-3 in subjects.go.
package accessbindings
