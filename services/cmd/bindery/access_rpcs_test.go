package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	endpointpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/endpoint"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// rpc is one RPC, or one use of it, with a valid request and with who may call it.
// That is written down here from the catalogue of permissions, not from the rule
// beside the RPC: the two must agree by what the process answers.
type rpc struct {
	method, variant string

	guard
	on      kind // of the target, which each caller that gets in has for itself
	prepare func(*node)
	besides func(*node, person) // gives a holder of the permission what else the RPC wants of it
	child   kind                // that a list of the target shows; "" for the next one down
	request func(*node) proto.Message
	inside  codes.Code // what the handler answers to whoever gets in
}

// guard is who may call: any of those that are set.
type guard struct {
	public        bool
	authenticated bool     // any subject
	units         []string // as themselves
	operator      bool     // whoever reaches the operator socket, nobody else
	permission    string   // held on the target
	items         string   // or that permission on one child at least, which a list then shows
	either        string   // or that permission on the target
}

// name is the heading of the RPC's rows.
func (r rpc) name() string {
	if r.variant == "" {
		return r.method
	}
	return r.method + ", " + r.variant
}

// below is the kind of what stands below the target.
func (r rpc) below() kind { return cmp.Or(r.child, r.on.below()) }

// wants is the guard in words.
func (r rpc) wants() string {
	var wants []string
	for _, w := range []struct {
		is   bool
		text string
	}{
		{r.public, "nothing"},
		{r.authenticated, "any subject"},
		{len(r.units) > 0, "unit " + strings.Join(r.units, " or ")},
		{r.operator, "the operator socket"},
		{r.permission != "", fmt.Sprintf("%s on the %s", r.permission, r.on.word())},
		{r.either != "", fmt.Sprintf("%s on the %s", r.either, r.on.word())},
		{r.items != "", fmt.Sprintf("%s on one %s of it", r.items, r.below().word())},
	} {
		if w.is {
			wants = append(wants, w.text)
		}
	}
	return strings.Join(wants, ", or ")
}

// allRPCs are the fixtures of every RPC.
func allRPCs() []rpc {
	return slices.Concat(platformRPCs, notificationRPCs, noticeRPCs, organizationSubscriptionRPCs, cloudSubscriptionRPCs, folderSubscriptionRPCs,
		organizationRPCs, cloudRPCs, folderRPCs, operationRPCs, identityRPCs, accountRPCs, directoryRPCs, checkRPCs, treeRPCs,
		publicBindingRPCs("yandex.cloud.organizationmanager.v1.OrganizationService", organization, "organization-manager.organizations"),
		publicBindingRPCs("yandex.cloud.resourcemanager.v1.CloudService", cloud, "resource-manager.clouds"),
		publicBindingRPCs("yandex.cloud.resourcemanager.v1.FolderService", folder, "resource-manager.folders"),
		publicBindingRPCs("yandex.cloud.iam.v1.ServiceAccountService", account, "iam.serviceAccounts"),
		publicBindingRPCs("yandex.cloud.iam.v1.workload.oidc.FederationService", workloadIssuer, workloadPrefix),
		ownBindingRPCs(organization, "organization-manager.organizations"),
		ownBindingRPCs(cloud, "resource-manager.clouds"),
		ownBindingRPCs(folder, "resource-manager.folders"),
		ownBindingRPCs(account, "iam.serviceAccounts"),
		quotaRPCs,
		auditRPCs,
		ownPolicyRPCs(organization, "organization-manager.organizations"),
		ownPolicyRPCs(cloud, "resource-manager.clouds"),
		ownPolicyRPCs(folder, "resource-manager.folders"),
		invitationRPCs, memberRPCs, detailRPCs, userRPCs, keyRPCs, sessionRPCs, secretKeyRPCs, machineRPCs, oauthClientRPCs, workloadRPCs,
		groupRPCs, externalGroupRPCs, federationRPCs, mappingRPCs, analysisRPCs, questionRPCs, grantPolicyRPCs,
		marketRPCs, marketDeskRPCs, grantRPCs, roleRequestRPCs, ticketRPCs,
		billingRPCs, partnerRPCs, subaccountRPCs, moneyRPCs, consumptionRPCs(), customerRPCs, ownBindingRPCs(billing, "billing.accounts"),
		publicBindingRPCs("yandex.cloud.billing.v1.BillingAccountService", billing, "billing.accounts"),
		ownBindingRPCs(group, "organization-manager.groups"),
		operatorRPCs) // the last of them rotates the signing key, which others would notice
}

// fixed is a request that does not depend on the target.
func fixed(req proto.Message) func(*node) proto.Message {
	return func(*node) proto.Message { return req }
}

// needs is the guard of most RPCs.
func needs(permission string) guard { return guard{permission: permission} }

var (
	everybody  = guard{public: true}
	anySubject = guard{authenticated: true}
)

var platformRPCs = []rpc{
	{method: "grpc.health.v1.Health/Check", guard: everybody, request: fixed(&healthv1.HealthCheckRequest{})},
	{method: "grpc.health.v1.Health/List", guard: everybody, request: fixed(&healthv1.HealthListRequest{})},
	{method: "grpc.health.v1.Health/Watch", guard: everybody, request: fixed(&healthv1.HealthCheckRequest{})},
	{method: "grpc.reflection.v1.ServerReflection/ServerReflectionInfo", guard: everybody, request: fixed(listServices())},
	{
		method: "yandex.cloud.endpoint.ApiEndpointService/Get", guard: everybody,
		request: fixed(&endpointpb.GetApiEndpointRequest{ApiEndpointId: "iam"}),
	},
	{
		method: "yandex.cloud.endpoint.ApiEndpointService/List", guard: everybody,
		request: fixed(&endpointpb.ListApiEndpointsRequest{}),
	},
}

var organizationRPCs = []rpc{
	{
		method: "yandex.cloud.organizationmanager.v1.OrganizationService/Get", on: organization, guard: needs("organization-manager.organizations.get"),
		request: func(n *node) proto.Message { return &orgv1.GetOrganizationRequest{OrganizationId: n.id} },
	},
	{
		method: "yandex.cloud.organizationmanager.v1.OrganizationService/List", guard: anySubject, // and sees what it may get
		request: fixed(&orgv1.ListOrganizationsRequest{}),
	},
	{
		method: "yandex.cloud.organizationmanager.v1.OrganizationService/Update", on: organization,
		guard: needs("organization-manager.organizations.update"),
		request: func(n *node) proto.Message {
			return &orgv1.UpdateOrganizationRequest{OrganizationId: n.id, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: "yandex.cloud.organizationmanager.v1.OrganizationService/ListOperations", on: organization,
		guard:   needs("organization-manager.organizations.get"),
		request: func(n *node) proto.Message { return &orgv1.ListOrganizationOperationsRequest{OrganizationId: n.id} },
	},
	{
		method: "bindery.resourcemanager.v1.OrganizationService/CreateOrganization", guard: anySubject,
		request: fixed(&brmv1.CreateOrganizationRequest{Name: "new"}),
	},
	{
		method: "bindery.resourcemanager.v1.OrganizationService/DeleteOrganization", on: organization,
		guard:   needs("organization-manager.organizations.delete"),
		request: func(n *node) proto.Message { return &brmv1.DeleteOrganizationRequest{OrganizationId: n.id} },
	},
}

var cloudRPCs = []rpc{
	{
		method: "yandex.cloud.resourcemanager.v1.CloudService/Get", on: cloud, guard: needs("resource-manager.clouds.get"),
		request: func(n *node) proto.Message { return &rmv1.GetCloudRequest{CloudId: n.id} },
	},
	{
		method: "yandex.cloud.resourcemanager.v1.CloudService/List", variant: "of an organization", on: organization, prepare: haveChild,
		guard:   guard{permission: "resource-manager.clouds.list", items: "resource-manager.clouds.get"},
		request: func(n *node) proto.Message { return &rmv1.ListCloudsRequest{OrganizationId: n.id} },
	},
	{
		method: "yandex.cloud.resourcemanager.v1.CloudService/List", variant: "of everything", guard: anySubject, // and sees what it may get
		request: fixed(&rmv1.ListCloudsRequest{}),
	},
	{
		method: "yandex.cloud.resourcemanager.v1.CloudService/Create", variant: "in an organization", on: organization,
		guard:   needs("resource-manager.clouds.create"),
		request: func(n *node) proto.Message { return &rmv1.CreateCloudRequest{OrganizationId: n.id, Name: "new"} },
	},
	{
		method: "yandex.cloud.resourcemanager.v1.CloudService/Create", variant: "the first one (CR-2)", guard: anySubject,
		request: fixed(&rmv1.CreateCloudRequest{Name: "new"}),
	},
	{
		method: "yandex.cloud.resourcemanager.v1.CloudService/Update", on: cloud, guard: needs("resource-manager.clouds.update"),
		request: func(n *node) proto.Message {
			return &rmv1.UpdateCloudRequest{CloudId: n.id, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: "yandex.cloud.resourcemanager.v1.CloudService/Delete", on: cloud, guard: needs("resource-manager.clouds.delete"),
		request: func(n *node) proto.Message {
			return &rmv1.DeleteCloudRequest{CloudId: n.id, DeleteAfter: timestamppb.Now()}
		},
	},
	{
		method: "yandex.cloud.resourcemanager.v1.CloudService/ListOperations", on: cloud, guard: needs("resource-manager.clouds.get"),
		request: func(n *node) proto.Message { return &rmv1.ListCloudOperationsRequest{CloudId: n.id} },
	},
	{
		method: "bindery.resourcemanager.v1.DeletionService/GetCloudState", on: cloud, guard: needs("resource-manager.clouds.get"),
		request: func(n *node) proto.Message { return &brmv1.GetCloudStateRequest{CloudId: n.id} },
	},
	{
		method: "bindery.resourcemanager.v1.DeletionService/CancelCloudDeletion", on: cloud, prepare: deleteLater,
		guard:   needs("resource-manager.clouds.cancelDeletion"),
		request: func(n *node) proto.Message { return &brmv1.CancelCloudDeletionRequest{CloudId: n.id} },
	},
}

var folderRPCs = []rpc{
	{
		method: "yandex.cloud.resourcemanager.v1.FolderService/Get", on: folder, guard: needs("resource-manager.folders.get"),
		request: func(n *node) proto.Message { return &rmv1.GetFolderRequest{FolderId: n.id} },
	},
	{
		method: "yandex.cloud.resourcemanager.v1.FolderService/List", on: cloud, prepare: haveChild,
		guard:   guard{permission: "resource-manager.folders.list", items: "resource-manager.folders.get"},
		request: func(n *node) proto.Message { return &rmv1.ListFoldersRequest{CloudId: n.id} },
	},
	{
		method: "yandex.cloud.resourcemanager.v1.FolderService/Create", on: cloud, guard: needs("resource-manager.folders.create"),
		request: func(n *node) proto.Message { return &rmv1.CreateFolderRequest{CloudId: n.id, Name: "new"} },
	},
	{
		method: "yandex.cloud.resourcemanager.v1.FolderService/Update", on: folder, guard: needs("resource-manager.folders.update"),
		request: func(n *node) proto.Message {
			return &rmv1.UpdateFolderRequest{FolderId: n.id, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: "yandex.cloud.resourcemanager.v1.FolderService/Delete", on: folder, guard: needs("resource-manager.folders.delete"),
		request: func(n *node) proto.Message {
			return &rmv1.DeleteFolderRequest{FolderId: n.id, DeleteAfter: timestamppb.Now()}
		},
	},
	{
		method: "yandex.cloud.resourcemanager.v1.FolderService/ListOperations", on: folder, guard: needs("resource-manager.folders.get"),
		request: func(n *node) proto.Message { return &rmv1.ListFolderOperationsRequest{FolderId: n.id} },
	},
	{
		method: "bindery.resourcemanager.v1.DeletionService/CancelFolderDeletion", on: folder, prepare: deleteLater,
		guard:   needs("resource-manager.folders.cancelDeletion"),
		request: func(n *node) proto.Message { return &brmv1.CancelFolderDeletionRequest{FolderId: n.id} },
	},
}

// An operation is shown to its maker and to whoever may see its resource; taking a
// deletion back that way needs what its own method needs.
var operationRPCs = []rpc{
	{
		method: "yandex.cloud.operation.OperationService/Get", variant: "on an organization", on: organization,
		guard: needs("organization-manager.organizations.get"), request: operationOf,
	},
	{
		method: "yandex.cloud.operation.OperationService/Get", variant: "on a cloud", on: cloud,
		guard: needs("resource-manager.clouds.get"), request: operationOf,
	},
	{
		method: "yandex.cloud.operation.OperationService/Get", variant: "on a folder", on: folder,
		guard: needs("resource-manager.folders.get"), request: operationOf,
	},
	{
		method: "yandex.cloud.operation.OperationService/Get", variant: "on the bindings of a cloud", on: cloud, prepare: bindSomebody,
		guard: needs("resource-manager.clouds.get"), request: operationOf,
	},
	{
		method: "yandex.cloud.operation.OperationService/Cancel", variant: "of the deletion of a cloud", on: cloud, prepare: deleteLater,
		guard:   needs("resource-manager.clouds.cancelDeletion"),
		request: func(n *node) proto.Message { return &operationpb.CancelOperationRequest{OperationId: n.operation} },
	},
	{
		method: "yandex.cloud.operation.OperationService/Cancel", variant: "of the deletion of a folder", on: folder, prepare: deleteLater,
		guard:   needs("resource-manager.folders.cancelDeletion"),
		request: func(n *node) proto.Message { return &operationpb.CancelOperationRequest{OperationId: n.operation} },
	},
}

func operationOf(n *node) proto.Message {
	return &operationpb.GetOperationRequest{OperationId: n.operation}
}

func mask(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }

// haveChild gives a list something to show.
func haveChild(n *node) { n.w.child(n, n.kind.below()) }

// deleteLater leaves a deletion pending, whose operation becomes the node's.
func deleteLater(n *node) {
	w := n.w
	var op *operationpb.Operation
	var err error
	if n.kind == cloud {
		op, err = rmv1.NewCloudServiceClient(w.Conn).Delete(w.as(n.owner), &rmv1.DeleteCloudRequest{CloudId: n.id})
	} else {
		op, err = rmv1.NewFolderServiceClient(w.Conn).Delete(w.as(n.owner), &rmv1.DeleteFolderRequest{FolderId: n.id})
	}
	w.must(err)
	n.operation = op.GetId()
}
