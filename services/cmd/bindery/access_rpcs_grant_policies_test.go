package main

import (
	"google.golang.org/protobuf/proto"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

const (
	grantPolicyService = "bindery.access.v1.GrantPolicyService/"
	seeGrants          = "organization-manager.organizations.listAccessBindings"
	manageGrants       = "organization-manager.organizations.updateAccessBindings"
)

// grantPolicyRPCs are the uses of grant policies (SC).
var grantPolicyRPCs = []rpc{
	{
		method: grantPolicyService + "GetGrantPolicy", on: organization, prepare: haveGrantPolicy, guard: needs(seeGrants),
		request: func(n *node) proto.Message { return &accessv1.GetGrantPolicyRequest{PolicyId: n.policy} },
	},
	{
		method: grantPolicyService + "ListGrantPolicies", on: organization, guard: needs(seeGrants),
		request: func(n *node) proto.Message { return &accessv1.ListGrantPoliciesRequest{OrganizationId: n.id} },
	},
	{method: grantPolicyService + "CreateGrantPolicy", on: organization, guard: needs(manageGrants), request: createGrantPolicy},
	{
		method: grantPolicyService + "UpdateGrantPolicy", on: organization, prepare: haveGrantPolicy, guard: needs(manageGrants),
		request: func(n *node) proto.Message {
			return &accessv1.UpdateGrantPolicyRequest{PolicyId: n.policy, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: grantPolicyService + "SetGrantPolicyRules", on: organization, prepare: haveGrantPolicy, guard: needs(manageGrants),
		request: func(n *node) proto.Message {
			return &accessv1.SetGrantPolicyRulesRequest{PolicyId: n.policy, Rules: grantRules("ProjectManager")}
		},
	},
	{
		method: grantPolicyService + "CloneGrantPolicy", on: organization, prepare: haveGrantPolicy, guard: needs(manageGrants),
		request: func(n *node) proto.Message { return &accessv1.CloneGrantPolicyRequest{PolicyId: n.policy} },
	},
	{
		method: grantPolicyService + "DeleteGrantPolicy", on: organization, prepare: haveGrantPolicy, guard: needs(manageGrants),
		request: func(n *node) proto.Message { return &accessv1.DeleteGrantPolicyRequest{PolicyId: n.policy} },
	},
	{method: grantPolicyService + "ListPermissionSets", guard: anySubject, request: fixed(&accessv1.ListPermissionSetsRequest{})},
}

func grantRules(set string) []*accessv1.GrantRule {
	return []*accessv1.GrantRule{{PermissionSets: []string{set}, Scope: &accessv1.GrantRule_Organization{Organization: true}}}
}

// createGrantPolicy gives something to whoever owns the organization.
func createGrantPolicy(n *node) proto.Message {
	return &accessv1.CreateGrantPolicyRequest{
		OrganizationId: n.id, Name: n.w.unique(), Tags: []string{"new"}, Rules: grantRules("ProjectReadOnly"),
		Principal: &accessv1.CreateGrantPolicyRequest_Subject{Subject: n.owner.subject()},
	}
}

// haveGrantPolicy makes a policy in an organization.
func haveGrantPolicy(n *node) {
	req, _ := createGrantPolicy(n).(*accessv1.CreateGrantPolicyRequest)
	op, err := accessv1.NewGrantPolicyServiceClient(n.w.Conn).CreateGrantPolicy(n.w.as(n.owner), req)
	n.w.must(err)
	n.policy = n.w.made(op, new(accessv1.GrantPolicy))
}
