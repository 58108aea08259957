package main

import (
	"google.golang.org/protobuf/proto"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
)

// subscriptionRPCs are the methods on the subscribers of a kind of resource.
func subscriptionRPCs(on kind, list, update string, listed, updated, hooked func(n *node) proto.Message) []rpc {
	const service = "bindery.notification.v1.SubscriptionService/"
	name := map[kind]string{organization: "Organization", cloud: "Cloud", folder: "Folder"}[on]
	return []rpc{
		{method: service + "List" + name + "Subscribers", on: on, guard: needs(list), request: listed},
		{method: service + "Update" + name + "Subscribers", on: on, guard: needs(update), request: updated},
		{method: service + "Create" + name + "Webhook", on: on, guard: needs(update), request: hooked},
	}
}

// removal takes away a subscriber that is not there, which is no failure.
var removal = []*notificationv1.SubscriberDelta{{
	Action: notificationv1.SubscriberDelta_REMOVE, Target: &notificationv1.SubscriberDelta_SubscriberId{SubscriberId: "sbs00000000000000000"},
}}

// webhook is one that may be made.
var webhook = &notificationv1.Webhook{Url: "https://receiver.example/bindery", Events: []string{"cloud"}}

var (
	organizationSubscriptionRPCs = subscriptionRPCs(organization,
		"organization-manager.organizations.listSubscribers", "organization-manager.organizations.updateSubscribers",
		func(n *node) proto.Message {
			return &notificationv1.ListOrganizationSubscribersRequest{OrganizationId: n.id}
		},
		func(n *node) proto.Message {
			return &notificationv1.UpdateOrganizationSubscribersRequest{OrganizationId: n.id, Deltas: removal}
		},
		func(n *node) proto.Message {
			return &notificationv1.CreateOrganizationWebhookRequest{OrganizationId: n.id, Webhook: webhook}
		})
	cloudSubscriptionRPCs = subscriptionRPCs(cloud, "resource-manager.clouds.listAccessBindings", "resource-manager.clouds.update",
		func(n *node) proto.Message { return &notificationv1.ListCloudSubscribersRequest{CloudId: n.id} },
		func(n *node) proto.Message {
			return &notificationv1.UpdateCloudSubscribersRequest{CloudId: n.id, Deltas: removal}
		},
		func(n *node) proto.Message {
			return &notificationv1.CreateCloudWebhookRequest{CloudId: n.id, Webhook: webhook}
		})
	folderSubscriptionRPCs = subscriptionRPCs(folder, "resource-manager.folders.listAccessBindings", "resource-manager.folders.update",
		func(n *node) proto.Message { return &notificationv1.ListFolderSubscribersRequest{FolderId: n.id} },
		func(n *node) proto.Message {
			return &notificationv1.UpdateFolderSubscribersRequest{FolderId: n.id, Deltas: removal}
		},
		func(n *node) proto.Message {
			return &notificationv1.CreateFolderWebhookRequest{FolderId: n.id, Webhook: webhook}
		})
)

// noticeRPCs are what the operator does about notices.
var noticeRPCs = []rpc{
	{
		method: "bindery.notification.v1.OperatorService/CreateNotice", on: cloud, guard: guard{operator: true},
		request: func(n *node) proto.Message {
			return &notificationv1.CreateNoticeRequest{
				Kind: notificationv1.CreateNoticeRequest_SERVICE, Resource: n.resource(), Title: "Hello", Text: "World",
			}
		},
	},
	{
		method: "bindery.notification.v1.OperatorService/ListDeliveries", guard: guard{operator: true},
		request: fixed(&notificationv1.ListDeliveriesRequest{}),
	},
}

// What the unit notifications asks, and is asked by the others.
var notificationRPCs = []rpc{
	{
		method: "bindery.notification.v1.NotificationService/Notify", on: cloud, guard: anyUnit,
		request: func(n *node) proto.Message {
			return &notificationv1.NotifyRequest{Notice: &notificationv1.Notice{
				Id: n.w.unique(), Event: "service.announced", Title: "Hello",
				Path:       []*notificationv1.PathElement{{Type: string(n.kind), Id: n.id}},
				Recipients: &notificationv1.Notice_Audience{Audience: &notificationv1.Audience{Resource: n.resource()}},
			}}
		},
	},
	{
		method: "bindery.access.v1.AudienceService/GetAudience", on: folder, guard: guard{units: []string{"notifications", "resourcemanager"}},
		request: func(n *node) proto.Message { return &accessv1.GetAudienceRequest{Resource: n.resource()} },
	},
	{
		method: "bindery.resourcemanager.v1.ResourceNameService/BatchGetResourceNames", on: folder, guard: guard{units: []string{"identity", "notifications"}},
		request: func(n *node) proto.Message {
			return &brmv1.BatchGetResourceNamesRequest{Ids: []string{n.id}}
		},
	},
}
