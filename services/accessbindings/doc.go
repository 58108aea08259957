// Package accessbindings is the unit that owns the facts which decide: the tree
// of resources, the roles bound to subjects on them, groups, grant policies, the access
// policies that deny, who pays for a cloud, and the states, memberships and revoked
// tokens of subjects. It answers the check from them.
//
// It serves to everybody yandex.cloud.priv.accessservice.v2.AccessService (authorize.go,
// bulk.go, and fast.go for what is usual), yandex.cloud.iam.v1.RoleService (roles.go),
// AccessPolicyTemplateService (templates.go) and AccessAnalyzerService (analyzer.go),
// yandex.cloud.organizationmanager.v1.GroupService (groups.go, group_access.go,
// group_lists.go), and of bindery.access.v1 AccessBindingService (bindings.go),
// AccessPolicyService (policies.go), RoleCatalogService (role_catalog.go),
// GrantPolicyService (grant_policies.go), PermissionService (permissions.go, explain.go,
// lists.go, preview.go), RoleRequestService (role_requests.go, role_request_*.go) and
// ChangeService, which services elsewhere follow to decide by
// themselves (changes.go, follow_*.go, followers.go). To the other units alone it serves
// bindery.access.v1 ResourceService (resources.go), GrantService (grants.go),
// SubjectService (subjects.go, members.go), PayerService (payers.go),
// OperationLogService (operations.go) and AudienceService (audience.go).
//
// A write is an intent, a typed value. The committer (committer.go) takes those that
// wait (batch.go), locks the head of the store, has each planned on that state
// (change_*.go, by the rules of package rules), and stores what the plans say: entries
// of the change log, and from each of them the rows (changelog.go), with the audit
// records and the operations, in one transaction. Then it puts the same entries into the
// graph (translate.go, graph.go; the engine is pkg/checker), and answers when every
// replica and follower has them or may answer no more (replicas.go, followers.go;
// pkg/lease). On start the graph is loaded from the rows (load.go). Checks read the
// graph alone. A database that lost commits begins another line (line.go). The
// historian makes of the log what questions about the past read (history.go, past.go,
// moments.go).
//
// Tables: access_revision, access_resources, access_bindings, access_subjects,
// access_members, access_groups, access_grant_policies, access_grant_places,
// access_assignments, access_policies, access_payers, access_stopped_payers,
// access_revoked_tokens, access_ended_grants, access_changes, access_history,
// access_history_head, access_replicas, access_upgrades, and those that the kit keeps
// for the unit, accessbindings_requests and _threads among them. On PostgreSQL several processes answer over them.
//
// Rules by number: AB, AS, SU, PG, OW, AP and SC in package rules, and where they need
// state AB and OW in change_bindings.go and change_subjects.go, AP in
// change_policies.go, SC in change_grant_policies.go, grant_policy.go and
// default_groups.go; GR in change_members.go, change_groups.go and
// change_group_members.go; QL in limits.go, AB-13 in assignments.go; RH-1 and RH-2 in
// resources.go; RH-3 to RH-9, SU-7, SU-8 and GR-3 in pkg/checker; AU-1 to AU-5 in
// events.go; TK-3 in subjects.go; EX beside the questions, EX-7 in authorize.go, EX-8
// in sealed.go and denied.go, EX-9 in moments.go; NT in audience.go; RQ in role_request_rules.go, role_requests.go,
// role_request_ends.go, role_request_tell.go and change_requested_role.go; BI-1 and PT-30 in
// payers.go.
package accessbindings
