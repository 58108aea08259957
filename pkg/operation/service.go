package operation

import (
	"context"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Reasons why an operation is not cancelled.
const (
	ReasonDone           = "OPERATION_DONE"
	ReasonNotCancellable = "OPERATION_NOT_CANCELLABLE"
)

// Route answers for the operations of one unit.
type Route interface {
	Get(ctx context.Context, opID string) (*operationpb.Operation, error)
	Cancel(ctx context.Context, opID string) (*operationpb.Operation, error)
}

// Service is yandex.cloud.operation.OperationService for a whole process: official
// clients poll the operations of all services there. The prefix of an id tells
// whose it is.
type Service struct {
	operationpb.UnimplementedOperationServiceServer
	routes map[string]Route
}

// NewService returns the service that asks the route of an id's prefix.
func NewService(routes map[string]Route) *Service { return &Service{routes: routes} }

// Get returns an operation to its creator, and to whoever may view what it works
// on. Fails: OPERATION_NOT_FOUND, PERMISSION_DENIED.
func (s *Service) Get(ctx context.Context, req *operationpb.GetOperationRequest) (*operationpb.Operation, error) {
	route, err := s.route(req.GetOperationId())
	if err != nil {
		return nil, err
	}
	return route.Get(ctx, req.GetOperationId())
}

// Cancel takes back an operation that is not done, where its kind allows it.
// Fails: OPERATION_NOT_FOUND, PERMISSION_DENIED, OPERATION_DONE,
// OPERATION_NOT_CANCELLABLE.
func (s *Service) Cancel(ctx context.Context, req *operationpb.CancelOperationRequest) (*operationpb.Operation, error) {
	route, err := s.route(req.GetOperationId())
	if err != nil {
		return nil, err
	}
	return route.Cancel(ctx, req.GetOperationId())
}

func (s *Service) route(opID string) (Route, error) {
	route := s.routes[id.Prefix(opID)]
	if route == nil {
		return nil, NotFound(opID)
	}
	return route, nil
}

// MayView returns nil when the subject holds the permission on the resource: the
// method Authorize of an authz.Decider.
type MayView func(ctx context.Context, p authn.Principal, permission string, r authz.Resource) error

// Local routes to the store of a unit in this process.
func Local(store *Store, may MayView) Route { return local{store: store, may: may} }

type local struct {
	store *Store
	may   MayView
}

func (l local) Get(ctx context.Context, opID string) (*operationpb.Operation, error) {
	op, err := l.view(ctx, opID)
	if err != nil {
		return nil, err
	}
	return op.Proto(), nil
}

func (l local) Cancel(ctx context.Context, opID string) (*operationpb.Operation, error) {
	op, err := l.view(ctx, opID)
	switch {
	case err != nil:
		return nil, err
	case op.Done:
		return nil, apierr.Precondition(ReasonDone, "operation %s is done", opID)
	case l.store.cancel == nil:
		return nil, NotCancellable(opID)
	}
	if op, err = l.store.cancel(ctx, op); err != nil {
		return nil, err
	}
	return op.Proto(), nil
}

// NotCancellable is the refusal for an operation whose kind cannot be taken back.
func NotCancellable(opID string) error {
	return apierr.Precondition(ReasonNotCancellable, "operation %s cannot be cancelled", opID)
}

// view reads an operation for the caller. A resource that is gone shows its
// operations to their creators alone.
func (l local) view(ctx context.Context, opID string) (Operation, error) {
	op, err := l.store.Get(ctx, opID)
	if err != nil {
		return Operation{}, err
	}
	p := authn.FromContext(ctx)
	if p.IsSubject() && p.ID == op.CreatedBy {
		return op, nil
	}
	if err := l.may(ctx, p, op.ViewPermission, op.ViewOn); err != nil {
		if apierr.ReasonOf(err) == apierr.ReasonResourceNotFound {
			return Operation{}, NotFound(opID)
		}
		return Operation{}, err
	}
	return op, nil
}

// Remote routes to the OperationService of a unit in another process, which
// judges the caller itself.
func Remote(conn grpc.ClientConnInterface) Route {
	return remote{client: operationpb.NewOperationServiceClient(conn)}
}

type remote struct {
	client operationpb.OperationServiceClient
}

func (r remote) Get(ctx context.Context, opID string) (*operationpb.Operation, error) {
	op, err := r.client.Get(ctx, &operationpb.GetOperationRequest{OperationId: opID})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return op, nil
}

func (r remote) Cancel(ctx context.Context, opID string) (*operationpb.Operation, error) {
	op, err := r.client.Cancel(ctx, &operationpb.CancelOperationRequest{OperationId: opID})
	if err != nil {
		return nil, apierr.FromRPC(err)
	}
	return op, nil
}
