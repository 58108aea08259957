package resourcemanager

import (
	"context"

	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
)

// resourceNames is our own ResourceNameService.
type resourceNames struct {
	brmv1.UnsafeResourceNameServiceServer // a missing method does not compile
	*Service
}

// BatchGetResourceNames reads the names of resources of any kind and status. Those
// that are not there are left out.
func (s *resourceNames) BatchGetResourceNames(ctx context.Context, req *brmv1.BatchGetResourceNamesRequest) (*brmv1.BatchGetResourceNamesResponse, error) {
	names, err := s.store.Names(ctx, s.store.db, req.GetIds())
	if err != nil {
		return nil, err
	}
	return &brmv1.BatchGetResourceNamesResponse{Names: names}, nil
}
