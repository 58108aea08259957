package main

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
)

const (
	roleRequestRPC = "bindery.access.v1.RoleRequestService/"
	ticketRPC      = "bindery.support.v1.TicketService/"
	supportDesk    = "bindery.support.v1.OperatorService/"
)

// folderAccess is what whoever decides requests for roles on a folder holds.
var folderAccess = needs("resource-manager.folders.updateAccessBindings")

func roleRequestOn(n *node) *accessv1.CreateRoleRequestRequest {
	return &accessv1.CreateRoleRequestRequest{
		Resource: n.resource(), RoleId: "viewer", Reason: "To look.", Term: &accessv1.CreateRoleRequestRequest_Duration{Duration: durationpb.New(time.Hour)},
	}
}

// roleAsked has a member of the organization ask for a role on a folder.
func roleAsked(n *node) {
	organization := n.up(organization)
	haveMember(organization)
	n.member = organization.member
	op, err := accessv1.NewRoleRequestServiceClient(n.w.Conn).CreateRoleRequest(n.w.as(n.member), roleRequestOn(n))
	n.w.must(err)
	n.asking = n.w.made(op, new(accessv1.RoleRequest))
}

// roleGiven is roleAsked, and approved.
func roleGiven(n *node) {
	roleAsked(n)
	_, err := accessv1.NewRoleRequestServiceClient(n.w.Conn).ApproveRoleRequest(n.w.as(n.owner), &accessv1.ApproveRoleRequestRequest{RequestId: n.asking})
	n.w.must(err)
}

var roleRequestRPCs = []rpc{
	{
		method: roleRequestRPC + "CreateRoleRequest", guard: anySubject, inside: codes.NotFound, // on a folder that is not there
		request: fixed(roleRequestOn(&node{kind: folder, id: "fld00000000000000000"})),
	},
	{
		method: roleRequestRPC + "GetRoleRequest", on: folder, guard: folderAccess, prepare: roleAsked,
		request: func(n *node) proto.Message { return &accessv1.GetRoleRequestRequest{RequestId: n.asking} },
	},
	{
		method: roleRequestRPC + "ListRoleRequests", on: folder, guard: folderAccess,
		request: func(n *node) proto.Message { return &accessv1.ListRoleRequestsRequest{Resource: n.resource()} },
	},
	{
		method: roleRequestRPC + "ListOwnRoleRequests", guard: anySubject, // and sees its own
		request: fixed(&accessv1.ListOwnRoleRequestsRequest{}),
	},
	{
		method: roleRequestRPC + "CancelRoleRequest", guard: anySubject, inside: codes.NotFound, // its own alone
		request: fixed(&accessv1.CancelRoleRequestRequest{RequestId: "rrq00000000000000000"}),
	},
	{
		method: roleRequestRPC + "ApproveRoleRequest", on: folder, guard: folderAccess, prepare: roleAsked,
		request: func(n *node) proto.Message { return &accessv1.ApproveRoleRequestRequest{RequestId: n.asking} },
	},
	{
		method: roleRequestRPC + "RejectRoleRequest", on: folder, guard: folderAccess, prepare: roleAsked,
		request: func(n *node) proto.Message { return &accessv1.RejectRoleRequestRequest{RequestId: n.asking} },
	},
	{
		method: roleRequestRPC + "EndRoleRequest", on: folder, guard: folderAccess, prepare: roleGiven,
		request: func(n *node) proto.Message { return &accessv1.EndRoleRequestRequest{RequestId: n.asking} },
	},
	{
		method: roleRequestRPC + "CreateRoleRequestMessage", on: folder, guard: folderAccess, prepare: roleAsked,
		request: func(n *node) proto.Message {
			return &accessv1.CreateRoleRequestMessageRequest{RequestId: n.asking, Text: "Hello."}
		},
	},
	{
		method: roleRequestRPC + "ListRoleRequestMessages", on: folder, guard: folderAccess, prepare: roleAsked,
		request: func(n *node) proto.Message {
			return &accessv1.ListRoleRequestMessagesRequest{RequestId: n.asking}
		},
	},
	{
		method: roleRequestRPC + "MarkRoleRequestMessagesRead", on: folder, guard: folderAccess, prepare: roleAsked,
		request: func(n *node) proto.Message {
			return &accessv1.MarkRoleRequestMessagesReadRequest{RequestId: n.asking, Number: 1}
		},
	},
}

func newTicket(n *node) *supportv1.CreateTicketRequest {
	return &supportv1.CreateTicketRequest{Resource: n.resource(), Title: "It is slow", Text: "Since yesterday."}
}

// ticketed files a ticket under a cloud, with an attachment.
func ticketed(n *node) {
	client := supportv1.NewTicketServiceClient(n.w.Conn)
	op, err := client.CreateTicket(n.w.as(n.owner), newTicket(n))
	n.w.must(err)
	n.asking = n.w.made(op, new(supportv1.Ticket))
	stream, err := client.UploadTicketAttachment(n.w.as(n.owner))
	n.w.must(err)
	n.w.must(stream.Send(uploadTo(n)))
	file, err := stream.CloseAndRecv()
	n.w.must(err)
	n.key = file.GetId()
}

func uploadTo(n *node) *supportv1.UploadTicketAttachmentRequest {
	return &supportv1.UploadTicketAttachmentRequest{TicketId: n.asking, Name: "log.txt", Size: 5, Data: []byte("hello")}
}

var ticketRPCs = []rpc{
	{
		method: ticketRPC + "CreateTicket", on: cloud, guard: needs("support.tickets.create"),
		request: func(n *node) proto.Message { return newTicket(n) },
	},
	{
		method: ticketRPC + "GetTicket", on: cloud, guard: needs("support.tickets.list"), prepare: ticketed,
		request: func(n *node) proto.Message { return &supportv1.GetTicketRequest{TicketId: n.asking} },
	},
	{
		method: ticketRPC + "ListTickets", on: cloud, guard: needs("support.tickets.list"),
		request: func(n *node) proto.Message { return &supportv1.ListTicketsRequest{Resource: n.resource()} },
	},
	{
		method: ticketRPC + "CloseTicket", on: cloud, guard: needs("support.tickets.update"), prepare: ticketed,
		request: func(n *node) proto.Message { return &supportv1.CloseTicketRequest{TicketId: n.asking} },
	},
	{
		method: ticketRPC + "CreateTicketComment", on: cloud, guard: needs("support.tickets.update"), prepare: ticketed,
		request: func(n *node) proto.Message {
			return &supportv1.CreateTicketCommentRequest{TicketId: n.asking, Text: "Still."}
		},
	},
	{
		method: ticketRPC + "ListTicketComments", on: cloud, guard: needs("support.tickets.list"), prepare: ticketed,
		request: func(n *node) proto.Message { return &supportv1.ListTicketCommentsRequest{TicketId: n.asking} },
	},
	{
		method: ticketRPC + "MarkTicketCommentsRead", on: cloud, guard: needs("support.tickets.list"), prepare: ticketed,
		request: func(n *node) proto.Message {
			return &supportv1.MarkTicketCommentsReadRequest{TicketId: n.asking, Number: 1}
		},
	},
	{
		method: ticketRPC + "UploadTicketAttachment", on: cloud, guard: needs("support.tickets.update"), prepare: ticketed,
		request: func(n *node) proto.Message { return uploadTo(n) },
	},
	{
		method: ticketRPC + "DownloadTicketAttachment", on: cloud, guard: needs("support.tickets.list"), prepare: ticketed,
		request: func(n *node) proto.Message {
			return &supportv1.DownloadTicketAttachmentRequest{TicketId: n.asking, AttachmentId: n.key}
		},
	},
	{method: supportDesk + "ListAllTickets", guard: guard{operator: true}, request: fixed(&supportv1.ListAllTicketsRequest{})},
	{
		method: supportDesk + "GetAnyTicket", on: cloud, guard: guard{operator: true}, prepare: ticketed,
		request: func(n *node) proto.Message { return &supportv1.GetAnyTicketRequest{TicketId: n.asking} },
	},
	{
		method: supportDesk + "ListComments", on: cloud, guard: guard{operator: true}, prepare: ticketed,
		request: func(n *node) proto.Message { return &supportv1.ListCommentsRequest{TicketId: n.asking} },
	},
	{
		method: supportDesk + "CreateComment", on: cloud, guard: guard{operator: true}, prepare: ticketed,
		request: func(n *node) proto.Message {
			return &supportv1.CreateCommentRequest{TicketId: n.asking, Text: "We look at it."}
		},
	},
	{
		method: supportDesk + "CloseAnyTicket", on: cloud, guard: guard{operator: true}, prepare: ticketed,
		request: func(n *node) proto.Message { return &supportv1.CloseAnyTicketRequest{TicketId: n.asking} },
	},
	{
		method: supportDesk + "DownloadAttachment", on: cloud, guard: guard{operator: true}, prepare: ticketed,
		request: func(n *node) proto.Message {
			return &supportv1.DownloadAttachmentRequest{TicketId: n.asking, AttachmentId: n.key}
		},
	},
}
