package main

import (
	"google.golang.org/protobuf/proto"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

const groupService = "yandex.cloud.organizationmanager.v1.GroupService/"

var groupRPCs = []rpc{
	{
		method: groupService + "Get", on: group, guard: needs("organization-manager.groups.get"),
		request: func(n *node) proto.Message { return &orgv1.GetGroupRequest{GroupId: n.id} },
	},
	{
		method: groupService + "List", on: organization, child: group, prepare: haveGroup,
		guard:   guard{permission: "organization-manager.groups.list", items: "organization-manager.groups.get"},
		request: func(n *node) proto.Message { return &orgv1.ListGroupsRequest{OrganizationId: n.id} },
	},
	{
		method: groupService + "Create", on: organization, guard: needs("organization-manager.groups.create"),
		request: func(n *node) proto.Message { return &orgv1.CreateGroupRequest{OrganizationId: n.id, Name: "new"} },
	},
	{method: groupService + "Update", variant: "a basic one", on: group, guard: needs("organization-manager.groups.update"), request: describeGroup},
	{
		method: groupService + "Update", variant: "an external one", on: group, prepare: becomeExternal,
		guard: needs("organization-manager.groups.updateExternal"), request: describeGroup,
	},
	{method: groupService + "Delete", variant: "a basic one", on: group, guard: needs("organization-manager.groups.delete"), request: deleteGroup},
	{
		method: groupService + "Delete", variant: "an external one", on: group, prepare: becomeExternal,
		guard: needs("organization-manager.groups.updateExternal"), request: deleteGroup,
	},
	{method: groupService + "UpdateMembers", variant: "of a basic one", on: group, guard: needs("organization-manager.groups.updateMembers"), request: joinGroup},
	{
		method: groupService + "UpdateMembers", variant: "of an external one", on: group, prepare: becomeExternal,
		guard: needs("organization-manager.groups.updateExternal"), request: joinGroup,
	},
	{
		method: groupService + "ListMembers", on: group, guard: needs("organization-manager.groups.listMembers"),
		request: func(n *node) proto.Message { return &orgv1.ListGroupMembersRequest{GroupId: n.id} },
	},
	{
		method: groupService + "ListOperations", on: group, guard: needs("organization-manager.groups.get"),
		request: func(n *node) proto.Message { return &orgv1.ListGroupOperationsRequest{GroupId: n.id} },
	},
	{
		method: groupService + "ListAccessBindings", on: group, guard: needs("organization-manager.groups.listAccessBindings"),
		request: func(n *node) proto.Message { return &accesspb.ListAccessBindingsRequest{ResourceId: n.id} },
	},
	{
		method: groupService + "SetAccessBindings", on: group, guard: needs("organization-manager.groups.updateAccessBindings"),
		request: setPublic("viewer"),
	},
	{
		method: groupService + "UpdateAccessBindings", on: group, guard: needs("organization-manager.groups.updateAccessBindings"),
		request: updatePublic("viewer"),
	},
	{
		method: groupService + "ListEffective", variant: "in an organization", on: organization, guard: needs("organization-manager.users.listGroups"),
		request: func(n *node) proto.Message {
			return &orgv1.ListEffectiveRequest{SubjectId: n.owner.id, OrganizationId: n.id}
		},
	},
	{
		method: groupService + "ListEffective", variant: "everywhere", guard: anySubject, // and sees those of organizations where it may ask
		request: func(n *node) proto.Message { return &orgv1.ListEffectiveRequest{SubjectId: n.w.foreigner.id} },
	},
	{
		method: "yandex.cloud.operation.OperationService/Get", variant: "on a group", on: group,
		guard: needs("organization-manager.groups.get"), request: operationOf,
	},
}

// externalGroupRPCs work on a federation as well. What two permissions guard is
// called twice: with one of them given to everybody, so that the other one decides.
var externalGroupRPCs = []rpc{
	{
		method: groupService + "ResolveExternal", on: federation, prepare: haveExternal, guard: needs("organization-manager.federations.listExternalGroups"),
		request: func(n *node) proto.Message {
			return &orgv1.ResolveExternalGroupRequest{SubjectContainerId: n.id, ExternalId: n.other.id}
		},
	},
	{
		method: groupService + "ListExternal", on: federation, prepare: haveExternal, guard: needs("organization-manager.federations.listExternalGroups"),
		request: func(n *node) proto.Message { return &orgv1.ListExternalGroupsRequest{SubjectContainerId: n.id} },
	},
	{
		method: groupService + "ConvertAllToBasic", on: federation, prepare: haveExternal, guard: needs("organization-manager.federations.unbindExternalGroups"),
		request: func(n *node) proto.Message { return &orgv1.ConvertAllToBasicGroupsRequest{SubjectContainerId: n.id} },
	},
	{
		method: groupService + "CreateExternal", variant: "in an organization", on: organization, guard: needs("organization-manager.groups.createExternal"),
		prepare: func(n *node) {
			n.other = n.w.child(n, federation)
			n.w.open("organization-manager.federations.extGroupsManager", n)
		},
		request: func(n *node) proto.Message { return createExternal(n, n.other) },
	},
	{
		method: groupService + "CreateExternal", variant: "of a federation", on: federation, guard: needs("organization-manager.federations.bindExternalGroups"),
		prepare: func(n *node) { n.w.open("organization-manager.groups.externalCreator", n.parent) },
		request: func(n *node) proto.Message { return createExternal(n.parent, n) },
	},
	{
		method: groupService + "ConvertToExternal", variant: "a group", on: group, guard: needs("organization-manager.groups.convertToExternal"),
		prepare: func(n *node) {
			n.other = n.w.child(n.parent, federation)
			n.w.open("organization-manager.federations.extGroupsManager", n.parent)
		},
		request: func(n *node) proto.Message { return convertGroup(n, n.other) },
	},
	{
		method: groupService + "ConvertToExternal", variant: "to one of a federation", on: federation,
		guard: needs("organization-manager.federations.bindExternalGroups"),
		prepare: func(n *node) {
			n.other = n.w.child(n.parent, group)
			n.w.open("organization-manager.groups.externalConverter", n.other)
		},
		request: func(n *node) proto.Message { return convertGroup(n.other, n) },
	},
}

var analysisRPCs = []rpc{
	{
		method: "yandex.cloud.iam.v1.AccessAnalyzerService/ListSubjectAccessBindings", on: organization,
		guard: needs("organization-manager.organizations.listSubjectAccessBindings"),
		request: func(n *node) proto.Message {
			return &iamv1.ListSubjectAccessBindingsRequest{SubjectId: n.owner.id, OrganizationId: n.id}
		},
	},
	{
		method: "bindery.access.v1.RoleCatalogService/GetRoleContents", guard: anySubject,
		request: fixed(&accessv1.GetRoleContentsRequest{RoleId: "viewer"}),
	},
	{
		method: "bindery.access.v1.RoleCatalogService/ListRolesByPermission", guard: anySubject,
		request: fixed(&accessv1.ListRolesByPermissionRequest{Permission: "resource-manager.folders.get"}),
	},
	{
		method: "bindery.access.v1.RoleCatalogService/ListAssignableRoles", guard: anySubject,
		request: fixed(&accessv1.ListAssignableRolesRequest{ResourceType: string(folder)}),
	},
}

func haveGroup(n *node) { n.w.child(n, group) }

// haveExternal makes an external group of a federation.
func haveExternal(n *node) {
	n.other = n.w.child(n.parent, group)
	_, err := orgv1.NewGroupServiceClient(n.w.Conn).ConvertToExternal(n.w.as(n.owner), convertGroup(n.other, n))
	n.w.must(err)
}

// becomeExternal makes a group one of a federation.
func becomeExternal(n *node) {
	_, err := orgv1.NewGroupServiceClient(n.w.Conn).ConvertToExternal(n.w.as(n.owner), convertGroup(n, n.w.child(n.parent, federation)))
	n.w.must(err)
}

func convertGroup(g, federation *node) *orgv1.ConvertToExternalGroupRequest {
	return &orgv1.ConvertToExternalGroupRequest{GroupId: g.id, SubjectContainerId: federation.id, ExternalId: g.id}
}

func createExternal(organization, federation *node) *orgv1.CreateExternalGroupRequest {
	return &orgv1.CreateExternalGroupRequest{OrganizationId: organization.id, Name: organization.w.unique(), SubjectContainerId: federation.id, ExternalId: "x"}
}

func describeGroup(n *node) proto.Message {
	return &orgv1.UpdateGroupRequest{GroupId: n.id, UpdateMask: mask("description"), Description: "changed"}
}

func deleteGroup(n *node) proto.Message { return &orgv1.DeleteGroupRequest{GroupId: n.id} }

func joinGroup(n *node) proto.Message {
	return &orgv1.UpdateGroupMembersRequest{GroupId: n.id, MemberDeltas: []*orgv1.MemberDelta{{Action: orgv1.MemberDelta_ADD, SubjectId: n.owner.id}}}
}

// open gives a role to everybody, by the owner of the resource.
func (w *accessWorld) open(role string, on *node) {
	w.t.Helper()
	all := addition(role, person{})
	all.AccessBinding.Subject = &accessv1.Subject{Type: "system", Id: "allAuthenticatedUsers"}
	_, err := accessv1.NewAccessBindingServiceClient(w.Conn).UpdateAccessBindings(w.as(on.owner), &accessv1.UpdateAccessBindingsRequest{
		Resource: on.resource(), AccessBindingDeltas: []*accessv1.AccessBindingDelta{all},
	})
	w.must(err)
}
