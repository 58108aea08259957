package main

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	awsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

const (
	apiKeyService    = "yandex.cloud.iam.v1.ApiKeyService/"
	accessKeyService = "yandex.cloud.iam.v1.awscompatibility.AccessKeyService/"
)

// Rights on a key are those on its service account (SK-2).
var secretKeyRPCs = []rpc{
	{
		method: apiKeyService + "Get", on: account, guard: needs("iam.apiKeys.get"), prepare: haveAPIKey,
		request: func(n *node) proto.Message { return &iamv1.GetApiKeyRequest{ApiKeyId: n.key} },
	},
	{
		method: apiKeyService + "List", on: account, guard: needs("iam.apiKeys.list"), prepare: haveAPIKey,
		request: func(n *node) proto.Message { return &iamv1.ListApiKeysRequest{ServiceAccountId: n.id} },
	},
	{
		method: apiKeyService + "Create", on: account, guard: needs("iam.apiKeys.create"),
		request: func(n *node) proto.Message { return &iamv1.CreateApiKeyRequest{ServiceAccountId: n.id} },
	},
	{
		method: apiKeyService + "Update", on: account, guard: needs("iam.apiKeys.update"), prepare: haveAPIKey,
		request: func(n *node) proto.Message {
			return &iamv1.UpdateApiKeyRequest{ApiKeyId: n.key, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: apiKeyService + "Delete", on: account, guard: needs("iam.apiKeys.delete"), prepare: haveAPIKey,
		request: func(n *node) proto.Message { return &iamv1.DeleteApiKeyRequest{ApiKeyId: n.key} },
	},
	{
		method: apiKeyService + "ListOperations", on: account, guard: needs("iam.apiKeys.get"), prepare: haveAPIKey,
		request: func(n *node) proto.Message { return &iamv1.ListApiKeyOperationsRequest{ApiKeyId: n.key} },
	},
	{method: apiKeyService + "ListScopes", guard: anySubject, request: fixed(&iamv1.ListApiKeyScopesRequest{})},
	{
		method: accessKeyService + "Get", on: account, guard: needs("iam.accessKeys.get"), prepare: haveAccessKey,
		request: func(n *node) proto.Message { return &awsv1.GetAccessKeyRequest{AccessKeyId: n.key} },
	},
	{
		method: accessKeyService + "List", on: account, guard: needs("iam.accessKeys.list"), prepare: haveAccessKey,
		request: func(n *node) proto.Message { return &awsv1.ListAccessKeysRequest{ServiceAccountId: n.id} },
	},
	{
		method: accessKeyService + "Create", on: account, guard: needs("iam.accessKeys.create"),
		request: func(n *node) proto.Message { return &awsv1.CreateAccessKeyRequest{ServiceAccountId: n.id} },
	},
	{
		method: accessKeyService + "Update", on: account, guard: needs("iam.accessKeys.update"), prepare: haveAccessKey,
		request: func(n *node) proto.Message {
			return &awsv1.UpdateAccessKeyRequest{AccessKeyId: n.key, UpdateMask: mask("description"), Description: "changed"}
		},
	},
	{
		method: accessKeyService + "Delete", on: account, guard: needs("iam.accessKeys.delete"), prepare: haveAccessKey,
		request: func(n *node) proto.Message { return &awsv1.DeleteAccessKeyRequest{AccessKeyId: n.key} },
	},
	{
		method: accessKeyService + "ListOperations", on: account, guard: needs("iam.accessKeys.get"), prepare: haveAccessKey,
		request: func(n *node) proto.Message { return &awsv1.ListAccessKeyOperationsRequest{AccessKeyId: n.key} },
	},
	{
		method: "yandex.cloud.iam.v1.awscompatibility.TemporaryAccessKeyService/CreateEphemeral", on: account,
		guard: needs("iam.ephemeralAccessKeys.create"),
		request: func(n *node) proto.Message {
			return &awsv1.CreateEphemeralAccessKeyRequest{SubjectId: n.id, SessionName: "session"}
		},
	},
	{
		method: "bindery.identity.v1.ApiKeyTokenService/CreateTokenForApiKey", guard: everybody,
		request: func(n *node) proto.Message { return &identityv1.CreateTokenForApiKeyRequest{ApiKey: n.w.apiKey()} },
	},
	{
		method: "bindery.identity.v1.CredentialService/Authenticate", guard: guard{units: []string{"accessbindings"}},
		request: func(n *node) proto.Message {
			return &identityv1.AuthenticateRequest{Credential: &identityv1.AuthenticateRequest_ApiKey{ApiKey: n.w.apiKey()}}
		},
	},
	{
		method: checkService + "Authenticate", variant: "an API key", guard: everybody,
		request: func(n *node) proto.Message {
			return &accessservicev2.AuthenticateRequest{Credentials: &accessservicev2.AuthenticateRequest_ApiKey{ApiKey: n.w.apiKey()}}
		},
	},
	{
		method: checkService + "Authenticate", variant: "a signature of no key", guard: everybody, inside: codes.Unauthenticated,
		request: func(*node) proto.Message {
			return &accessservicev2.AuthenticateRequest{Credentials: &accessservicev2.AuthenticateRequest_Signature{
				Signature: &accessservicev2.AccessKeySignature{
					AccessKeyId: "YCAJE", StringToSign: "AWS4-HMAC-SHA256", Signature: "00",
					Parameters: &accessservicev2.AccessKeySignature_V4Parameters{V4Parameters: &accessservicev2.AccessKeySignature_Version4Parameters{
						SignedAt: timestamppb.Now(), Service: "s3", Region: "r",
					}},
				},
			}}
		},
	},
}

// haveAPIKey gives a service account an API key.
func haveAPIKey(n *node) {
	made, err := iamv1.NewApiKeyServiceClient(n.w.Conn).Create(n.w.as(n.owner), &iamv1.CreateApiKeyRequest{ServiceAccountId: n.id})
	n.w.must(err)
	n.key = made.GetApiKey().GetId()
}

// haveAccessKey gives a service account an access key.
func haveAccessKey(n *node) {
	made, err := awsv1.NewAccessKeyServiceClient(n.w.Conn).Create(n.w.as(n.owner), &awsv1.CreateAccessKeyRequest{ServiceAccountId: n.id})
	n.w.must(err)
	n.key = made.GetAccessKey().GetId()
}

// apiKey is the secret of an API key of some service account, always the same.
func (w *accessWorld) apiKey() string {
	w.t.Helper()
	if w.secret == "" {
		n := w.grow(account)
		made, err := iamv1.NewApiKeyServiceClient(w.Conn).Create(w.as(n.owner), &iamv1.CreateApiKeyRequest{ServiceAccountId: n.id})
		w.must(err)
		w.secret = made.GetSecret()
	}
	return w.secret
}
