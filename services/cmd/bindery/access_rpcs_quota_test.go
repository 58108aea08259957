package main

import (
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/catalog"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	qmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/quotamanager/v1"
)

const (
	limitService   = "yandex.cloud.quotamanager.v1.QuotaLimitService/"
	requestService = "yandex.cloud.quotamanager.v1.QuotaRequestService/"
	seeLimits      = "quota-manager.quotaLimits.get"
	seeRequests    = "quota-manager.quotaRequests.get"
	makeRequests   = "quota-manager.quotaRequests.create"
)

var quotaRPCs = append([]rpc{
	{
		method: "bindery.quota.v1.LimitService/GetLimits", on: cloud, guard: anyUnit,
		request: func(n *node) proto.Message {
			return &quotav1.GetLimitsRequest{Resource: n.limited(), QuotaIds: []string{catalog.QuotaFolders}}
		},
	},
	{
		method: "bindery.quota.v1.UsageService/GetUsage", on: cloud, guard: anyUnit,
		request: func(n *node) proto.Message {
			return &quotav1.GetUsageRequest{Resource: n.limited(), QuotaIds: []string{catalog.QuotaFolders}}
		},
	},
	{
		method: limitService + "ListServices", guard: anySubject,
		request: fixed(&qmv1.ListServicesRequest{ResourceType: string(cloud)}),
	},
	{
		method: requestService + "Get", on: cloud, prepare: askForMore, guard: needs(seeRequests),
		request: func(n *node) proto.Message { return &qmv1.GetQuotaRequestRequest{QuotaRequestId: n.asking} },
	},
	{
		method: requestService + "List", on: cloud, guard: needs(seeRequests),
		request: func(n *node) proto.Message { return &qmv1.ListQuotaRequestRequest{Resource: n.quotaed()} },
	},
	{
		method: requestService + "List", variant: "of everything", guard: anySubject,
		request: fixed(&qmv1.ListQuotaRequestRequest{}),
	},
	{
		method: requestService + "ListOperations", on: cloud, prepare: askForMore, guard: needs(seeRequests),
		request: func(n *node) proto.Message {
			return &qmv1.ListQuotaRequestOperationsRequest{QuotaRequestId: n.asking}
		},
	},
	{
		method: requestService + "Create", on: cloud, guard: needs(makeRequests),
		request: func(n *node) proto.Message { return n.more() },
	},
	{
		method: requestService + "Cancel", on: cloud, prepare: askForMore, guard: needs(makeRequests),
		request: func(n *node) proto.Message {
			return &qmv1.CancelQuotaRequestRequest{QuotaRequestId: n.asking, QuotaIds: []string{catalog.QuotaFolders}}
		},
	},
	{
		method: "yandex.cloud.operation.OperationService/Get", variant: "of a quota request", on: cloud, prepare: askForMore, guard: needs(seeRequests),
		request: func(n *node) proto.Message { return &operationpb.GetOperationRequest{OperationId: n.operation} },
	},
	{
		method: "bindery.quota.v1.OperatorService/ListLimits", guard: guard{operator: true},
		request: fixed(&quotav1.ListLimitsRequest{}),
	},
	{
		method: "bindery.quota.v1.OperatorService/SetLimit", on: cloud, guard: guard{operator: true},
		request: func(n *node) proto.Message {
			return &quotav1.SetLimitRequest{QuotaId: catalog.QuotaFolders, ResourceId: n.id, Change: &quotav1.SetLimitRequest_Limit{Limit: 60}}
		},
	},
	{
		method: "bindery.quota.v1.OperatorService/ListRequests", guard: guard{operator: true},
		request: fixed(&quotav1.ListRequestsRequest{}),
	},
	{
		method: "bindery.quota.v1.OperatorService/DecideRequest", on: cloud, prepare: askForMore, guard: guard{operator: true},
		request: func(n *node) proto.Message {
			return &quotav1.DecideRequestRequest{QuotaRequestId: n.asking, Decisions: []*quotav1.Decision{
				{QuotaId: catalog.QuotaFolders, Outcome: &quotav1.Decision_Approve{Approve: true}},
			}}
		},
	},
}, limitRPCs()...)

// limitRPCs read the quotas of each service, by the permission for all of them or
// by the one for those of the service alone.
func limitRPCs() []rpc {
	var all []rpc
	for _, of := range []struct {
		service, quota string
		on             kind
	}{
		{"resource-manager", catalog.QuotaFolders, cloud},
		{"iam", catalog.QuotaServiceAccounts, cloud},
		{"organization-manager", catalog.QuotaMemberships, organization},
	} {
		own := of.service + ".quotas.get"
		for _, g := range []guard{{permission: seeLimits, either: own}, {permission: own, either: seeLimits}} {
			if g.permission == seeLimits && of.on != cloud { // as the catalogue has it
				continue
			}
			variant := of.service + ", by " + g.permission
			all = append(all,
				rpc{method: limitService + "Get", variant: variant, on: of.on, guard: g, request: func(n *node) proto.Message {
					return &qmv1.GetQuotaLimitRequest{Resource: n.quotaed(), QuotaId: of.quota}
				}},
				rpc{method: limitService + "List", variant: variant, on: of.on, guard: g, request: func(n *node) proto.Message {
					return &qmv1.ListQuotaLimitsRequest{Resource: n.quotaed(), Service: of.service}
				}})
		}
	}
	return all
}

// limited is the resource as one that has quotas, for units.
func (n *node) limited() *quotav1.Resource {
	return &quotav1.Resource{Type: string(n.kind), Id: n.id}
}

// quotaed is the resource as one that has quotas, for clients.
func (n *node) quotaed() *qmv1.Resource { return &qmv1.Resource{Type: string(n.kind), Id: n.id} }

// more asks for more folders in a cloud.
func (n *node) more() *qmv1.CreateQuotaRequestRequest {
	return &qmv1.CreateQuotaRequestRequest{Resource: n.quotaed(), DesiredQuotaLimits: []*qmv1.CreateQuotaRequestRequest_DesiredQuotaLimit{
		{QuotaId: catalog.QuotaFolders, DesiredLimit: 80},
	}}
}

// askForMore makes a quota request for a cloud.
func askForMore(n *node) {
	op, err := qmv1.NewQuotaRequestServiceClient(n.w.Conn).Create(n.w.as(n.owner), n.more())
	n.w.must(err)
	n.asking, n.operation = n.w.made(op, new(qmv1.QuotaRequest)), op.GetId()
}
