package access

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Operations lists the operations on the resources of a unit. All fields are
// required.
type Operations struct {
	Own   *operation.Store // those of the unit
	Log   accessv1.OperationLogServiceClient
	Pages *page.Sealer
}

// PageRequest is what list requests have in common.
type PageRequest interface {
	GetPageSize() int64
	GetPageToken() string
}

// List reads one page of the operations on a resource, newest first (NM-7): those of
// the unit and those by which accessbindings changed its access. The second value is
// the token of the next page, "" on the last one.
func (o Operations) List(ctx context.Context, r authz.Resource, req PageRequest) ([]*operationpb.Operation, string, error) {
	scope := []string{"operations", r.Type, r.ID}
	after, err := o.Pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	own, err := o.Own.List(ctx, r, after, size+1)
	if err != nil {
		return nil, "", err
	}
	theirs, err := o.changes(ctx, r, after, size+1)
	if err != nil {
		return nil, "", err
	}
	merged := merge(own, theirs)
	fit := page.Fit(min(len(merged), size), func(i int) int { return proto.Size(merged[i]) })
	if fit == len(merged) {
		return merged, "", nil
	}
	token, err := o.Pages.Seal(Place(merged[fit-1]), scope...)
	return merged[:fit], token, err
}

// changes reads the operations by which the access of a resource was changed.
func (o Operations) changes(ctx context.Context, r authz.Resource, after page.Position, want int) ([]*operationpb.Operation, error) {
	var all []*operationpb.Operation
	for bytes := 0; ; {
		req := &accessv1.ListOperationsRequest{
			Resource: &accessv1.Resource{Type: r.Type, Id: r.ID}, PageSize: int64(min(want-len(all), accessBatch)),
		}
		if after != (page.Position{}) {
			req.Before = &accessv1.OperationPlace{CreatedAt: microTimestamp(after.Time), Id: after.ID}
		}
		resp, err := o.Log.ListOperations(ctx, req)
		if err != nil {
			return nil, apierr.FromRPC(err)
		}
		ops := resp.GetOperations()
		all = append(all, ops...)
		for _, op := range ops {
			bytes += proto.Size(op)
		}
		// What fills a page by its bytes is enough: it is cut before its end.
		if int64(len(ops)) < req.GetPageSize() || len(all) == want || bytes > page.MaxBytes {
			return all, nil
		}
		after = Place(ops[len(ops)-1])
	}
}

// accessBatch is how many operations are asked for at once: each shows the bindings
// that it changed, which may be thousands.
const accessBatch = 100

// merge puts two lists, each newest first, into one.
func merge(own []operation.Operation, theirs []*operationpb.Operation) []*operationpb.Operation {
	all := make([]*operationpb.Operation, 0, len(own)+len(theirs))
	for _, op := range own {
		p := op.Proto()
		for len(theirs) > 0 && newer(Place(theirs[0]), Place(p)) {
			all, theirs = append(all, theirs[0]), theirs[1:]
		}
		all = append(all, p)
	}
	return append(all, theirs...)
}

// Place is where an operation stands in the order of time and id.
func Place(op *operationpb.Operation) page.Position {
	return page.Position{Time: op.GetCreatedAt().AsTime().UnixMicro(), ID: op.GetId()}
}

func newer(a, b page.Position) bool {
	return a.Time > b.Time || a.Time == b.Time && a.ID > b.ID
}

func microTimestamp(micros int64) *timestamppb.Timestamp {
	return &timestamppb.Timestamp{Seconds: micros / 1e6, Nanos: int32(micros % 1e6 * 1e3)}
}
