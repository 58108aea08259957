package main

import (
	"context"
	"encoding/json"
	"maps"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/yandex-cloud/go-genproto/yandex/cloud/operation"
	ycsdk "github.com/yandex-cloud/go-sdk"
)

// calls are the methods that the scenario uses, as this SDK offers them.
func calls(sdk *ycsdk.SDK) map[string]call {
	all := treeCalls(sdk)
	maps.Copy(all, subjectCalls(sdk))
	maps.Copy(all, billingCalls(sdk))
	return all
}

// treeCalls are those on organizations, clouds and folders, and what needs no more.
func treeCalls(sdk *ycsdk.SDK) map[string]call {
	iam := sdk.IAM()
	org := sdk.OrganizationManager().Organization()
	cloud := sdk.ResourceManager().Cloud()
	folder := sdk.ResourceManager().Folder()
	return map[string]call{
		"token.create": unary(iam.IamToken().Create),
		"token.revoke": unary(iam.IamToken().Revoke),
		"role.get":     unary(iam.Role().Get),
		"role.list":    list(iam.Role().List, "roles", iam.Role().RoleIterator),
		"policy.list":  unary(iam.AccessPolicyTemplate().List),
		"user.get":     unary(iam.UserAccount().Get),
		"user.byLogin": unary(iam.YandexPassportUserAccount().GetByLogin),

		"organization.get":                                 unary(org.Get),
		"organization.list":                                list(org.List, "organizations", org.OrganizationIterator),
		"organization.update":                              long(sdk, org.Update),
		"organization.listOperations":                      list(org.ListOperations, "operations", org.OrganizationOperationsIterator),
		"organization.listAccessBindings":                  list(org.ListAccessBindings, "accessBindings", org.OrganizationAccessBindingsIterator),
		"organization.setAccessBindings":                   long(sdk, org.SetAccessBindings),
		"organization.updateAccessBindings":                long(sdk, org.UpdateAccessBindings),
		"organization.listAccessPolicyBindings":            unary(org.ListAccessPolicyBindings),
		"organization.bindAccessPolicy":                    long(sdk, org.BindAccessPolicy),
		"organization.unbindAccessPolicy":                  long(sdk, org.UnbindAccessPolicy),
		"organization.updateAccessPolicyBindingParameters": long(sdk, org.UpdateAccessPolicyBindingParameters),

		"cloud.get":                                 unary(cloud.Get),
		"cloud.list":                                list(cloud.List, "clouds", cloud.CloudIterator),
		"cloud.create":                              long(sdk, cloud.Create),
		"cloud.update":                              long(sdk, cloud.Update),
		"cloud.delete":                              long(sdk, cloud.Delete),
		"cloud.listOperations":                      list(cloud.ListOperations, "operations", cloud.CloudOperationsIterator),
		"cloud.listAccessBindings":                  list(cloud.ListAccessBindings, "accessBindings", cloud.CloudAccessBindingsIterator),
		"cloud.setAccessBindings":                   long(sdk, cloud.SetAccessBindings),
		"cloud.updateAccessBindings":                long(sdk, cloud.UpdateAccessBindings),
		"cloud.listAccessPolicyBindings":            unary(cloud.ListAccessPolicyBindings),
		"cloud.bindAccessPolicy":                    long(sdk, cloud.BindAccessPolicy),
		"cloud.unbindAccessPolicy":                  long(sdk, cloud.UnbindAccessPolicy),
		"cloud.updateAccessPolicyBindingParameters": long(sdk, cloud.UpdateAccessPolicyBindingParameters),

		"folder.get":                                 unary(folder.Get),
		"folder.list":                                list(folder.List, "folders", folder.FolderIterator),
		"folder.create":                              long(sdk, folder.Create),
		"folder.update":                              long(sdk, folder.Update),
		"folder.delete":                              long(sdk, folder.Delete),
		"folder.listOperations":                      list(folder.ListOperations, "operations", folder.FolderOperationsIterator),
		"folder.listAccessBindings":                  list(folder.ListAccessBindings, "accessBindings", folder.FolderAccessBindingsIterator),
		"folder.setAccessBindings":                   long(sdk, folder.SetAccessBindings),
		"folder.updateAccessBindings":                long(sdk, folder.UpdateAccessBindings),
		"folder.listAccessPolicyBindings":            unary(folder.ListAccessPolicyBindings),
		"folder.bindAccessPolicy":                    long(sdk, folder.BindAccessPolicy),
		"folder.unbindAccessPolicy":                  long(sdk, folder.UnbindAccessPolicy),
		"folder.updateAccessPolicyBindingParameters": long(sdk, folder.UpdateAccessPolicyBindingParameters),

		"operation.get": unary(sdk.Operation().Get),
	}
}

// long calls an RPC that returns an operation, and waits for it as the SDK does
// when it is told to.
func long[T any, P message[T]](sdk *ycsdk.SDK, rpc method[P, *operation.Operation]) call {
	return func(ctx context.Context, req request) (json.RawMessage, error) {
		in, err := parse[T, P](req)
		if err != nil {
			return nil, err
		}
		op, err := sdk.WrapOperation(rpc(ctx, in))
		if err != nil {
			return nil, err
		}
		if req.Wait {
			if err := op.Wait(ctx); err != nil {
				return nil, err
			}
		}
		return protojson.Marshal(op.Proto())
	}
}

// taker is what every iterator of this SDK has.
type taker[I proto.Message] interface {
	TakeAll() ([]I, error)
}

// list calls an RPC that lists: one page, or all of them with the SDK's iterator.
func list[T any, P message[T], A, I proto.Message, it taker[I]](
	page method[P, A], field string, iterate func(context.Context, P, ...grpc.CallOption) it,
) call {
	return func(ctx context.Context, req request) (json.RawMessage, error) {
		if !req.All {
			return unary(page)(ctx, req)
		}
		in, err := parse[T, P](req)
		if err != nil {
			return nil, err
		}
		items, err := iterate(ctx, in).TakeAll()
		if err != nil {
			return nil, err
		}
		return merged(field, items)
	}
}
