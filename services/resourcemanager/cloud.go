package resourcemanager

import (
	"context"
	"database/sql"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// clouds is CloudService. Permissions: see the method options.
type clouds struct {
	rmv1.UnsafeCloudServiceServer // a missing method does not compile
	*Service
	accessMethods
}

func cloudProto(r Resource) *rmv1.Cloud {
	return &rmv1.Cloud{
		Id: r.ID, OrganizationId: r.ParentID, CreatedAt: timestamppb.New(r.CreatedAt),
		Name: r.Name, Description: r.Description, Labels: r.Labels,
	}
}

// Get reads a cloud. Fails: CLOUD_NOT_FOUND.
func (s *clouds) Get(ctx context.Context, req *rmv1.GetCloudRequest) (*rmv1.Cloud, error) {
	r, err := s.store.Get(ctx, s.store.db, cloud, req.GetCloudId())
	if err != nil {
		return nil, err
	}
	return cloudProto(r), nil
}

// List lists the clouds that the caller may see, of one organization or of all.
func (s *clouds) List(ctx context.Context, req *rmv1.ListCloudsRequest) (*rmv1.ListCloudsResponse, error) {
	all, next, err := s.list(ctx, cloud, req.GetOrganizationId(), req)
	if err != nil {
		return nil, err
	}
	resp := &rmv1.ListCloudsResponse{NextPageToken: next}
	for _, r := range all {
		resp.Clouds = append(resp.Clouds, cloudProto(r))
	}
	return resp, nil
}

// Create creates a cloud, whose creator becomes its owner (CR-1, CR-4); without an
// organization the first one of a subject, with an organization of its own (CR-2,
// CR-11). Fails: ORGANIZATION_NOT_FOUND, ORGANIZATION_NOT_ACTIVE, QUOTA_EXCEEDED,
// SERVICE_ACCOUNT_NOT_ALLOWED (SU-9); INVALID_ARGUMENT when it is not the first (CR-3).
func (s *clouds) Create(ctx context.Context, req *rmv1.CreateCloudRequest) (*operationpb.Operation, error) {
	r := s.draft(ctx, cloud, req.GetOrganizationId())
	r.Name, r.Description, r.Labels = req.GetName(), req.GetDescription(), req.GetLabels()
	if r.ParentID == "" {
		return s.createFirst(ctx, r)
	}
	return s.create(ctx, []Resource{r}, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lockActive(ctx, tx, organization, r.ParentID); err != nil {
			return err
		}
		return s.roomIn(ctx, tx, cloud, r.ParentID, catalog.QuotaClouds)
	})
}

// createFirst creates the first cloud of a subject together with its organization
// (CR-2). Of several calls at once one succeeds: they follow one another, and each
// sees what the one before has made, even where the tree does not know it yet.
func (s *clouds) createFirst(ctx context.Context, r Resource) (*operationpb.Operation, error) {
	p := authn.FromContext(ctx)
	found, judged, err := s.hadCloud(ctx, p)
	if err != nil {
		return nil, err
	}
	org := s.draft(ctx, organization, "")
	org.Name, org.Title = organizationName(org.ID), r.Name
	r.ParentID, r.CreatedAt = org.ID, org.CreatedAt
	return s.create(ctx, []Resource{org, r}, func(ctx context.Context, tx *sql.Tx) error {
		if found { // judged here, since a replay finds what the first call made
			return errNotFirstCloud
		}
		if err := s.mayFound(ctx, tx, p); err != nil {
			return err
		}
		return s.stillFirst(ctx, tx, p.ID, judged)
	})
}

// Update changes name, description and labels (CR-9). Fails: CLOUD_NOT_FOUND,
// CLOUD_NOT_ACTIVE (DL-15).
func (s *clouds) Update(ctx context.Context, req *rmv1.UpdateCloudRequest) (*operationpb.Operation, error) {
	return s.update(ctx, cloud, req.GetCloudId(), req)
}

// Delete deletes a cloud with its folders (DL-1, C-1, DL-3, DL-4, DL-14). Fails:
// CLOUD_NOT_FOUND, BEING_DELETED.
func (s *clouds) Delete(ctx context.Context, req *rmv1.DeleteCloudRequest) (*operationpb.Operation, error) {
	return s.remove(ctx, cloud, req.GetCloudId(), s.due(req.GetDeleteAfter()), anything)
}

// ListOperations lists the operations on a cloud, newest first.
func (s *clouds) ListOperations(ctx context.Context, req *rmv1.ListCloudOperationsRequest) (*rmv1.ListCloudOperationsResponse, error) {
	ops, next, err := s.log.List(ctx, cloud.resource(req.GetCloudId()), req)
	if err != nil {
		return nil, err
	}
	return &rmv1.ListCloudOperationsResponse{Operations: ops, NextPageToken: next}, nil
}

// anything allows the deletion of a resource in any state that remove accepts.
func anything(context.Context, *sql.Tx, Resource) error { return nil }
