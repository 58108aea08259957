package resourcemanager

import (
	"context"

	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
)

// places is our own PlaceService.
type places struct {
	brmv1.UnsafePlaceServiceServer // a missing method does not compile
	*Service
}

// GetPlace reads a folder in which something may be made or changed (DL-15), with
// what it lies in. Fails: FOLDER_NOT_FOUND, <KIND>_NOT_ACTIVE.
func (s *places) GetPlace(ctx context.Context, req *brmv1.GetPlaceRequest) (*brmv1.GetPlaceResponse, error) {
	var path []*brmv1.Place
	for k, resourceID := folder, req.GetFolderId(); k != nil; k = k.parent {
		r, err := s.store.Get(ctx, s.store.db, k, resourceID)
		if err != nil {
			return nil, err
		}
		if r.Status != Active {
			return nil, errNotActive(k, r)
		}
		path = append([]*brmv1.Place{{Type: k.typ, Id: r.ID, Name: r.Name}}, path...)
		resourceID = r.ParentID
	}
	return &brmv1.GetPlaceResponse{Path: path}, nil
}
