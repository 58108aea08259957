package notifications

import (
	"context"

	notificationv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/notification/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// subscriptions is bindery.notification.v1.SubscriptionService: the same three methods
// for each kind of resource.
type subscriptions struct {
	notificationv1.UnsafeSubscriptionServiceServer // a missing method does not compile
	*Service
}

// ListOrganizationSubscribers lists the subscribers of an organization, oldest first (NT-3).
func (s *subscriptions) ListOrganizationSubscribers(ctx context.Context, req *notificationv1.ListOrganizationSubscribersRequest) (*notificationv1.ListOrganizationSubscribersResponse, error) {
	found, next, err := s.listSubscribers(ctx, Ref{typeOrganization, req.GetOrganizationId()}, req)
	if err != nil {
		return nil, err
	}
	return &notificationv1.ListOrganizationSubscribersResponse{Subscribers: found, NextPageToken: next}, nil
}

// UpdateOrganizationSubscribers changes the subscribers of an organization (NT-3). Fails:
// USER_NOT_IN_ORGANIZATION, TOO_MANY_SUBSCRIBERS.
func (s *subscriptions) UpdateOrganizationSubscribers(ctx context.Context, req *notificationv1.UpdateOrganizationSubscribersRequest) (*operationpb.Operation, error) {
	return s.updateSubscribers(ctx, Ref{typeOrganization, req.GetOrganizationId()}, req.GetDeltas())
}

// CreateOrganizationWebhook makes a webhook a subscriber of an organization (NT-3). Fails:
// TOO_MANY_SUBSCRIBERS.
func (s *subscriptions) CreateOrganizationWebhook(ctx context.Context, req *notificationv1.CreateOrganizationWebhookRequest) (*notificationv1.CreateOrganizationWebhookResponse, error) {
	resp := new(notificationv1.CreateOrganizationWebhookResponse)
	err := s.createWebhook(ctx, Ref{typeOrganization, req.GetOrganizationId()}, req.GetWebhook(), createdWebhook{resp, func(sub *notificationv1.Subscriber, secret string) {
		resp.Subscriber, resp.Secret = sub, secret
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListCloudSubscribers lists the subscribers of a cloud, oldest first (NT-3).
func (s *subscriptions) ListCloudSubscribers(ctx context.Context, req *notificationv1.ListCloudSubscribersRequest) (*notificationv1.ListCloudSubscribersResponse, error) {
	found, next, err := s.listSubscribers(ctx, Ref{typeCloud, req.GetCloudId()}, req)
	if err != nil {
		return nil, err
	}
	return &notificationv1.ListCloudSubscribersResponse{Subscribers: found, NextPageToken: next}, nil
}

// UpdateCloudSubscribers changes the subscribers of a cloud (NT-3). Fails:
// USER_NOT_IN_ORGANIZATION, TOO_MANY_SUBSCRIBERS.
func (s *subscriptions) UpdateCloudSubscribers(ctx context.Context, req *notificationv1.UpdateCloudSubscribersRequest) (*operationpb.Operation, error) {
	return s.updateSubscribers(ctx, Ref{typeCloud, req.GetCloudId()}, req.GetDeltas())
}

// CreateCloudWebhook makes a webhook a subscriber of a cloud (NT-3). Fails:
// TOO_MANY_SUBSCRIBERS.
func (s *subscriptions) CreateCloudWebhook(ctx context.Context, req *notificationv1.CreateCloudWebhookRequest) (*notificationv1.CreateCloudWebhookResponse, error) {
	resp := new(notificationv1.CreateCloudWebhookResponse)
	err := s.createWebhook(ctx, Ref{typeCloud, req.GetCloudId()}, req.GetWebhook(), createdWebhook{resp, func(sub *notificationv1.Subscriber, secret string) {
		resp.Subscriber, resp.Secret = sub, secret
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ListFolderSubscribers lists the subscribers of a folder, oldest first (NT-3).
func (s *subscriptions) ListFolderSubscribers(ctx context.Context, req *notificationv1.ListFolderSubscribersRequest) (*notificationv1.ListFolderSubscribersResponse, error) {
	found, next, err := s.listSubscribers(ctx, Ref{typeFolder, req.GetFolderId()}, req)
	if err != nil {
		return nil, err
	}
	return &notificationv1.ListFolderSubscribersResponse{Subscribers: found, NextPageToken: next}, nil
}

// UpdateFolderSubscribers changes the subscribers of a folder (NT-3). Fails:
// USER_NOT_IN_ORGANIZATION, TOO_MANY_SUBSCRIBERS.
func (s *subscriptions) UpdateFolderSubscribers(ctx context.Context, req *notificationv1.UpdateFolderSubscribersRequest) (*operationpb.Operation, error) {
	return s.updateSubscribers(ctx, Ref{typeFolder, req.GetFolderId()}, req.GetDeltas())
}

// CreateFolderWebhook makes a webhook a subscriber of a folder (NT-3). Fails:
// TOO_MANY_SUBSCRIBERS.
func (s *subscriptions) CreateFolderWebhook(ctx context.Context, req *notificationv1.CreateFolderWebhookRequest) (*notificationv1.CreateFolderWebhookResponse, error) {
	resp := new(notificationv1.CreateFolderWebhookResponse)
	err := s.createWebhook(ctx, Ref{typeFolder, req.GetFolderId()}, req.GetWebhook(), createdWebhook{resp, func(sub *notificationv1.Subscriber, secret string) {
		resp.Subscriber, resp.Secret = sub, secret
	}})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
