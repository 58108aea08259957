package main

import (
	"google.golang.org/protobuf/proto"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

const (
	questionService = "bindery.access.v1.PermissionService/"
	getFolder       = "resource-manager.folders.get"
	deleteFolder    = "resource-manager.folders.delete"
)

var questionRPCs = []rpc{
	{
		method: questionService + "TestPermissions", on: folder, guard: anySubject,
		request: func(n *node) proto.Message {
			return &accessv1.TestPermissionsRequest{Resource: n.resource(), Permissions: []string{getFolder, deleteFolder}}
		},
	},
	{
		method: questionService + "Explain", variant: "of another", on: folder, guard: needs("iam.access.explain"),
		request: func(n *node) proto.Message {
			return &accessv1.ExplainRequest{Resource: n.resource(), Permission: getFolder, Subject: n.owner.subject()}
		},
	},
	{
		method: questionService + "Explain", variant: "of a refusal of one's own", on: folder, guard: anySubject,
		request: func(n *node) proto.Message {
			return &accessv1.ExplainRequest{Resource: n.resource(), Permission: deleteFolder}
		},
	},
	{
		method: questionService + "ListSubjects", on: folder, guard: needs("iam.access.listSubjects"),
		request: func(n *node) proto.Message {
			return &accessv1.ListSubjectsRequest{Resource: n.resource(), Permission: getFolder}
		},
	},
	{
		method: questionService + "ListResources", variant: "of another", on: folder, guard: needs("iam.access.listResources"),
		request: func(n *node) proto.Message {
			return &accessv1.ListResourcesRequest{Subject: n.owner.subject(), Permission: getFolder, Within: n.resource()}
		},
	},
	{
		method: questionService + "ListResources", variant: "of oneself", guard: anySubject,
		request: fixed(&accessv1.ListResourcesRequest{Permission: getFolder}),
	},
	{
		method: questionService + "Preview", on: folder, guard: needs("resource-manager.folders.updateAccessBindings"),
		request: func(n *node) proto.Message {
			return &accessv1.PreviewRequest{Resource: n.resource(), Change: &accessv1.PreviewRequest_Update{Update: &accessv1.UpdateChange{
				AccessBindingDeltas: []*accessv1.AccessBindingDelta{addition("viewer", n.w.person())},
			}}}
		},
	},
}
