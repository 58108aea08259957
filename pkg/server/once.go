package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/slot"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// keyed is a unit whose writes have idempotency keys.
type keyed struct {
	keys       *idempotency.Store
	operations *operation.Store
	methods    []string // full names of those that return no Operation
}

// keyedBy returns the unit's part in a method when that is one of its writes: it
// returns an Operation, or the unit names it. Nil for a method that ignores keys.
func (k *keyed) keyedBy(method string, md protoreflect.MethodDescriptor) *keyed {
	if k == nil || !returnsOperation(md) && !slices.Contains(k.methods, method) {
		return nil
	}
	return k
}

var operationName = (*operationpb.Operation)(nil).ProtoReflect().Descriptor().FullName()

func returnsOperation(md protoreflect.MethodDescriptor) bool {
	return md.Output().FullName() == operationName
}

// keyed returns what the unit says about its writes, nil when it keeps no keys.
// Fails for a name in Keyed that is not a method of the unit.
func (u builtUnit) keyed() (*keyed, error) {
	if u.Keys == nil {
		if len(u.Keyed) > 0 {
			return nil, fmt.Errorf("unit %s: names methods with idempotency keys and keeps none", u.Name)
		}
		return nil, nil //nolint:nilnil // a unit without writes
	}
	own := make(map[string]bool)
	for _, svc := range slices.Concat(u.services, u.opService) {
		for _, m := range svc.desc.Methods {
			own["/"+svc.desc.ServiceName+"/"+m.MethodName] = true
		}
	}
	var errs []error
	for _, name := range u.Keyed {
		if !own[name] {
			errs = append(errs, fmt.Errorf("unit %s: %s, to have idempotency keys, is not a method of it (it has %q)",
				u.Name, name, slices.Sorted(maps.Keys(own))))
		}
	}
	return &keyed{keys: u.Keys, operations: u.Operations, methods: u.Keyed}, errors.Join(errs...)
}

// descriptor finds a method of a registered service.
func descriptor(service, method string) (protoreflect.MethodDescriptor, error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		return nil, fmt.Errorf("method %s of %s: %w", method, service, err)
	}
	md, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s.%s is not a method", service, method)
	}
	return md, nil
}

// key reads the idempotency key of a call; nil when it brought none.
func (k *call) key(ctx context.Context, msg proto.Message) (*idempotency.Key, error) {
	return idempotency.New(k.who, k.name, metadata.ValueFromIncomingContext(ctx, idempotency.Header), msg)
}

// once calls the handler of a write with the key of the call in its context, after
// all earlier calls with the same key have been answered.
func (c *chain) once(ctx context.Context, k *call, msg proto.Message, handler grpc.UnaryHandler) (any, error) {
	key, err := k.key(ctx, msg)
	if err != nil {
		return nil, err
	}
	if key == nil {
		return handler(ctx, msg)
	}
	done, err := c.turn(ctx, key)
	if err != nil {
		return nil, err
	}
	defer done()
	return handler(idempotency.NewContext(ctx, key), msg)
}

// turn waits until no other call with the key is under way; done ends this one.
func (c *chain) turn(ctx context.Context, key *idempotency.Key) (done func(), err error) {
	defer slot.Aside(ctx)()
	return c.turns.Take(ctx, key)
}

// replayGone answers a call that authorization refused because the resource is
// gone. When the same call has been answered before, its caller made an operation,
// and may see that as by OperationService.Get: a deletion that is sent again is
// answered like the first time. Any other call gets the refusal.
func (c *chain) replayGone(ctx context.Context, k *call, msg proto.Message, refusal error) (any, error) {
	if k.keyed == nil || k.keyed.operations == nil || apierr.CodeOf(refusal) != codes.NotFound {
		return nil, refusal
	}
	key, err := k.key(ctx, msg)
	if err != nil || key == nil {
		return nil, refusal
	}
	done, err := c.turn(ctx, key) // the deletion itself may still be under way
	if err != nil {
		return nil, err
	}
	defer done()
	op, err := k.earlier(idempotency.NewContext(ctx, key))
	if err != nil {
		c.log.Warn("no replay for a resource that is gone", zap.String("request_id", k.request.ID), zap.Error(err))
		return nil, refusal
	}
	if op == nil || op.CreatedBy != k.who.ID {
		return nil, refusal
	}
	if err := k.decider.Authenticate(ctx, k.who); err != nil {
		return nil, err
	}
	return op.Answer()
}

// earlier returns the operation that the call's key stands for; nil when there is
// none.
func (k *call) earlier(ctx context.Context) (*operation.Operation, error) {
	if !k.who.IsSubject() {
		return nil, nil //nolint:nilnil // operations are subjects'
	}
	opID, err := k.keyed.keys.Find(ctx)
	if err != nil || opID == "" {
		return nil, err
	}
	op, err := k.keyed.operations.Get(ctx, opID)
	return &op, err
}
