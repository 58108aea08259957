package main

import ycsdk "github.com/yandex-cloud/go-sdk"

// subjectCalls are those on service accounts, their keys, groups and members.
func subjectCalls(sdk *ycsdk.SDK) map[string]call {
	iam := sdk.IAM()
	account := iam.ServiceAccount()
	key, apiKey, accessKey := iam.Key(), iam.ApiKey(), iam.AWSCompatibility().AccessKey()
	group, user := sdk.OrganizationManager().Group(), sdk.OrganizationManager().User()
	return map[string]call{
		"token.createForServiceAccount": unary(iam.IamToken().CreateForServiceAccount),

		"serviceAccount.get":                  unary(account.Get),
		"serviceAccount.list":                 list(account.List, "serviceAccounts", account.ServiceAccountIterator),
		"serviceAccount.create":               long(sdk, account.Create),
		"serviceAccount.update":               long(sdk, account.Update),
		"serviceAccount.delete":               long(sdk, account.Delete),
		"serviceAccount.suspend":              long(sdk, account.Suspend),
		"serviceAccount.reactivate":           long(sdk, account.Reactivate),
		"serviceAccount.listOperations":       list(account.ListOperations, "operations", account.ServiceAccountOperationsIterator),
		"serviceAccount.listAccessBindings":   list(account.ListAccessBindings, "accessBindings", account.ServiceAccountAccessBindingsIterator),
		"serviceAccount.setAccessBindings":    long(sdk, account.SetAccessBindings),
		"serviceAccount.updateAccessBindings": long(sdk, account.UpdateAccessBindings),

		"key.get":    unary(key.Get),
		"key.list":   list(key.List, "keys", key.KeyIterator),
		"key.create": unary(key.Create),
		"key.update": long(sdk, key.Update),
		"key.delete": long(sdk, key.Delete),

		"apiKey.get":        unary(apiKey.Get),
		"apiKey.list":       list(apiKey.List, "apiKeys", apiKey.ApiKeyIterator),
		"apiKey.listScopes": unary(apiKey.ListScopes),
		"apiKey.create":     unary(apiKey.Create),
		"apiKey.update":     long(sdk, apiKey.Update),
		"apiKey.delete":     long(sdk, apiKey.Delete),

		"accessKey.get":    unary(accessKey.Get),
		"accessKey.list":   list(accessKey.List, "accessKeys", accessKey.AccessKeyIterator),
		"accessKey.create": unary(accessKey.Create),
		"accessKey.update": long(sdk, accessKey.Update),
		"accessKey.delete": long(sdk, accessKey.Delete),

		"group.get":                  unary(group.Get),
		"group.list":                 list(group.List, "groups", group.GroupIterator),
		"group.create":               long(sdk, group.Create),
		"group.update":               long(sdk, group.Update),
		"group.delete":               long(sdk, group.Delete),
		"group.listMembers":          list(group.ListMembers, "members", group.GroupMembersIterator),
		"group.updateMembers":        long(sdk, group.UpdateMembers),
		"group.listOperations":       list(group.ListOperations, "operations", group.GroupOperationsIterator),
		"group.listAccessBindings":   list(group.ListAccessBindings, "accessBindings", group.GroupAccessBindingsIterator),
		"group.setAccessBindings":    long(sdk, group.SetAccessBindings),
		"group.updateAccessBindings": long(sdk, group.UpdateAccessBindings),

		"member.list":   list(user.ListMembers, "users", user.UserMembersIterator),
		"member.delete": long(sdk, user.DeleteMembership),
	}
}
