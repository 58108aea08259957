package main

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	workloadv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
)

const (
	workloads           = "yandex.cloud.iam.v1.workload.oidc.FederationService/"
	workloadCredentials = "yandex.cloud.iam.v1.workload.FederatedCredentialService/"
	workloadPrefix      = "iam.workloadIdentityFederations"
)

// Federations of workloads, and the credentials that refer to them, whose rights are
// those on the account (SK-2).
var workloadRPCs = []rpc{
	{
		method: workloads + "Get", on: workloadIssuer, guard: guard{permission: workloadPrefix + ".getMetadata", either: workloadPrefix + ".get"},
		request: func(n *node) proto.Message { return &oidcv1.GetFederationRequest{FederationId: n.id} },
	},
	{
		method: workloads + "Get", variant: "whole", on: workloadIssuer, guard: guard{permission: workloadPrefix + ".get", either: workloadPrefix + ".getMetadata"},
		request: func(n *node) proto.Message { return &oidcv1.GetFederationRequest{FederationId: n.id} },
	},
	{
		method: workloads + "List", on: folder, child: workloadIssuer, prepare: func(n *node) { n.w.child(n, workloadIssuer) },
		guard:   guard{permission: workloadPrefix + ".list", items: workloadPrefix + ".getMetadata"},
		request: func(n *node) proto.Message { return &oidcv1.ListFederationsRequest{FolderId: n.id} },
	},
	{
		method: workloads + "Create", on: folder, guard: needs(workloadPrefix + ".create"),
		request: func(n *node) proto.Message { return n.w.federation(n.id) },
	},
	{
		method: workloads + "Update", on: workloadIssuer, guard: needs(workloadPrefix + ".update"),
		request: func(n *node) proto.Message {
			return &oidcv1.UpdateFederationRequest{FederationId: n.id, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: workloads + "Delete", on: workloadIssuer, guard: needs(workloadPrefix + ".delete"),
		request: func(n *node) proto.Message { return &oidcv1.DeleteFederationRequest{FederationId: n.id} },
	},
	{
		method: workloadCredentials + "Get", on: account, guard: needs("iam.federatedCredentials.get"), prepare: haveFederatedCredential,
		request: func(n *node) proto.Message {
			return &workloadv1.GetFederatedCredentialRequest{FederatedCredentialId: n.key}
		},
	},
	{
		method: workloadCredentials + "List", on: account, guard: needs("iam.federatedCredentials.list"), prepare: haveFederatedCredential,
		request: func(n *node) proto.Message {
			return &workloadv1.ListFederatedCredentialsRequest{ServiceAccountId: n.id}
		},
	},
	{
		method: workloadCredentials + "Create", on: account, guard: needs("iam.federatedCredentials.create"), prepare: haveFederation,
		besides: func(n *node, who person) { n.w.grant(workloadPrefix+".user", n.issuer(), who) },
		request: func(n *node) proto.Message {
			return &workloadv1.CreateFederatedCredentialRequest{ServiceAccountId: n.id, FederationId: n.key, ExternalSubjectId: n.w.unique()}
		},
	},
	{
		method: workloadCredentials + "Create", variant: "by a federation", on: workloadIssuer, guard: needs(workloadPrefix + ".use"),
		prepare: func(n *node) { n.key = n.w.child(n.parent, account).id },
		besides: func(n *node, who person) {
			n.w.grant("iam.serviceAccounts.federatedCredentialEditor", &node{w: n.w, kind: account, parent: n.parent, owner: n.owner, id: n.key}, who)
		},
		request: func(n *node) proto.Message {
			return &workloadv1.CreateFederatedCredentialRequest{ServiceAccountId: n.key, FederationId: n.id, ExternalSubjectId: n.w.unique()}
		},
	},
	{
		method: workloadCredentials + "Delete", on: account, guard: needs("iam.federatedCredentials.delete"), prepare: haveFederatedCredential,
		request: func(n *node) proto.Message {
			return &workloadv1.DeleteFederatedCredentialRequest{FederatedCredentialId: n.key}
		},
	},
	{
		method: "bindery.identity.v1.TokenExchangeService/ExchangeToken", guard: everybody, inside: codes.Unauthenticated,
		request: fixed(&identityv1.ExchangeTokenRequest{ServiceAccountId: "sac00000000000000000", SubjectToken: "a.b.c"}),
	},
}

// federation is a request for one in a folder.
func (w *accessWorld) federation(folderID string) *oidcv1.CreateFederationRequest {
	return &oidcv1.CreateFederationRequest{
		FolderId: folderID, Name: w.unique(), Audiences: []string{"https://iam.example"}, Issuer: "https://issuer.example",
		JwksUrl: "https://issuer.example/keys",
	}
}

// haveFederation makes a federation beside a service account.
func haveFederation(n *node) { n.key = n.w.child(n.parent, workloadIssuer).id }

// issuer is the federation that haveFederation made.
func (n *node) issuer() *node {
	return &node{w: n.w, kind: workloadIssuer, parent: n.parent, owner: n.owner, id: n.key}
}

// haveFederatedCredential lets a workload act as a service account.
func haveFederatedCredential(n *node) {
	haveFederation(n)
	op, err := workloadv1.NewFederatedCredentialServiceClient(n.w.Conn).Create(n.w.as(n.owner), &workloadv1.CreateFederatedCredentialRequest{
		ServiceAccountId: n.id, FederationId: n.key, ExternalSubjectId: n.w.unique(),
	})
	n.w.must(err)
	n.key = n.w.made(op, new(workloadv1.FederatedCredential))
}
