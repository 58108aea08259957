package resourcemanager

import (
	"context"
	"database/sql"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/catalog"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// folders is FolderService. Permissions: see the method options.
type folders struct {
	rmv1.UnsafeFolderServiceServer // a missing method does not compile
	*Service
	accessMethods
}

func folderProto(r Resource) *rmv1.Folder {
	return &rmv1.Folder{
		Id: r.ID, CloudId: r.ParentID, CreatedAt: timestamppb.New(r.CreatedAt),
		Name: r.Name, Description: r.Description, Labels: r.Labels, Status: folderStatus(r.Status),
	}
}

// folderStatus is the public status (DL-12), which does not know CREATING.
func folderStatus(s Status) rmv1.Folder_Status {
	switch s {
	case Active:
		return rmv1.Folder_ACTIVE
	case PendingDeletion:
		return rmv1.Folder_PENDING_DELETION
	case Deleting:
		return rmv1.Folder_DELETING
	case Creating:
	}
	return rmv1.Folder_STATUS_UNSPECIFIED
}

// Get reads a folder. Fails: FOLDER_NOT_FOUND.
func (s *folders) Get(ctx context.Context, req *rmv1.GetFolderRequest) (*rmv1.Folder, error) {
	r, err := s.store.Get(ctx, s.store.db, folder, req.GetFolderId())
	if err != nil {
		return nil, err
	}
	return folderProto(r), nil
}

// List lists the folders of a cloud that the caller may see.
func (s *folders) List(ctx context.Context, req *rmv1.ListFoldersRequest) (*rmv1.ListFoldersResponse, error) {
	all, next, err := s.list(ctx, folder, req.GetCloudId(), req)
	if err != nil {
		return nil, err
	}
	resp := &rmv1.ListFoldersResponse{NextPageToken: next}
	for _, r := range all {
		resp.Folders = append(resp.Folders, folderProto(r))
	}
	return resp, nil
}

// Create creates a folder in a cloud; its creator gets no binding (CR-6). Fails:
// CLOUD_NOT_FOUND, CLOUD_NOT_ACTIVE (DL-15), FOLDER_NAME_TAKEN (NM-3),
// QUOTA_EXCEEDED.
func (s *folders) Create(ctx context.Context, req *rmv1.CreateFolderRequest) (*operationpb.Operation, error) {
	r := s.draft(ctx, folder, req.GetCloudId())
	r.Name, r.Description, r.Labels = req.GetName(), req.GetDescription(), req.GetLabels()
	return s.create(ctx, []Resource{r}, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.lockActive(ctx, tx, cloud, r.ParentID); err != nil {
			return err
		}
		return s.roomIn(ctx, tx, folder, r.ParentID, catalog.QuotaFolders)
	})
}

// Update changes name, description and labels (CR-9). Fails: FOLDER_NOT_FOUND,
// FOLDER_NOT_ACTIVE, CLOUD_NOT_ACTIVE (DL-15), FOLDER_NAME_TAKEN (NM-3).
func (s *folders) Update(ctx context.Context, req *rmv1.UpdateFolderRequest) (*operationpb.Operation, error) {
	return s.update(ctx, folder, req.GetFolderId(), req)
}

// Delete deletes a folder with everything in it (DL-2, DL-3, DL-4, DL-14). Fails:
// FOLDER_NOT_FOUND, BEING_DELETED.
func (s *folders) Delete(ctx context.Context, req *rmv1.DeleteFolderRequest) (*operationpb.Operation, error) {
	return s.remove(ctx, folder, req.GetFolderId(), s.due(req.GetDeleteAfter()), anything)
}

// ListOperations lists the operations on a folder, newest first.
func (s *folders) ListOperations(ctx context.Context, req *rmv1.ListFolderOperationsRequest) (*rmv1.ListFolderOperationsResponse, error) {
	ops, next, err := s.log.List(ctx, folder.resource(req.GetFolderId()), req)
	if err != nil {
		return nil, err
	}
	return &rmv1.ListFolderOperationsResponse{Operations: ops, NextPageToken: next}, nil
}
