package marketplacerequests

import (
	"context"
	"database/sql"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/writes"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// written is what a write made: its operation, and the job that ends it, if any.
type written struct {
	op     operation.Operation
	ticket *jobs.Ticket
	rest   sqldb.Batch // its last statements, sent together with COMMIT
}

// write makes one write of a request (package writes).
func (s *Service) write(ctx context.Context, fn func(context.Context, *sql.Tx) (written, error)) (*operationpb.Operation, error) {
	w := writes.Writer{DB: s.store.db, Keys: s.keys, Operations: s.operations, Jobs: s.jobs}
	return w.Make(ctx, func(ctx context.Context, tx *sql.Tx) (writes.Made, error) {
		made, err := fn(ctx, tx)
		return writes.Made{Op: made.op, Ticket: made.ticket, Rest: made.rest}, err
	})
}

// operation makes an operation of the caller on a resource.
func (s *Service) operation(ctx context.Context, tx *sql.Tx, on, viewOn authz.Resource, view, description string, metadata, response proto.Message) (operation.Operation, error) {
	return s.operations.Insert(ctx, tx, operation.New{
		Resource: on, ViewOn: viewOn, ViewPermission: view, Description: description, CreatedBy: authn.FromContext(ctx).ID,
		Metadata: metadata, Response: response,
	})
}

// enqueue writes a job that the caller executes.
func (s *Service) enqueue(ctx context.Context, tx *sql.Tx, kind string, payload any) (*jobs.Ticket, error) {
	t, err := s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: kind, Payload: payload})
	return &t, err
}

// masked returns the fields of an update: those that the mask names, or without one
// those that are set. The id is accepted and changes nothing, as clients send it.
func masked(mask *fieldmaskpb.FieldMask, idField string, set map[string]bool) ([]string, error) {
	var fields []string
	if len(mask.GetPaths()) == 0 {
		for field, is := range set {
			if is {
				fields = append(fields, field)
			}
		}
		slices.Sort(fields)
		return fields, nil
	}
	for _, path := range mask.GetPaths() {
		_, known := set[path]
		switch {
		case path == idField || slices.Contains(fields, path):
		case known:
			fields = append(fields, path)
		default:
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed", path)
		}
	}
	return fields, nil
}

// pageRequest is what list requests have in common.
type pageRequest interface {
	GetPageSize() int64
	GetPageToken() string
}

// listing is one list: what narrows it, how it is read and shown.
type listing[T any, M proto.Message] struct {
	scope    []string
	fetch    func(ctx context.Context, after page.Position, limit int) ([]T, error)
	position func(T) page.Position
	show     func(ctx context.Context, all []T) ([]M, error)

	// permission hides what the caller does not hold it on; "" shows everything.
	permission string
	resource   func(T) authz.Resource
}

// list reads one page. The page is full, by items or by bytes, unless it is the last
// one, and only a full page has a next one. Whoever lacks the permission of the list
// and sees nothing at all is refused.
func list[T any, M proto.Message](ctx context.Context, s *Service, req pageRequest, l listing[T, M]) ([]M, string, error) {
	after, err := s.pages.Open(req.GetPageToken(), l.scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	found, err := l.visible(ctx, s, after, size+1)
	if err != nil {
		return nil, "", err
	}
	if denied := authz.Withheld(ctx); denied != nil && len(found) == 0 {
		return nil, "", denied
	}
	shown, err := l.show(ctx, found[:min(len(found), size)])
	if err != nil {
		return nil, "", err
	}
	fit := page.Fit(len(shown), func(i int) int { return proto.Size(shown[i]) })
	if fit == len(found) {
		return shown, "", nil
	}
	token, err := s.pages.Seal(l.position(found[fit-1]), l.scope...)
	return shown[:fit], token, err
}

// visible reads the first want items after a position that the caller may see.
func (l listing[T, M]) visible(ctx context.Context, s *Service, after page.Position, want int) ([]T, error) {
	if l.permission == "" {
		return l.fetch(ctx, after, want)
	}
	p := authn.FromContext(ctx)
	var seen []T
	for batch := min(want, authz.MaxEach); ; batch = authz.MaxEach { // where much is hidden, look further at once
		rows, err := l.fetch(ctx, after, batch)
		if err != nil || len(rows) == 0 {
			return seen, err
		}
		refs := make([]authz.Resource, len(rows))
		for i, row := range rows {
			refs[i] = l.resource(row)
		}
		may, err := s.decider.AuthorizeEach(ctx, p, l.permission, refs)
		if err != nil {
			return nil, err
		}
		for i, row := range rows {
			if may[i] {
				if seen = append(seen, row); len(seen) == want {
					return seen, nil
				}
			}
		}
		if len(rows) < batch {
			return seen, nil
		}
		after = l.position(rows[len(rows)-1])
	}
}

// each shows items one by one.
func each[T any, M proto.Message](show func(T) M) func(context.Context, []T) ([]M, error) {
	return func(_ context.Context, all []T) ([]M, error) {
		shown := make([]M, len(all))
		for i, one := range all {
			shown[i] = show(one)
		}
		return shown, nil
	}
}
