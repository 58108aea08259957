package resourcemanager

import (
	"context"

	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// deletions is our own DeletionService.
type deletions struct {
	brmv1.UnsafeDeletionServiceServer // a missing method does not compile
	*Service
}

// CancelCloudDeletion takes the pending deletion of a cloud back (DL-7, DL-8).
// Fails: CLOUD_NOT_FOUND, NOT_PENDING_DELETION.
func (s *deletions) CancelCloudDeletion(ctx context.Context, req *brmv1.CancelCloudDeletionRequest) (*operationpb.Operation, error) {
	return s.cancelDeletion(ctx, cloud, req.GetCloudId())
}

// CancelFolderDeletion takes the pending deletion of a folder back (DL-7). Fails:
// FOLDER_NOT_FOUND, NOT_PENDING_DELETION.
func (s *deletions) CancelFolderDeletion(ctx context.Context, req *brmv1.CancelFolderDeletionRequest) (*operationpb.Operation, error) {
	return s.cancelDeletion(ctx, folder, req.GetFolderId())
}

// GetCloudState reads the status of a cloud, which the public message does not
// show (DL-12). Fails: CLOUD_NOT_FOUND.
func (s *deletions) GetCloudState(ctx context.Context, req *brmv1.GetCloudStateRequest) (*brmv1.CloudState, error) {
	r, err := s.store.Get(ctx, s.store.db, cloud, req.GetCloudId())
	if err != nil {
		return nil, err
	}
	return &brmv1.CloudState{CloudId: r.ID, Status: cloudStatus(r.Status)}, nil
}

func cloudStatus(s Status) brmv1.CloudState_Status {
	return brmv1.CloudState_Status(brmv1.CloudState_Status_value[string(s)])
}
