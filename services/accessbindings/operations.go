package accessbindings

import (
	"context"

	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// OperationLog is bindery.access.v1.OperationLogService.
type OperationLog struct {
	accessv1.UnimplementedOperationLogServiceServer
	operations *operation.Store
	committer  *committer
}

// ListOperations lists the operations by which the access of a resource was
// changed, newest first. What it shows as done is in force. (The id of an
// operation is told to nobody else before its change is: OperationService.Get
// needs no such wait.)
func (s *OperationLog) ListOperations(ctx context.Context, req *accessv1.ListOperationsRequest) (*accessv1.ListOperationsResponse, error) {
	var after page.Position
	if b := req.GetBefore(); b != nil {
		after = page.Position{Time: micros(b.GetCreatedAt()), ID: b.GetId()}
	}
	resource := operation.Resource{Type: req.GetResource().GetType(), ID: req.GetResource().GetId()}
	ops, err := s.operations.List(ctx, resource, after, page.Size(req.GetPageSize()))
	if err != nil {
		return nil, err
	}
	if err := s.committer.settle(ctx); err != nil {
		return nil, err
	}
	resp := new(accessv1.ListOperationsResponse)
	for _, op := range ops {
		resp.Operations = append(resp.Operations, op.Proto())
	}
	return resp, nil
}
