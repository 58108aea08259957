package main

import (
	"google.golang.org/protobuf/proto"

	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

const (
	oauthClientService = "yandex.cloud.iam.v1.OAuthClientService/"
	oauthSecretService = "yandex.cloud.iam.v1.OAuthClientSecretService/"
)

// Rights on an OAuth client and its secrets are those on its folder (RH-9).
var oauthClientRPCs = []rpc{
	{
		method: oauthClientService + "Get", on: folder, guard: needs("iam.oauthClients.get"), prepare: haveOAuthClient,
		request: func(n *node) proto.Message { return &iamv1.GetOAuthClientRequest{OauthClientId: n.key} },
	},
	{
		method: oauthClientService + "List", on: folder, guard: needs("iam.oauthClients.list"),
		request: func(n *node) proto.Message { return &iamv1.ListOAuthClientsRequest{FolderId: n.id} },
	},
	{method: oauthClientService + "ListProfiles", guard: anySubject, request: fixed(&iamv1.ListProfilesRequest{})},
	{
		method: oauthClientService + "Create", on: folder, guard: needs("iam.oauthClients.create"),
		request: func(n *node) proto.Message { return newOAuthClient(n) },
	},
	{
		method: oauthClientService + "Update", on: folder, guard: needs("iam.oauthClients.update"), prepare: haveOAuthClient,
		request: func(n *node) proto.Message {
			return &iamv1.UpdateOAuthClientRequest{OauthClientId: n.key, Name: n.w.unique(), UpdateMask: mask("name")}
		},
	},
	{
		method: oauthClientService + "Delete", on: folder, guard: needs("iam.oauthClients.delete"), prepare: haveOAuthClient,
		request: func(n *node) proto.Message { return &iamv1.DeleteOAuthClientRequest{OauthClientId: n.key} },
	},
	{
		method: oauthSecretService + "Get", on: folder, guard: needs("iam.oauthClientSecrets.get"), prepare: haveOAuthSecret,
		request: func(n *node) proto.Message { return &iamv1.GetOAuthClientSecretRequest{OauthClientSecretId: n.key} },
	},
	{
		method: oauthSecretService + "List", on: folder, guard: needs("iam.oauthClientSecrets.list"), prepare: haveOAuthClient,
		request: func(n *node) proto.Message { return &iamv1.ListOAuthClientSecretsRequest{OauthClientId: n.key} },
	},
	{
		method: oauthSecretService + "Create", on: folder, guard: needs("iam.oauthClientSecrets.create"), prepare: haveOAuthClient,
		request: func(n *node) proto.Message { return &iamv1.CreateOAuthClientSecretRequest{OauthClientId: n.key} },
	},
	{
		method: oauthSecretService + "Delete", on: folder, guard: needs("iam.oauthClientSecrets.delete"), prepare: haveOAuthSecret,
		request: func(n *node) proto.Message { return &iamv1.DeleteOAuthClientSecretRequest{OauthClientSecretId: n.key} },
	},
}

func newOAuthClient(n *node) *iamv1.CreateOAuthClientRequest {
	return &iamv1.CreateOAuthClientRequest{FolderId: n.id, Name: n.w.unique(), RedirectUris: []string{"https://app.example.com/back"}, Scopes: []string{"profile"}}
}

// haveOAuthClient makes an OAuth client in a folder.
func haveOAuthClient(n *node) {
	op, err := iamv1.NewOAuthClientServiceClient(n.w.Conn).Create(n.w.as(n.owner), newOAuthClient(n))
	n.key = n.w.madeWith(op, err, new(iamv1.OAuthClient))
}

// haveOAuthSecret makes an OAuth client with a secret.
func haveOAuthSecret(n *node) {
	haveOAuthClient(n)
	op, err := iamv1.NewOAuthClientSecretServiceClient(n.w.Conn).Create(n.w.as(n.owner), &iamv1.CreateOAuthClientSecretRequest{OauthClientId: n.key})
	n.w.must(err)
	made := new(iamv1.CreateOAuthClientSecretResponse)
	n.w.must(op.GetResponse().UnmarshalTo(made))
	n.key = made.GetOauthClientSecret().GetId()
}
