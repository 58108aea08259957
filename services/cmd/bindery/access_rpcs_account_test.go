package main

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// Service accounts (SK-6, SK-7), and where they may be made.
var accountRPCs = []rpc{
	{
		method: "yandex.cloud.iam.v1.ServiceAccountService/Get", on: account, guard: needs("iam.serviceAccounts.get"),
		request: func(n *node) proto.Message { return &iamv1.GetServiceAccountRequest{ServiceAccountId: n.id} },
	},
	{
		method: "yandex.cloud.iam.v1.ServiceAccountService/List", on: folder, prepare: haveChild,
		guard:   guard{permission: "iam.serviceAccounts.list", items: "iam.serviceAccounts.get"},
		request: func(n *node) proto.Message { return &iamv1.ListServiceAccountsRequest{FolderId: n.id} },
	},
	{
		method: "yandex.cloud.iam.v1.ServiceAccountService/Create", on: folder, guard: needs("iam.serviceAccounts.create"),
		request: func(n *node) proto.Message {
			return &iamv1.CreateServiceAccountRequest{FolderId: n.id, Name: n.w.unique(), ExpiresAt: ahead()}
		},
	},
	{
		method: "yandex.cloud.iam.v1.ServiceAccountService/Update", on: account, guard: needs("iam.serviceAccounts.update"),
		request: func(n *node) proto.Message {
			return &iamv1.UpdateServiceAccountRequest{ServiceAccountId: n.id, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: "yandex.cloud.iam.v1.ServiceAccountService/Delete", on: account, guard: needs("iam.serviceAccounts.delete"),
		request: func(n *node) proto.Message { return &iamv1.DeleteServiceAccountRequest{ServiceAccountId: n.id} },
	},
	{
		method: "yandex.cloud.iam.v1.ServiceAccountService/ListOperations", on: account, guard: needs("iam.serviceAccounts.get"),
		request: func(n *node) proto.Message { return &iamv1.ListServiceAccountOperationsRequest{ServiceAccountId: n.id} },
	},
	{
		method: "yandex.cloud.iam.v1.ServiceAccountService/Suspend", on: account, guard: needs("iam.serviceAccounts.suspend"),
		request: func(n *node) proto.Message {
			return &iamv1.SuspendServiceAccountRequest{ServiceAccountId: n.id, Reason: "odd", ExpiresAt: ahead()}
		},
	},
	{
		method: "yandex.cloud.iam.v1.ServiceAccountService/Reactivate", on: account, guard: needs("iam.serviceAccounts.reactivate"),
		request: func(n *node) proto.Message { return &iamv1.ReactivateServiceAccountRequest{ServiceAccountId: n.id} },
	},
	{
		method: "yandex.cloud.operation.OperationService/Get", variant: "on a service account", on: account,
		guard: needs("iam.serviceAccounts.get"), request: operationOf,
	},
	{
		method: "bindery.resourcemanager.v1.PlaceService/GetPlace", on: folder, guard: anyUnit,
		request: func(n *node) proto.Message { return &brmv1.GetPlaceRequest{FolderId: n.id} },
	},
}

// ahead is a time that has not come.
func ahead() *timestamppb.Timestamp { return &timestamppb.Timestamp{Seconds: 4102444800} } // 2100
