package resourcemanager

import (
	"context"
	"database/sql"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authn"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// organizations is the public OrganizationService, which neither creates nor
// deletes. Permissions: see the method options.
type organizations struct {
	orgv1.UnsafeOrganizationServiceServer // a missing method does not compile
	*Service
	accessMethods
}

func organizationProto(r Resource) *orgv1.Organization {
	return &orgv1.Organization{
		Id: r.ID, CreatedAt: timestamppb.New(r.CreatedAt), Name: r.Name, Title: r.Title,
		Description: r.Description, Labels: r.Labels,
	}
}

// Get reads an organization. Fails: ORGANIZATION_NOT_FOUND.
func (s *organizations) Get(ctx context.Context, req *orgv1.GetOrganizationRequest) (*orgv1.Organization, error) {
	r, err := s.store.Get(ctx, s.store.db, organization, req.GetOrganizationId())
	if err != nil {
		return nil, err
	}
	return organizationProto(r), nil
}

// List lists the organizations that the caller may see.
func (s *organizations) List(ctx context.Context, req *orgv1.ListOrganizationsRequest) (*orgv1.ListOrganizationsResponse, error) {
	all, next, err := s.list(ctx, organization, "", req)
	if err != nil {
		return nil, err
	}
	resp := &orgv1.ListOrganizationsResponse{NextPageToken: next}
	for _, r := range all {
		resp.Organizations = append(resp.Organizations, organizationProto(r))
	}
	return resp, nil
}

// Update changes name, description, title and labels. Fails:
// ORGANIZATION_NOT_FOUND, ORGANIZATION_NOT_ACTIVE.
func (s *organizations) Update(ctx context.Context, req *orgv1.UpdateOrganizationRequest) (*operationpb.Operation, error) {
	return s.update(ctx, organization, req.GetOrganizationId(), req)
}

// ListOperations lists the operations on an organization, newest first.
func (s *organizations) ListOperations(ctx context.Context, req *orgv1.ListOrganizationOperationsRequest) (*orgv1.ListOrganizationOperationsResponse, error) {
	ops, next, err := s.log.List(ctx, organization.resource(req.GetOrganizationId()), req)
	if err != nil {
		return nil, err
	}
	return &orgv1.ListOrganizationOperationsResponse{Operations: ops, NextPageToken: next}, nil
}

// organizationLife is our own OrganizationService, which creates and deletes.
type organizationLife struct {
	brmv1.UnsafeOrganizationServiceServer // a missing method does not compile
	*Service
}

// CreateOrganization creates an organization, whose creator becomes its owner
// (CR-11) and its first member. Fails: QUOTA_EXCEEDED, SERVICE_ACCOUNT_NOT_ALLOWED (SU-9).
func (s *organizationLife) CreateOrganization(ctx context.Context, req *brmv1.CreateOrganizationRequest) (*operationpb.Operation, error) {
	r := s.draft(ctx, organization, "")
	r.Name, r.Title, r.Description, r.Labels = req.GetName(), req.GetTitle(), req.GetDescription(), req.GetLabels()
	if r.Title == "" {
		r.Title = r.Name
	}
	return s.create(ctx, []Resource{r}, func(ctx context.Context, tx *sql.Tx) error {
		return s.mayFound(ctx, tx, authn.FromContext(ctx))
	})
}

// DeleteOrganization deletes an organization at once, with clouds whose deletion is
// pending (OW-7 is in the rule of the method). Fails: ORGANIZATION_NOT_FOUND,
// ORGANIZATION_NOT_EMPTY, BEING_DELETED.
func (s *organizationLife) DeleteOrganization(ctx context.Context, req *brmv1.DeleteOrganizationRequest) (*operationpb.Operation, error) {
	return s.remove(ctx, organization, req.GetOrganizationId(), time.Time{}, func(ctx context.Context, tx *sql.Tx, r Resource) error {
		n, err := s.store.CountStaying(ctx, tx, r.ID)
		if err == nil && n > 0 {
			err = errOrganizationNotEmpty(r.ID, n)
		}
		return err
	})
}
