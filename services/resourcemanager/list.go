package resourcemanager

import (
	"context"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// pageRequest is what the list requests of all kinds have in common.
type pageRequest interface {
	GetPageSize() int64
	GetPageToken() string
}

// filteredRequest is a list request with a filter.
type filteredRequest interface {
	pageRequest
	GetFilter() string
}

// list reads one page of the resources of a kind that the caller may see, oldest
// first, below a parent when one is given (NM-7). The page is full, by items or by
// bytes, unless it is the last one, and only a full page has a next one. Whoever lacks the list
// permission and sees nothing at all below the parent is refused.
func (s *Service) list(ctx context.Context, k *kind, parentID string, req filteredRequest) ([]Resource, string, error) {
	f, err := filter.Parse(req.GetFilter(), "name")
	if err != nil {
		return nil, "", err
	}
	query := Query{Kind: k, ParentID: parentID, Name: f.Value}
	scope := []string{"list", k.name, parentID, f.Field, f.Value}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	if f.Field != "" && f.Value == "" {
		return nil, "", nil // nothing has an empty name
	}
	size := page.Size(req.GetPageSize())
	seen, err := s.visible(ctx, query, after, size+1)
	if err != nil {
		return nil, "", err
	}
	if denied := authz.Withheld(ctx); denied != nil && len(seen) == 0 {
		anything, err := s.visible(ctx, Query{Kind: k, ParentID: parentID}, page.Position{}, 1)
		if err == nil && len(anything) == 0 {
			err = denied
		}
		return nil, "", err
	}
	fit := page.Fit(min(len(seen), size), func(i int) int { return proto.Size(k.message(seen[i])) })
	if fit == len(seen) {
		return seen, "", nil
	}
	token, err := s.pages.Seal(seen[fit-1].position(), scope...)
	return seen[:fit], token, err
}

// visible reads the first want resources after a position that the caller may see,
// fewer when there are no more.
func (s *Service) visible(ctx context.Context, query Query, after page.Position, want int) ([]Resource, error) {
	p := authn.FromContext(ctx)
	var seen []Resource
	for batch := min(want, authz.MaxEach); ; batch = authz.MaxEach { // where much is hidden, look further at once
		rows, err := s.store.List(ctx, query, after, batch)
		if err != nil || len(rows) == 0 {
			return seen, err
		}
		refs := make([]authz.Resource, len(rows))
		for i, r := range rows {
			refs[i] = query.Kind.resource(r.ID)
		}
		may, err := s.decider.AuthorizeEach(ctx, p, query.Kind.get, refs)
		if err != nil {
			return nil, err
		}
		for i, r := range rows {
			if may[i] {
				if seen = append(seen, r); len(seen) == want {
					return seen, nil
				}
			}
		}
		if len(rows) < batch {
			return seen, nil
		}
		after = rows[len(rows)-1].position()
	}
}

// listOperations reads one page of the operations on a resource, newest first:
// those of this unit and those by which accessbindings changed its access.
func (s *Service) listOperations(ctx context.Context, k *kind, resourceID string, req pageRequest) ([]*operationpb.Operation, string, error) {
	scope := []string{"operations", k.name, resourceID}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	own, err := s.operations.List(ctx, k.resource(resourceID), after, size+1)
	if err != nil {
		return nil, "", err
	}
	theirs, err := s.accessOperations(ctx, k, resourceID, after, size+1)
	if err != nil {
		return nil, "", err
	}
	merged := merge(own, theirs)
	fit := page.Fit(min(len(merged), size), func(i int) int { return proto.Size(merged[i]) })
	if fit == len(merged) {
		return merged, "", nil
	}
	token, err := s.pages.Seal(place(merged[fit-1]), scope...)
	return merged[:fit], token, err
}

func (s *Service) accessOperations(ctx context.Context, k *kind, resourceID string, after page.Position, want int) ([]*operationpb.Operation, error) {
	var all []*operationpb.Operation
	for bytes := 0; ; {
		req := &accessv1.ListOperationsRequest{
			Resource: &accessv1.Resource{Type: k.typ, Id: resourceID}, PageSize: int64(min(want-len(all), accessBatch)),
		}
		if after != (page.Position{}) {
			req.Before = &accessv1.OperationPlace{CreatedAt: microTimestamp(after.Time), Id: after.ID}
		}
		resp, err := s.log.ListOperations(ctx, req)
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
		after = place(ops[len(ops)-1])
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
		for len(theirs) > 0 && newer(place(theirs[0]), place(p)) {
			all, theirs = append(all, theirs[0]), theirs[1:]
		}
		all = append(all, p)
	}
	return append(all, theirs...)
}

// place is where an operation stands in the order of time and id.
func place(op *operationpb.Operation) page.Position {
	return page.Position{Time: op.GetCreatedAt().AsTime().UnixMicro(), ID: op.GetId()}
}

func newer(a, b page.Position) bool {
	return a.Time > b.Time || a.Time == b.Time && a.ID > b.ID
}

func microTimestamp(micros int64) *timestamppb.Timestamp {
	return &timestamppb.Timestamp{Seconds: micros / 1e6, Nanos: int32(micros % 1e6 * 1e3)}
}
