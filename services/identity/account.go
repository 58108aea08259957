package identity

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// Types of resources and permissions of service accounts.
const (
	typeAccount = "iam.serviceAccount"
	typeFolder  = "resource-manager.folder"
	typeCloud   = "resource-manager.cloud"

	permissionGetAccount        = "iam.serviceAccounts.get"
	permissionCreateAccount     = "iam.serviceAccounts.create"
	permissionUpdateAccount     = "iam.serviceAccounts.update"
	permissionDeleteAccount     = "iam.serviceAccounts.delete"
	permissionSuspendAccount    = "iam.serviceAccounts.suspend"
	permissionReactivateAccount = "iam.serviceAccounts.reactivate"
	permissionActAsAccount      = "iam.serviceAccounts.createToken"
)

// accounts is ServiceAccountService. Permissions: see the method options; to list bindings is
// an auditor's too (C-8).
type accounts struct {
	iamv1.UnsafeServiceAccountServiceServer // a missing method does not compile
	*Service
	access.Bindings
}

// resource names the account for the checker.
func (a ServiceAccount) resource() authz.Resource {
	return authz.Resource{Type: typeAccount, ID: a.ID}
}

// proto is the public message of an account.
func (a ServiceAccount) proto() *iamv1.ServiceAccount {
	return &iamv1.ServiceAccount{
		Id: a.ID, FolderId: a.FolderID, CreatedAt: timestamppb.New(a.CreatedAt), Name: a.Name, Description: a.Description,
		Labels: a.Labels, LastAuthenticatedAt: timestamp(a.LastAuthenticatedAt), ExpiresAt: timestamp(a.ExpiresAt),
		Status: iamv1.ServiceAccount_Status(iamv1.ServiceAccount_Status_value[string(a.State)]),
	}
}

// timestamp leaves the zero time out of a message.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// timeOf is a message's time as it is stored; zero for none.
func timeOf(t *timestamppb.Timestamp) time.Time {
	if t == nil {
		return time.Time{}
	}
	return t.AsTime().Truncate(time.Microsecond)
}

// Get reads a service account. Fails: SERVICE_ACCOUNT_NOT_FOUND.
func (s *accounts) Get(ctx context.Context, req *iamv1.GetServiceAccountRequest) (*iamv1.ServiceAccount, error) {
	a, err := s.store.ServiceAccount(ctx, s.store.db, req.GetServiceAccountId())
	if err != nil {
		return nil, err
	}
	return a.proto(), nil
}

// List lists the service accounts of a folder that the caller may see.
func (s *accounts) List(ctx context.Context, req *iamv1.ListServiceAccountsRequest) (*iamv1.ListServiceAccountsResponse, error) {
	all, next, err := s.listAccounts(ctx, req)
	if err != nil {
		return nil, err
	}
	resp := &iamv1.ListServiceAccountsResponse{NextPageToken: next}
	for _, a := range all {
		resp.ServiceAccounts = append(resp.ServiceAccounts, a.proto())
	}
	return resp, nil
}

// ListOperations lists the operations on a service account, newest first.
func (s *accounts) ListOperations(ctx context.Context, req *iamv1.ListServiceAccountOperationsRequest) (*iamv1.ListServiceAccountOperationsResponse, error) {
	log := access.Operations{Own: s.operations, Log: s.changes, Pages: s.pages}
	ops, next, err := log.List(ctx, authz.Resource{Type: typeAccount, ID: req.GetServiceAccountId()}, req)
	if err != nil {
		return nil, err
	}
	return &iamv1.ListServiceAccountOperationsResponse{Operations: ops, NextPageToken: next}, nil
}

// accountsOf counts the service accounts of a cloud.
func (s *Service) accountsOf(ctx context.Context, cloudID string) (int64, error) {
	return s.store.CountAccounts(ctx, s.store.db, cloudID)
}

// wellFormed refuses what both engines could not store alike; patterns judge the
// other fields before.
func (a ServiceAccount) wellFormed() error {
	if err := sqldb.CheckText(a.Description); err != nil {
		return errDescription.WithCause(err)
	}
	return nil
}
