package main

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

const invitationService = "bindery.identity.v1.InvitationService/"

// noInvitation is the id of nothing: what an answer does is for the invited alone.
const noInvitation = "inv00000000000000000"

var invitationRPCs = []rpc{
	{
		method: invitationService + "CreateInvitations", on: organization, guard: needs("organization-manager.invitations.create"),
		request: func(n *node) proto.Message {
			return &identityv1.CreateInvitationsRequest{OrganizationId: n.id, Emails: []string{n.w.unique() + "@example.org"}}
		},
	},
	{
		method: invitationService + "ResendInvitation", on: organization, prepare: inviteSomebody, guard: needs("organization-manager.invitations.create"),
		request: func(n *node) proto.Message { return &identityv1.ResendInvitationRequest{InvitationId: n.invitation} },
	},
	{
		method: invitationService + "GetInvitation", on: organization, prepare: inviteSomebody, guard: needs("organization-manager.invitations.list"),
		request: func(n *node) proto.Message { return &identityv1.GetInvitationRequest{InvitationId: n.invitation} },
	},
	{
		method: invitationService + "ListInvitations", on: organization, prepare: inviteSomebody, guard: needs("organization-manager.invitations.list"),
		request: func(n *node) proto.Message { return &identityv1.ListInvitationsRequest{OrganizationId: n.id} },
	},
	{
		method: invitationService + "DeleteInvitation", on: organization, prepare: inviteSomebody, guard: needs("organization-manager.invitations.delete"),
		request: func(n *node) proto.Message { return &identityv1.DeleteInvitationRequest{InvitationId: n.invitation} },
	},
	{
		method: invitationService + "ListIncomingInvitations", guard: anySubject, // and sees its own
		request: fixed(&identityv1.ListIncomingInvitationsRequest{}),
	},
	{
		method: invitationService + "AcceptInvitation", guard: anySubject, inside: codes.NotFound,
		request: fixed(&identityv1.AcceptInvitationRequest{InvitationId: noInvitation}),
	},
	{
		method: invitationService + "RejectInvitation", guard: anySubject, inside: codes.NotFound,
		request: fixed(&identityv1.RejectInvitationRequest{InvitationId: noInvitation}),
	},
}

const userService = "yandex.cloud.organizationmanager.v1.UserService/"

var memberRPCs = []rpc{
	{
		method: userService + "ListMembers", on: organization, guard: needs("organization-manager.users.list"),
		request: func(n *node) proto.Message { return &orgv1.ListMembersRequest{OrganizationId: n.id} },
	},
	{
		method: userService + "DeleteMembership", on: organization, prepare: haveMember, guard: needs("organization-manager.users.delete"),
		request: func(n *node) proto.Message {
			return &orgv1.DeleteMembershipRequest{OrganizationId: n.id, SubjectId: n.member.id}
		},
	},
	{
		method: userService + "DeleteMembership", variant: "of oneself", guard: anySubject, inside: codes.NotFound, // who is a member of nothing
		request: fixed(&orgv1.DeleteMembershipRequest{OrganizationId: "org00000000000000000"}),
	},
}

const detailsService = "yandex.cloud.iam.v1.SubjectDetailsService/"

var detailRPCs = []rpc{
	{
		method: detailsService + "Get", variant: "in an organization", on: organization, guard: needs("organization-manager.users.list"),
		request: func(n *node) proto.Message {
			return &iamv1.GetSubjectRequest{SubjectId: n.owner.id, ResourceContext: n.context()}
		},
	},
	{
		method: detailsService + "Get", variant: "anywhere", guard: anySubject,
		request: fixed(&iamv1.GetSubjectRequest{SubjectId: "allUsers"}),
	},
	{
		method: detailsService + "List", on: organization, guard: needs("organization-manager.users.list"),
		request: func(n *node) proto.Message { return &iamv1.ListSubjectsRequest{ResourceContext: n.context()} },
	},
	{
		method: detailsService + "BatchGet", variant: "in an organization", on: organization, guard: needs("organization-manager.users.list"),
		request: func(n *node) proto.Message {
			return &iamv1.BatchGetSubjectsRequest{SubjectIds: []string{n.owner.id}, ResourceContext: n.context()}
		},
	},
	{
		method: detailsService + "BatchGet", variant: "anywhere", guard: anySubject,
		request: fixed(&iamv1.BatchGetSubjectsRequest{SubjectIds: []string{"allUsers"}}),
	},
}

// context is the node as what subjects are asked about.
func (n *node) context() *iamv1.Resource { return &iamv1.Resource{Type: string(n.kind), Id: n.id} }

// haveMember makes somebody a member of an organization.
func haveMember(n *node) {
	n.member = n.w.person()
	_, err := accessv1.NewSubjectServiceClient(n.w.units["identity"]).UpdateMembers(n.w.t.Context(), &accessv1.UpdateMembersRequest{
		Container: n.resource(), Add: []*accessv1.Subject{n.member.subject()},
	})
	n.w.must(err)
}

// userRPCs are what the operator does with users.
var userRPCs = []rpc{
	{
		method: "bindery.identity.v1.OperatorService/ListUsers", guard: guard{operator: true},
		request: fixed(&identityv1.ListUsersRequest{}),
	},
	{
		method: "bindery.identity.v1.OperatorService/SuspendUser", guard: guard{operator: true},
		request: func(n *node) proto.Message { return &identityv1.SuspendUserRequest{Login: n.w.person().login} },
	},
	{
		method: "bindery.identity.v1.OperatorService/ReactivateUser", guard: guard{operator: true},
		request: func(n *node) proto.Message { return &identityv1.ReactivateUserRequest{Login: n.w.person().login} },
	},
	{
		method: "bindery.identity.v1.OperatorService/DeleteUser", guard: guard{operator: true},
		request: func(n *node) proto.Message { return &identityv1.DeleteUserRequest{Login: n.w.person().login} },
	},
	{
		method: "bindery.identity.v1.OperatorService/LinkUser", guard: guard{operator: true},
		request: func(n *node) proto.Message {
			return &identityv1.LinkUserRequest{Login: n.w.person().login, Issuer: "https://sso.example", Subject: n.w.unique()}
		},
	},
	{
		method: "bindery.identity.v1.OperatorService/UnlinkUser", guard: guard{operator: true},
		request: func(n *node) proto.Message {
			req := &identityv1.UnlinkUserRequest{Issuer: "https://sso.example", Subject: n.w.unique()}
			_, err := identityv1.NewOperatorServiceClient(n.w.socket).LinkUser(n.w.t.Context(), &identityv1.LinkUserRequest{
				Login: n.w.person().login, Issuer: req.GetIssuer(), Subject: req.GetSubject(),
			})
			n.w.must(err)
			return req
		},
	},
	{
		method: "bindery.identity.v1.WebService/Serve", guard: guard{units: []string{"gateway"}},
		request: fixed(&identityv1.ServeRequest{Method: "GET", Target: []byte("/login")}),
	},
}

// inviteSomebody makes an invitation to an organization, which becomes the node's.
func inviteSomebody(n *node) {
	op, err := identityv1.NewInvitationServiceClient(n.w.Conn).CreateInvitations(n.w.as(n.owner), &identityv1.CreateInvitationsRequest{
		OrganizationId: n.id, Emails: []string{n.w.unique() + "@example.org"},
	})
	n.w.must(err)
	meta := new(identityv1.CreateInvitationsMetadata)
	n.w.must(op.GetMetadata().UnmarshalTo(meta))
	n.invitation = meta.GetInvitationIds()[0]
}
