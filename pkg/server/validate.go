package server

import (
	"cmp"
	"fmt"
	"slices"
	"sync"

	"buf.build/go/protovalidate"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/text"
)

// validator holds requests to the constraints of their proto. All are compiled at
// boot, so that a bad constraint stops the process and no request waits for one.
type validator struct {
	v protovalidate.Validator
}

// constraints holds what was compiled for any server of the process: several of them
// take the same messages.
var constraints = sync.OnceValues(func() (protovalidate.Validator, error) { return protovalidate.New() })

// newValidator compiles the constraints of the request messages, of which each is
// validated once for that.
func newValidator(inputs []protoreflect.MessageDescriptor) (*validator, error) {
	v, err := constraints()
	if err != nil {
		return nil, fmt.Errorf("constraints of requests: %w", err)
	}
	for _, md := range inputs {
		err := v.Validate(dynamicpb.NewMessage(md))
		if apierr.ReasonOf(apierr.FromValidation(err)) == apierr.ReasonInternal {
			return nil, fmt.Errorf("constraints of %s: %w", md.FullName(), err)
		}
	}
	return &validator{v: v}, nil
}

// check returns INVALID_ARGUMENT with every field that breaks its constraints.
func (v *validator) check(m proto.Message) error {
	return apierr.FromValidation(v.v.Validate(m))
}

// wellFormed returns INVALID_ARGUMENT with every field whose text is not allowed
// (NM-9), whose time is none, or whose enum does not have the value. It is the one
// place where these are looked at, before any handler and any store.
func wellFormed(m proto.Message) error {
	w := formWalk{}
	w.message("", m.ProtoReflect())
	if len(w.problems) == 0 {
		return nil
	}
	return apierr.Invalid(w.problems...)
}

// formWalk gathers what is wrong with the fields of a message.
type formWalk struct{ problems []apierr.Field }

func (w *formWalk) message(path string, m protoreflect.Message) {
	if t, ok := m.Interface().(*timestamppb.Timestamp); ok && !t.IsValid() {
		w.problem(path, "must be a time between the years 1 and 9999")
		return
	}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if fd := fields.Get(i); hasForm(fd) && m.Has(fd) {
			w.field(path, fd, m.Get(fd))
		}
	}
}

// hasForm reports whether a field, or what it holds, may be of a wrong form.
func hasForm(fd protoreflect.FieldDescriptor) bool {
	return fd.Kind() == protoreflect.StringKind || fd.Enum() != nil || fd.Message() != nil
}

func (w *formWalk) field(path string, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	name := string(fd.Name())
	if path != "" {
		name = path + "." + name
	}
	switch {
	case fd.IsMap():
		before := len(w.problems)
		v.Map().Range(func(k protoreflect.MapKey, item protoreflect.Value) bool {
			at := fmt.Sprintf("%s[%q]", name, k.String())
			w.text(at, k.String())
			w.value(at, fd.MapValue(), item)
			return true
		})
		slices.SortFunc(w.problems[before:], func(a, b apierr.Field) int { return cmp.Compare(a.Name, b.Name) })
	case fd.IsList():
		for i := range v.List().Len() {
			w.value(fmt.Sprintf("%s[%d]", name, i), fd, v.List().Get(i))
		}
	default:
		w.value(name, fd, v)
	}
}

func (w *formWalk) value(path string, fd protoreflect.FieldDescriptor, v protoreflect.Value) {
	switch {
	case fd.Kind() == protoreflect.StringKind:
		w.text(path, v.String())
	case fd.Message() != nil:
		w.message(path, v.Message())
	case fd.Enum() != nil && fd.Enum().Values().ByNumber(v.Enum()) == nil:
		w.problem(path, fmt.Sprintf("%d is not a value of the field", v.Enum()))
	}
}

func (w *formWalk) text(path, s string) {
	if problem := text.Problem(s); problem != "" {
		w.problem(path, problem)
	}
}

func (w *formWalk) problem(path, what string) {
	w.problems = append(w.problems, apierr.Field{Name: path, Message: what})
}
