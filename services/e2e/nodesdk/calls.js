// The methods that the scenario uses, as the Node SDK offers them.
'use strict';

const path = require('node:path');

const bill = require('@yandex-cloud/nodejs-sdk/billing-v1');
const iam = require('@yandex-cloud/nodejs-sdk/iam-v1');
const org = require('@yandex-cloud/nodejs-sdk/organizationmanager-v1');
const rm = require('@yandex-cloud/nodejs-sdk/resourcemanager-v1');
const operation = require('@yandex-cloud/nodejs-sdk/operation');

// The SDK has the messages of yandex.cloud.access and does not export them.
const sdk = path.dirname(require.resolve('@yandex-cloud/nodejs-sdk'));
const access = require(path.join(sdk, 'generated/yandex/cloud/access/access'));

const { Operation } = operation.operation;

function unary(client, method, request, answer) {
  return { client, method, request, answer };
}

function list(client, method, request, answer, items) {
  return { client, method, request, answer, items };
}

function long(client, method, request) {
  return { client, method, request, answer: Operation };
}

// The methods that clouds, folders and organizations have alike.
function resource(name, client, service) {
  return {
    [`${name}.listAccessBindings`]: list(client, 'listAccessBindings', access.ListAccessBindingsRequest, access.ListAccessBindingsResponse, 'accessBindings'),
    [`${name}.setAccessBindings`]: long(client, 'setAccessBindings', access.SetAccessBindingsRequest),
    [`${name}.updateAccessBindings`]: long(client, 'updateAccessBindings', access.UpdateAccessBindingsRequest),
    [`${name}.listAccessPolicyBindings`]: unary(client, 'listAccessPolicyBindings', access.ListAccessPolicyBindingsRequest, access.ListAccessPolicyBindingsResponse),
    [`${name}.bindAccessPolicy`]: long(client, 'bindAccessPolicy', access.BindAccessPolicyRequest),
    [`${name}.unbindAccessPolicy`]: long(client, 'unbindAccessPolicy', access.UnbindAccessPolicyRequest),
    [`${name}.updateAccessPolicyBindingParameters`]: long(client, 'updateAccessPolicyBindingParameters', access.UpdateAccessPolicyBindingParametersRequest),
    ...service,
  };
}

const orgs = org.organizationService;
const clouds = rm.cloudService;
const folders = rm.folderService;

const accounts = iam.serviceAccountService;
const groups = org.groupService;
const members = org.userService;

// Service accounts, their keys, groups and members.
const subjects = {
  'token.createForServiceAccount': unary(iam.iamTokenService.IamTokenServiceClient, 'createForServiceAccount', iam.iamTokenService.CreateIamTokenForServiceAccountRequest, iam.iamTokenService.CreateIamTokenResponse),

  ...resource('serviceAccount', accounts.ServiceAccountServiceClient, {
    'serviceAccount.get': unary(accounts.ServiceAccountServiceClient, 'get', accounts.GetServiceAccountRequest, iam.serviceAccount.ServiceAccount),
    'serviceAccount.list': list(accounts.ServiceAccountServiceClient, 'list', accounts.ListServiceAccountsRequest, accounts.ListServiceAccountsResponse, 'serviceAccounts'),
    'serviceAccount.create': long(accounts.ServiceAccountServiceClient, 'create', accounts.CreateServiceAccountRequest),
    'serviceAccount.update': long(accounts.ServiceAccountServiceClient, 'update', accounts.UpdateServiceAccountRequest),
    'serviceAccount.delete': long(accounts.ServiceAccountServiceClient, 'delete', accounts.DeleteServiceAccountRequest),
    'serviceAccount.suspend': long(accounts.ServiceAccountServiceClient, 'suspend', accounts.SuspendServiceAccountRequest),
    'serviceAccount.reactivate': long(accounts.ServiceAccountServiceClient, 'reactivate', accounts.ReactivateServiceAccountRequest),
    'serviceAccount.listOperations': list(accounts.ServiceAccountServiceClient, 'listOperations', accounts.ListServiceAccountOperationsRequest, accounts.ListServiceAccountOperationsResponse, 'operations'),
  }),

  'key.get': unary(iam.keyService.KeyServiceClient, 'get', iam.keyService.GetKeyRequest, iam.key.Key),
  'key.list': list(iam.keyService.KeyServiceClient, 'list', iam.keyService.ListKeysRequest, iam.keyService.ListKeysResponse, 'keys'),
  'key.create': unary(iam.keyService.KeyServiceClient, 'create', iam.keyService.CreateKeyRequest, iam.keyService.CreateKeyResponse),
  'key.update': long(iam.keyService.KeyServiceClient, 'update', iam.keyService.UpdateKeyRequest),
  'key.delete': long(iam.keyService.KeyServiceClient, 'delete', iam.keyService.DeleteKeyRequest),

  'apiKey.get': unary(iam.apiKeyService.ApiKeyServiceClient, 'get', iam.apiKeyService.GetApiKeyRequest, iam.apiKey.ApiKey),
  'apiKey.list': list(iam.apiKeyService.ApiKeyServiceClient, 'list', iam.apiKeyService.ListApiKeysRequest, iam.apiKeyService.ListApiKeysResponse, 'apiKeys'),
  'apiKey.listScopes': unary(iam.apiKeyService.ApiKeyServiceClient, 'listScopes', iam.apiKeyService.ListApiKeyScopesRequest, iam.apiKeyService.ListApiKeyScopesResponse),
  'apiKey.create': unary(iam.apiKeyService.ApiKeyServiceClient, 'create', iam.apiKeyService.CreateApiKeyRequest, iam.apiKeyService.CreateApiKeyResponse),
  'apiKey.update': long(iam.apiKeyService.ApiKeyServiceClient, 'update', iam.apiKeyService.UpdateApiKeyRequest),
  'apiKey.delete': long(iam.apiKeyService.ApiKeyServiceClient, 'delete', iam.apiKeyService.DeleteApiKeyRequest),

  'accessKey.get': unary(iam.accessKeyService.AccessKeyServiceClient, 'get', iam.accessKeyService.GetAccessKeyRequest, iam.accessKey.AccessKey),
  'accessKey.list': list(iam.accessKeyService.AccessKeyServiceClient, 'list', iam.accessKeyService.ListAccessKeysRequest, iam.accessKeyService.ListAccessKeysResponse, 'accessKeys'),
  'accessKey.create': unary(iam.accessKeyService.AccessKeyServiceClient, 'create', iam.accessKeyService.CreateAccessKeyRequest, iam.accessKeyService.CreateAccessKeyResponse),
  'accessKey.update': long(iam.accessKeyService.AccessKeyServiceClient, 'update', iam.accessKeyService.UpdateAccessKeyRequest),
  'accessKey.delete': long(iam.accessKeyService.AccessKeyServiceClient, 'delete', iam.accessKeyService.DeleteAccessKeyRequest),

  ...resource('group', groups.GroupServiceClient, {
    'group.get': unary(groups.GroupServiceClient, 'get', groups.GetGroupRequest, org.group.Group),
    'group.list': list(groups.GroupServiceClient, 'list', groups.ListGroupsRequest, groups.ListGroupsResponse, 'groups'),
    'group.create': long(groups.GroupServiceClient, 'create', groups.CreateGroupRequest),
    'group.update': long(groups.GroupServiceClient, 'update', groups.UpdateGroupRequest),
    'group.delete': long(groups.GroupServiceClient, 'delete', groups.DeleteGroupRequest),
    'group.listMembers': list(groups.GroupServiceClient, 'listMembers', groups.ListGroupMembersRequest, groups.ListGroupMembersResponse, 'members'),
    'group.updateMembers': long(groups.GroupServiceClient, 'updateMembers', groups.UpdateGroupMembersRequest),
    'group.listOperations': list(groups.GroupServiceClient, 'listOperations', groups.ListGroupOperationsRequest, groups.ListGroupOperationsResponse, 'operations'),
  }),

  'member.list': list(members.UserServiceClient, 'listMembers', members.ListMembersRequest, members.ListMembersResponse, 'users'),
  'member.delete': long(members.UserServiceClient, 'deleteMembership', members.DeleteMembershipRequest),

};

const accountsOf = bill.billingAccountService;
const customers = bill.customerService;

// Billing accounts and a partner's customers.
const billing = {
  'account.get': unary(accountsOf.BillingAccountServiceClient, 'get', accountsOf.GetBillingAccountRequest, bill.billingAccount.BillingAccount),
  'account.list': list(accountsOf.BillingAccountServiceClient, 'list', accountsOf.ListBillingAccountsRequest, accountsOf.ListBillingAccountsResponse, 'billingAccounts'),
  'account.bindBillableObject': long(accountsOf.BillingAccountServiceClient, 'bindBillableObject', accountsOf.BindBillableObjectRequest),
  'account.listBillableObjectBindings': list(accountsOf.BillingAccountServiceClient, 'listBillableObjectBindings', accountsOf.ListBillableObjectBindingsRequest, accountsOf.ListBillableObjectBindingsResponse, 'billableObjectBindings'),
  'account.listAccessBindings': list(accountsOf.BillingAccountServiceClient, 'listAccessBindings', access.ListAccessBindingsRequest, access.ListAccessBindingsResponse, 'accessBindings'),
  'account.updateAccessBindings': long(accountsOf.BillingAccountServiceClient, 'updateAccessBindings', access.UpdateAccessBindingsRequest),

  'customer.list': list(customers.CustomerServiceClient, 'list', customers.ListCustomersRequest, customers.ListCustomersResponse, 'customers'),
  'customer.invite': long(customers.CustomerServiceClient, 'invite', customers.InviteCustomerRequest),
  'customer.createResellerServed': long(customers.CustomerServiceClient, 'createResellerServed', customers.CreateResellerServedCustomerRequest),
  'customer.activate': long(customers.CustomerServiceClient, 'activate', customers.ActivateCustomerRequest),
  'customer.suspend': long(customers.CustomerServiceClient, 'suspend', customers.SuspendCustomerRequest),
};

const calls = {
  'token.create': unary(iam.iamTokenService.IamTokenServiceClient, 'create', iam.iamTokenService.CreateIamTokenRequest, iam.iamTokenService.CreateIamTokenResponse),
  'token.revoke': unary(iam.iamTokenService.IamTokenServiceClient, 'revoke', iam.iamTokenService.RevokeIamTokenRequest, iam.iamTokenService.RevokeIamTokenResponse),
  'role.get': unary(iam.roleService.RoleServiceClient, 'get', iam.roleService.GetRoleRequest, iam.role.Role),
  'role.list': list(iam.roleService.RoleServiceClient, 'list', iam.roleService.ListRolesRequest, iam.roleService.ListRolesResponse, 'roles'),
  'policy.list': unary(iam.accessPolicyTemplateService.AccessPolicyTemplateServiceClient, 'list', iam.accessPolicyTemplateService.ListAccessPolicyTemplatesRequest, iam.accessPolicyTemplateService.ListAccessPolicyTemplatesResponse),
  'user.get': unary(iam.userAccountService.UserAccountServiceClient, 'get', iam.userAccountService.GetUserAccountRequest, iam.userAccount.UserAccount),
  'user.byLogin': unary(iam.yandexPassportUserAccountService.YandexPassportUserAccountServiceClient, 'getByLogin', iam.yandexPassportUserAccountService.GetUserAccountByLoginRequest, iam.userAccount.UserAccount),

  ...resource('organization', orgs.OrganizationServiceClient, {
    'organization.get': unary(orgs.OrganizationServiceClient, 'get', orgs.GetOrganizationRequest, org.organization.Organization),
    'organization.list': list(orgs.OrganizationServiceClient, 'list', orgs.ListOrganizationsRequest, orgs.ListOrganizationsResponse, 'organizations'),
    'organization.update': long(orgs.OrganizationServiceClient, 'update', orgs.UpdateOrganizationRequest),
    'organization.listOperations': list(orgs.OrganizationServiceClient, 'listOperations', orgs.ListOrganizationOperationsRequest, orgs.ListOrganizationOperationsResponse, 'operations'),
  }),

  ...resource('cloud', clouds.CloudServiceClient, {
    'cloud.get': unary(clouds.CloudServiceClient, 'get', clouds.GetCloudRequest, rm.cloud.Cloud),
    'cloud.list': list(clouds.CloudServiceClient, 'list', clouds.ListCloudsRequest, clouds.ListCloudsResponse, 'clouds'),
    'cloud.create': long(clouds.CloudServiceClient, 'create', clouds.CreateCloudRequest),
    'cloud.update': long(clouds.CloudServiceClient, 'update', clouds.UpdateCloudRequest),
    'cloud.delete': long(clouds.CloudServiceClient, 'delete', clouds.DeleteCloudRequest),
    'cloud.listOperations': list(clouds.CloudServiceClient, 'listOperations', clouds.ListCloudOperationsRequest, clouds.ListCloudOperationsResponse, 'operations'),
  }),

  ...resource('folder', folders.FolderServiceClient, {
    'folder.get': unary(folders.FolderServiceClient, 'get', folders.GetFolderRequest, rm.folder.Folder),
    'folder.list': list(folders.FolderServiceClient, 'list', folders.ListFoldersRequest, folders.ListFoldersResponse, 'folders'),
    'folder.create': long(folders.FolderServiceClient, 'create', folders.CreateFolderRequest),
    'folder.update': long(folders.FolderServiceClient, 'update', folders.UpdateFolderRequest),
    'folder.delete': long(folders.FolderServiceClient, 'delete', folders.DeleteFolderRequest),
    'folder.listOperations': list(folders.FolderServiceClient, 'listOperations', folders.ListFolderOperationsRequest, folders.ListFolderOperationsResponse, 'operations'),
  }),

  ...subjects,
  ...billing,

  'operation.get': unary(operation.operationService.OperationServiceClient, 'get', operation.operationService.GetOperationRequest, Operation),
};

// The messages that an operation may hold, by their full names.
const packed = { 'google.protobuf.Empty': { decode: () => ({}), toJSON: () => ({}) } };
const modules = [
  access, orgs, org.organization, clouds, rm.cloud, folders, rm.folder, accounts, iam.serviceAccount,
  iam.keyService, iam.key, iam.apiKeyService, iam.apiKey, iam.accessKeyService, iam.accessKey, groups, org.group, members,
  accountsOf, bill.billableObject, customers, bill.customer,
];
for (const module of modules) {
  for (const [name, type] of Object.entries(module)) {
    packed[`${module.protobufPackage}.${name}`] = type;
  }
}

// Shows the packed messages of operations as proto JSON does, opened.
function show(message) {
  if (message.operations) {
    return { ...message, operations: message.operations.map(show) };
  }
  const opened = {};
  for (const field of ['metadata', 'response']) {
    if (message[field] && message[field].typeUrl) {
      const { typeUrl, value } = message[field];
      const type = packed[typeUrl.split('/').pop()];
      opened[field] = { '@type': typeUrl, ...type.toJSON(type.decode(Buffer.from(value, 'base64'))) };
    }
  }
  return { ...message, ...opened };
}

module.exports = { calls, show };
