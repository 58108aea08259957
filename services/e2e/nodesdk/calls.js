// The methods that the scenario uses, as the Node SDK offers them.
'use strict';

const path = require('node:path');

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
    ...service,
  };
}

const orgs = org.organizationService;
const clouds = rm.cloudService;
const folders = rm.folderService;

const calls = {
  'token.create': unary(iam.iamTokenService.IamTokenServiceClient, 'create', iam.iamTokenService.CreateIamTokenRequest, iam.iamTokenService.CreateIamTokenResponse),
  'token.revoke': unary(iam.iamTokenService.IamTokenServiceClient, 'revoke', iam.iamTokenService.RevokeIamTokenRequest, iam.iamTokenService.RevokeIamTokenResponse),
  'role.get': unary(iam.roleService.RoleServiceClient, 'get', iam.roleService.GetRoleRequest, iam.role.Role),
  'role.list': list(iam.roleService.RoleServiceClient, 'list', iam.roleService.ListRolesRequest, iam.roleService.ListRolesResponse, 'roles'),
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

  'operation.get': unary(operation.operationService.OperationServiceClient, 'get', operation.operationService.GetOperationRequest, Operation),
};

// The messages that an operation may hold, by their full names.
const packed = { 'google.protobuf.Empty': { decode: () => ({}), toJSON: () => ({}) } };
for (const module of [access, orgs, org.organization, clouds, rm.cloud, folders, rm.folder]) {
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
