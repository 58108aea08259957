// Package operation keeps the long-running operations of a unit and answers
// yandex.cloud.operation.OperationService for a whole process.
//
// The rules of the official clients (clients.md 16 to 19): metadata is always
// there, of the type that the method declares; an operation that is done has a
// response or an error, never both and never neither; an operation is found as
// soon as the call that made it has returned; and no call returns an operation
// that is done and failed: it fails itself.
package operation

import (
	"fmt"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Operation is one piece of work and where it stands. Either Error or Response is
// set when it is done, neither before.
type Operation struct {
	ID             string
	Resource       Resource
	ViewOn         Resource // where ViewPermission is checked: Resource, or what the rights on it come from
	ViewPermission string   // shows the operation to others than its creator
	Description    string
	CreatedBy      string // id of the subject
	CreatedAt      time.Time
	ModifiedAt     time.Time
	Done           bool
	Metadata       *anypb.Any
	Error          *spb.Status
	Response       *anypb.Any
}

// Resource names what an operation works on.
type Resource = authz.Resource

// New is what makes an operation. All fields but ViewOn and Response are required.
type New struct {
	Resource       Resource
	ViewOn         Resource // zero for Resource; the service account of a key (SK-2)
	ViewPermission string
	Description    string // e.g. "Create folder"
	CreatedBy      string
	Metadata       proto.Message // of the type that the method declares
	Response       proto.Message // when it is done at once
}

// Proto returns the public message.
func (o Operation) Proto() *operationpb.Operation {
	p := &operationpb.Operation{
		Id:          o.ID,
		Description: o.Description,
		CreatedAt:   timestamppb.New(o.CreatedAt),
		CreatedBy:   o.CreatedBy,
		ModifiedAt:  timestamppb.New(o.ModifiedAt),
		Done:        o.Done,
		Metadata:    o.Metadata,
	}
	switch {
	case o.Error != nil:
		p.Result = &operationpb.Operation_Error{Error: o.Error}
	case o.Response != nil:
		p.Result = &operationpb.Operation_Response{Response: o.Response}
	}
	return p
}

// Err returns the error of an operation that failed, with its reason; nil for any
// other. A call whose work has failed before it returned answers with it.
func (o Operation) Err() error {
	if o.Error == nil {
		return nil
	}
	e := apierr.New(codes.Code(o.Error.GetCode()), apierr.ReasonInternal, "%s", o.Error.GetMessage()) //nolint:gosec // a code
	for _, detail := range o.Error.GetDetails() {
		if info := new(errdetails.ErrorInfo); detail.UnmarshalTo(info) == nil {
			e.Reason, e.Meta = info.GetReason(), info.GetMetadata()
		}
	}
	return e
}

// Answer is what a call answers that made the operation, now or the time before:
// the public message, or the error of one that has failed.
func (o Operation) Answer() (*operationpb.Operation, error) {
	if err := o.Err(); err != nil {
		return nil, err
	}
	return o.Proto(), nil
}

// pack puts a message into an Any; nil stays nil.
func pack(m proto.Message) (*anypb.Any, error) {
	if m == nil {
		return nil, nil
	}
	a, err := anypb.New(m)
	if err != nil {
		return nil, fmt.Errorf("pack %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
	}
	return a, nil
}
