package server

import (
	"fmt"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

// validator holds requests to the constraints of their proto. All are compiled at
// boot, so that a bad constraint stops the process and no request waits for one.
type validator struct {
	v protovalidate.Validator
}

// newValidator compiles the constraints of the request messages.
func newValidator(inputs []protoreflect.MessageDescriptor) (*validator, error) {
	msgs := make([]proto.Message, len(inputs))
	for i, md := range inputs {
		msgs[i] = dynamicpb.NewMessage(md)
	}
	v, err := protovalidate.New(protovalidate.WithDisableLazy(), protovalidate.WithMessages(msgs...))
	if err != nil {
		return nil, fmt.Errorf("constraints of requests: %w", err)
	}
	for _, m := range msgs { // a constraint that does not compile shows at first use only
		err := v.Validate(m)
		if apierr.ReasonOf(apierr.FromValidation(err)) == apierr.ReasonInternal {
			return nil, fmt.Errorf("constraints of %s: %w", m.ProtoReflect().Descriptor().FullName(), err)
		}
	}
	return &validator{v: v}, nil
}

// check returns INVALID_ARGUMENT with every field that breaks its constraints.
func (v *validator) check(m proto.Message) error {
	return apierr.FromValidation(v.v.Validate(m))
}
