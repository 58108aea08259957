package main

import (
	"google.golang.org/protobuf/proto"

	auditv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/audit/v1"
)

const readLogs = "audit-trails.logs.read"

var auditRPCs = []rpc{
	{
		method: "bindery.audit.v1.AuditService/ListEvents", on: folder, guard: needs(readLogs),
		request: func(n *node) proto.Message { return &auditv1.ListEventsRequest{Resource: n.trail()} },
	},
	{
		method: "bindery.audit.v1.AuditService/ExportEvents", on: folder, guard: needs(readLogs),
		request: func(n *node) proto.Message { return &auditv1.ExportEventsRequest{Resource: n.trail()} },
	},
	{
		method: "bindery.audit.v1.TrailService/ListRecords", on: folder, guard: guard{units: []string{"gateway"}},
		request: func(n *node) proto.Message {
			return &auditv1.ListRecordsRequest{Unit: "resourcemanager", Resource: n.trail(), PageSize: 1}
		},
	},
	{
		method: "bindery.audit.v1.OperatorService/ExportAllEvents", guard: guard{operator: true},
		request: fixed(&auditv1.ExportAllEventsRequest{}),
	},
}

// trail is the resource as one whose trail is read.
func (n *node) trail() *auditv1.Resource { return &auditv1.Resource{Type: string(n.kind), Id: n.id} }
