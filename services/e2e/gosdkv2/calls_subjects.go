package main

import (
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/yandex-cloud/go-genproto/yandex/cloud/access"
	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	awspb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1/awscompatibility"
	operationpb "github.com/yandex-cloud/go-genproto/yandex/cloud/operation"
	orgpb "github.com/yandex-cloud/go-genproto/yandex/cloud/organizationmanager/v1"
	ycsdk "github.com/yandex-cloud/go-sdk/v2"
)

// Names by which the SDK leads generated clients to their endpoints.
const (
	accounts       = "yandex.cloud.iam.v1.ServiceAccountService"
	authorizedKeys = "yandex.cloud.iam.v1.KeyService"
	apiKeys        = "yandex.cloud.iam.v1.ApiKeyService"
	accessKeys     = "yandex.cloud.iam.v1.awscompatibility.AccessKeyService"
	groups         = "yandex.cloud.organizationmanager.v1.GroupService"
	members        = "yandex.cloud.organizationmanager.v1.UserService"
	iamTokens      = "yandex.cloud.iam.v1.IamTokenService"
)

// subjectCalls are those on service accounts, their keys, groups and members.
func subjectCalls(sdk *ycsdk.SDK) map[string]call {
	account := iampb.NewServiceAccountServiceClient(connection{sdk, accounts})
	key := iampb.NewKeyServiceClient(connection{sdk, authorizedKeys})
	apiKey := iampb.NewApiKeyServiceClient(connection{sdk, apiKeys})
	accessKey := awspb.NewAccessKeyServiceClient(connection{sdk, accessKeys})
	group := orgpb.NewGroupServiceClient(connection{sdk, groups})
	user := orgpb.NewUserServiceClient(connection{sdk, members})
	w := waiter{operationpb.NewOperationServiceClient(connection{sdk, operations})}
	return map[string]call{
		"token.createForServiceAccount": unary(iampb.NewIamTokenServiceClient(connection{sdk, iamTokens}).CreateForServiceAccount),

		"serviceAccount.get":                  unary(account.Get),
		"serviceAccount.list":                 list(account.List, "serviceAccounts", (*iampb.ListServiceAccountsResponse).GetServiceAccounts),
		"serviceAccount.create":               long(w, account.Create, &iampb.CreateServiceAccountMetadata{}, &iampb.ServiceAccount{}),
		"serviceAccount.update":               long(w, account.Update, &iampb.UpdateServiceAccountMetadata{}, &iampb.ServiceAccount{}),
		"serviceAccount.delete":               long(w, account.Delete, &iampb.DeleteServiceAccountMetadata{}, &emptypb.Empty{}),
		"serviceAccount.suspend":              long(w, account.Suspend, &iampb.SuspendServiceAccountMetadata{}, &iampb.SuspendServiceAccountResponse{}),
		"serviceAccount.reactivate":           long(w, account.Reactivate, &iampb.ReactivateServiceAccountMetadata{}, &iampb.ReactivateServiceAccountResponse{}),
		"serviceAccount.listOperations":       list(account.ListOperations, "operations", (*iampb.ListServiceAccountOperationsResponse).GetOperations),
		"serviceAccount.listAccessBindings":   list(account.ListAccessBindings, "accessBindings", (*access.ListAccessBindingsResponse).GetAccessBindings),
		"serviceAccount.setAccessBindings":    long(w, account.SetAccessBindings, &access.SetAccessBindingsMetadata{}, &access.AccessBindingsOperationResult{}),
		"serviceAccount.updateAccessBindings": long(w, account.UpdateAccessBindings, &access.UpdateAccessBindingsMetadata{}, &access.AccessBindingsOperationResult{}),

		"key.get":    unary(key.Get),
		"key.list":   list(key.List, "keys", (*iampb.ListKeysResponse).GetKeys),
		"key.create": unary(key.Create),
		"key.update": long(w, key.Update, &iampb.UpdateKeyMetadata{}, &iampb.Key{}),
		"key.delete": long(w, key.Delete, &iampb.DeleteKeyMetadata{}, &emptypb.Empty{}),

		"apiKey.get":        unary(apiKey.Get),
		"apiKey.list":       list(apiKey.List, "apiKeys", (*iampb.ListApiKeysResponse).GetApiKeys),
		"apiKey.listScopes": unary(apiKey.ListScopes),
		"apiKey.create":     unary(apiKey.Create),
		"apiKey.update":     long(w, apiKey.Update, &iampb.UpdateApiKeyMetadata{}, &iampb.ApiKey{}),
		"apiKey.delete":     long(w, apiKey.Delete, &iampb.DeleteApiKeyMetadata{}, &emptypb.Empty{}),

		"accessKey.get":    unary(accessKey.Get),
		"accessKey.list":   list(accessKey.List, "accessKeys", (*awspb.ListAccessKeysResponse).GetAccessKeys),
		"accessKey.create": unary(accessKey.Create),
		"accessKey.update": long(w, accessKey.Update, &awspb.UpdateAccessKeyMetadata{}, &awspb.AccessKey{}),
		"accessKey.delete": long(w, accessKey.Delete, &awspb.DeleteAccessKeyMetadata{}, &emptypb.Empty{}),

		"group.get":                  unary(group.Get),
		"group.list":                 list(group.List, "groups", (*orgpb.ListGroupsResponse).GetGroups),
		"group.create":               long(w, group.Create, &orgpb.CreateGroupMetadata{}, &orgpb.Group{}),
		"group.update":               long(w, group.Update, &orgpb.UpdateGroupMetadata{}, &orgpb.Group{}),
		"group.delete":               long(w, group.Delete, &orgpb.DeleteGroupMetadata{}, &emptypb.Empty{}),
		"group.listMembers":          list(group.ListMembers, "members", (*orgpb.ListGroupMembersResponse).GetMembers),
		"group.updateMembers":        long(w, group.UpdateMembers, &orgpb.UpdateGroupMembersMetadata{}, &emptypb.Empty{}),
		"group.listOperations":       list(group.ListOperations, "operations", (*orgpb.ListGroupOperationsResponse).GetOperations),
		"group.listAccessBindings":   list(group.ListAccessBindings, "accessBindings", (*access.ListAccessBindingsResponse).GetAccessBindings),
		"group.setAccessBindings":    long(w, group.SetAccessBindings, &access.SetAccessBindingsMetadata{}, &access.AccessBindingsOperationResult{}),
		"group.updateAccessBindings": long(w, group.UpdateAccessBindings, &access.UpdateAccessBindingsMetadata{}, &access.AccessBindingsOperationResult{}),

		"member.list":   list(user.ListMembers, "users", (*orgpb.ListMembersResponse).GetUsers),
		"member.delete": long(w, user.DeleteMembership, &orgpb.DeleteMembershipMetadata{}, &orgpb.DeleteMembershipResponse{}),
	}
}
