package main

import (
	"context"
	"encoding/json"
	"maps"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/yandex-cloud/go-genproto/yandex/cloud/access"
	iampb "github.com/yandex-cloud/go-genproto/yandex/cloud/iam/v1"
	operationpb "github.com/yandex-cloud/go-genproto/yandex/cloud/operation"
	orgpb "github.com/yandex-cloud/go-genproto/yandex/cloud/organizationmanager/v1"
	rmpb "github.com/yandex-cloud/go-genproto/yandex/cloud/resourcemanager/v1"
	ycsdk "github.com/yandex-cloud/go-sdk/v2"
	"github.com/yandex-cloud/go-sdk/v2/pkg/iterator"
	"github.com/yandex-cloud/go-sdk/v2/pkg/operation"
	iamsdk "github.com/yandex-cloud/go-sdk/v2/services/iam/v1"
)

// The services whose clients are not part of the SDK's own module: the SDK leads
// a generated client to the right endpoint by such a name.
const (
	organizations = protoreflect.FullName("yandex.cloud.organizationmanager.v1.OrganizationService")
	clouds        = protoreflect.FullName("yandex.cloud.resourcemanager.v1.CloudService")
	folders       = protoreflect.FullName("yandex.cloud.resourcemanager.v1.FolderService")
	operations    = protoreflect.FullName("yandex.cloud.operation.OperationService")
)

// calls are the methods that the scenario uses, as this SDK offers them. Each
// operation stands with the exact types that the SDK demands of it.
func calls(sdk *ycsdk.SDK) map[string]call {
	all := treeCalls(sdk)
	maps.Copy(all, subjectCalls(sdk))
	maps.Copy(all, billingCalls(sdk))
	return all
}

// treeCalls are those on organizations, clouds and folders, and what needs no more.
func treeCalls(sdk *ycsdk.SDK) map[string]call {
	tokens, roles := iamsdk.NewIamTokenClient(sdk), iamsdk.NewRoleClient(sdk)
	org := orgpb.NewOrganizationServiceClient(connection{sdk, organizations})
	cloud := rmpb.NewCloudServiceClient(connection{sdk, clouds})
	folder := rmpb.NewFolderServiceClient(connection{sdk, folders})
	operation := operationpb.NewOperationServiceClient(connection{sdk, operations})
	w := waiter{operation}
	return map[string]call{
		"token.create": unary(tokens.Create),
		"token.revoke": unary(tokens.Revoke),
		"role.get":     unary(roles.Get),
		"role.list":    rolePages(roles),
		"policy.list":  unary(iamsdk.NewAccessPolicyTemplateClient(sdk).List),
		"user.get":     unary(iamsdk.NewUserAccountClient(sdk).Get),
		"user.byLogin": unary(iamsdk.NewYandexPassportUserAccountClient(sdk).GetByLogin),

		"organization.get":                                 unary(org.Get),
		"organization.list":                                list(org.List, "organizations", (*orgpb.ListOrganizationsResponse).GetOrganizations),
		"organization.update":                              long(w, org.Update, &orgpb.UpdateOrganizationMetadata{}, &orgpb.Organization{}),
		"organization.listOperations":                      list(org.ListOperations, "operations", (*orgpb.ListOrganizationOperationsResponse).GetOperations),
		"organization.listAccessBindings":                  list(org.ListAccessBindings, "accessBindings", (*access.ListAccessBindingsResponse).GetAccessBindings),
		"organization.setAccessBindings":                   long(w, org.SetAccessBindings, &access.SetAccessBindingsMetadata{}, &emptypb.Empty{}),
		"organization.updateAccessBindings":                long(w, org.UpdateAccessBindings, &access.UpdateAccessBindingsMetadata{}, &emptypb.Empty{}),
		"organization.listAccessPolicyBindings":            unary(org.ListAccessPolicyBindings),
		"organization.bindAccessPolicy":                    long(w, org.BindAccessPolicy, &access.BindAccessPolicyMetadata{}, &access.BindAccessPolicyResponse{}),
		"organization.unbindAccessPolicy":                  long(w, org.UnbindAccessPolicy, &access.UnbindAccessPolicyMetadata{}, &access.UnbindAccessPolicyResponse{}),
		"organization.updateAccessPolicyBindingParameters": long(w, org.UpdateAccessPolicyBindingParameters, &access.UpdateAccessPolicyBindingParametersMetadata{}, &access.UpdateAccessPolicyBindingParametersResponse{}),

		"cloud.get":                                 unary(cloud.Get),
		"cloud.list":                                list(cloud.List, "clouds", (*rmpb.ListCloudsResponse).GetClouds),
		"cloud.create":                              long(w, cloud.Create, &rmpb.CreateCloudMetadata{}, &rmpb.Cloud{}),
		"cloud.update":                              long(w, cloud.Update, &rmpb.UpdateCloudMetadata{}, &rmpb.Cloud{}),
		"cloud.delete":                              long(w, cloud.Delete, &rmpb.DeleteCloudMetadata{}, &emptypb.Empty{}),
		"cloud.listOperations":                      list(cloud.ListOperations, "operations", (*rmpb.ListCloudOperationsResponse).GetOperations),
		"cloud.listAccessBindings":                  list(cloud.ListAccessBindings, "accessBindings", (*access.ListAccessBindingsResponse).GetAccessBindings),
		"cloud.setAccessBindings":                   long(w, cloud.SetAccessBindings, &access.SetAccessBindingsMetadata{}, &access.AccessBindingsOperationResult{}),
		"cloud.updateAccessBindings":                long(w, cloud.UpdateAccessBindings, &access.UpdateAccessBindingsMetadata{}, &access.AccessBindingsOperationResult{}),
		"cloud.listAccessPolicyBindings":            unary(cloud.ListAccessPolicyBindings),
		"cloud.bindAccessPolicy":                    long(w, cloud.BindAccessPolicy, &access.BindAccessPolicyMetadata{}, &access.BindAccessPolicyResponse{}),
		"cloud.unbindAccessPolicy":                  long(w, cloud.UnbindAccessPolicy, &access.UnbindAccessPolicyMetadata{}, &access.UnbindAccessPolicyResponse{}),
		"cloud.updateAccessPolicyBindingParameters": long(w, cloud.UpdateAccessPolicyBindingParameters, &access.UpdateAccessPolicyBindingParametersMetadata{}, &access.UpdateAccessPolicyBindingParametersResponse{}),

		"folder.get":                                 unary(folder.Get),
		"folder.list":                                list(folder.List, "folders", (*rmpb.ListFoldersResponse).GetFolders),
		"folder.create":                              long(w, folder.Create, &rmpb.CreateFolderMetadata{}, &rmpb.Folder{}),
		"folder.update":                              long(w, folder.Update, &rmpb.UpdateFolderMetadata{}, &rmpb.Folder{}),
		"folder.delete":                              long(w, folder.Delete, &rmpb.DeleteFolderMetadata{}, &emptypb.Empty{}),
		"folder.listOperations":                      list(folder.ListOperations, "operations", (*rmpb.ListFolderOperationsResponse).GetOperations),
		"folder.listAccessBindings":                  list(folder.ListAccessBindings, "accessBindings", (*access.ListAccessBindingsResponse).GetAccessBindings),
		"folder.setAccessBindings":                   long(w, folder.SetAccessBindings, &access.SetAccessBindingsMetadata{}, &access.AccessBindingsOperationResult{}),
		"folder.updateAccessBindings":                long(w, folder.UpdateAccessBindings, &access.UpdateAccessBindingsMetadata{}, &access.AccessBindingsOperationResult{}),
		"folder.listAccessPolicyBindings":            unary(folder.ListAccessPolicyBindings),
		"folder.bindAccessPolicy":                    long(w, folder.BindAccessPolicy, &access.BindAccessPolicyMetadata{}, &access.BindAccessPolicyResponse{}),
		"folder.unbindAccessPolicy":                  long(w, folder.UnbindAccessPolicy, &access.UnbindAccessPolicyMetadata{}, &access.UnbindAccessPolicyResponse{}),
		"folder.updateAccessPolicyBindingParameters": long(w, folder.UpdateAccessPolicyBindingParameters, &access.UpdateAccessPolicyBindingParametersMetadata{}, &access.UpdateAccessPolicyBindingParametersResponse{}),

		"operation.get": unary(operation.Get),
	}
}

// connection lets a generated client run over the connections of the SDK.
type connection struct {
	sdk     *ycsdk.SDK
	service protoreflect.FullName
}

func (c connection) Invoke(ctx context.Context, rpc string, args, reply any, opts ...grpc.CallOption) error {
	conn, err := c.sdk.GetConnection(ctx, c.service, opts...)
	if err != nil {
		return err
	}
	return conn.Invoke(ctx, rpc, args, reply, opts...)
}

func (c connection) NewStream(ctx context.Context, desc *grpc.StreamDesc, rpc string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	conn, err := c.sdk.GetConnection(ctx, c.service, opts...)
	if err != nil {
		return nil, err
	}
	return conn.NewStream(ctx, desc, rpc, opts...)
}

// waiter polls operations as the SDK's own service clients do.
type waiter struct {
	operations operationpb.OperationServiceClient
}

func (w waiter) poll(ctx context.Context, id string, opts ...grpc.CallOption) (operation.YCOperation, error) {
	return w.operations.Get(ctx, &operationpb.GetOperationRequest{OperationId: id}, opts...)
}

// long calls an RPC that returns an operation of these types, and waits for it
// as the SDK does when it is told to.
func long[T any, P message[T]](w waiter, rpc method[P, *operationpb.Operation], metadata, response proto.Message) call {
	return func(ctx context.Context, req request) (json.RawMessage, error) {
		in, err := parse[T, P](req)
		if err != nil {
			return nil, err
		}
		started, err := rpc(ctx, in)
		if err != nil {
			return nil, err
		}
		op, err := operation.NewOperation(started, &operation.Concretization{
			Poll: w.poll, MetadataType: metadata, ResponseType: response,
		})
		if err != nil {
			return nil, err
		}
		if req.Wait {
			if _, err := op.Wait(ctx); err != nil {
				return nil, err
			}
		}
		return protojson.Marshal(op.Proto().ProtoReflect().Interface())
	}
}

// listed is an answer with one page of a list, as the SDK's iterator wants it.
type listed[I any] struct {
	items []I
	next  string
}

func (p listed[I]) Items() []I               { return p.items }
func (p listed[I]) GetNextPageToken() string { return p.next }

// list calls an RPC that lists: one page, or all of them with the SDK's iterator.
func list[T any, P interface {
	message[T]
	iterator.PageRequest
}, A interface {
	proto.Message
	GetNextPageToken() string
}, I proto.Message](page method[P, A], field string, items func(A) []I) call {
	return func(ctx context.Context, req request) (json.RawMessage, error) {
		if !req.All {
			return unary(page)(ctx, req)
		}
		in, err := parse[T, P](req)
		if err != nil {
			return nil, err
		}
		fetch := func(ctx context.Context, in P, opts ...grpc.CallOption) (iterator.PageResponse[I], error) {
			out, err := page(ctx, in, opts...)
			if err != nil {
				return nil, err
			}
			return listed[I]{items(out), out.GetNextPageToken()}, nil
		}
		all, err := iterator.NewIterator(ctx, in, fetch).TakeAll()
		if err != nil {
			return nil, err
		}
		return merged(field, all)
	}
}

// rolePages lists roles with the iterator of the SDK's own client.
func rolePages(roles iamsdk.RoleClient) call {
	return func(ctx context.Context, req request) (json.RawMessage, error) {
		if !req.All {
			return unary(roles.List)(ctx, req)
		}
		in, err := parse[iampb.ListRolesRequest](req)
		if err != nil {
			return nil, err
		}
		all, err := roles.Iterator(ctx, in).TakeAll()
		if err != nil {
			return nil, err
		}
		return merged("roles", all)
	}
}
