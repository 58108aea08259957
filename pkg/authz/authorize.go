package authz

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	authzv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/authz/v1"
)

// Caller is what authentication found. Err says what is wrong with the token that
// was sent; then Principal holds no subject, but may hold a unit.
type Caller struct {
	Principal authn.Principal
	Err       error
}

// AllUnits in an internal rule admits every unit of the suite, not the operator.
const AllUnits = "*"

var (
	errNoToken  = apierr.Unauthenticated(apierr.ReasonTokenMissing, "the call needs an IAM token: authorization: Bearer <token>")
	errInternal = apierr.Denied(apierr.ReasonUnitNotAdmitted, "the method is for services of the installation only")
)

// Public reports whether anybody may call, so that credentials do not matter.
func (m *Method) Public() bool { return m.shape == shapePublic }

// Authorize admits the call or refuses it, and returns the context for the
// handler. The order: is the caller anybody; are the fields that the rule names
// well formed; may the caller. req may be nil for methods whose rule reads no
// field (streams).
func (m *Method) Authorize(ctx context.Context, d Decider, c Caller, req proto.Message) (context.Context, error) {
	switch m.shape {
	case shapePublic:
		return ctx, nil
	case shapeInternal:
		return ctx, m.admit(c)
	case shapeAuthenticated:
		return ctx, m.authenticate(ctx, d, c, req)
	case shapeCheck:
		return m.check(ctx, d, c, req)
	default:
		return ctx, apierr.Internal(errors.New("method without a rule"))
	}
}

// admit judges an internal method.
func (m *Method) admit(c Caller) error {
	unit := c.Principal.Unit
	switch {
	case unit != "" && (m.units[unit] || m.units[AllUnits] && unit != authn.Operator):
		return nil
	case unit != "" || c.Principal.IsSubject():
		return errInternal.WithMeta("method", m.name, "caller", c.Principal.String())
	default:
		return anonymous(c)
	}
}

// authenticate judges a method for any authenticated subject. Where the request
// itself proves the caller the handler verifies that proof; there a unit may also
// call for a subject that it names.
func (m *Method) authenticate(ctx context.Context, d Decider, c Caller, req proto.Message) error {
	if len(m.credentials) > 0 && req != nil {
		r := req.ProtoReflect()
		for _, f := range m.credentials {
			if f.has(r) {
				return nil
			}
		}
		if !c.Principal.IsSubject() && c.Err == nil && c.Principal.Unit != "" {
			return nil
		}
	}
	if !c.Principal.IsSubject() {
		return anonymous(c)
	}
	return outcome(d.Authenticate(ctx, c.Principal), Resource{})
}

// check judges a method with checks.
func (m *Method) check(ctx context.Context, d Decider, c Caller, req proto.Message) (context.Context, error) {
	if !c.Principal.IsSubject() {
		return ctx, anonymous(c)
	}
	targets := make([]target, 0, 2)
	for i := range m.checks {
		t, err := m.checks[i].target(ctx, c.Principal, req)
		if err != nil {
			return ctx, err
		}
		targets = append(targets, t)
	}
	for _, t := range targets {
		if t.permission == "" { // nothing named: any authenticated subject
			if err := outcome(d.Authenticate(ctx, c.Principal), Resource{}); err != nil {
				return ctx, err
			}
			continue
		}
		err := outcome(d.Authorize(ctx, c.Principal, t.permission, t.resource), t.resource)
		if denied, ok := apierr.As(err); ok && m.filtered && denied.Code == codes.PermissionDenied {
			ctx, err = context.WithValue(ctx, withheldKey{}, denied), nil
		}
		if err != nil {
			return ctx, err
		}
	}
	return ctx, nil
}

// target is one question for the Decider; without a permission it is whether the
// caller is a subject at all.
type target struct {
	permission string
	resource   Resource
}

func (k *check) target(ctx context.Context, p authn.Principal, req proto.Message) (target, error) {
	r := req.ProtoReflect()
	t := target{permission: k.permission, resource: Resource{Type: k.typ}}
	if k.typ == "" {
		typ, err := k.typeField.value(r)
		if err == nil && typ == "" {
			err = apierr.InvalidField(k.typeField.name, "must not be empty")
		}
		if err != nil {
			return target{}, err
		}
		t.resource.Type = typ
	}
	id, err := k.id.value(r)
	if err != nil {
		return target{}, err
	}
	if id == "" {
		switch k.onEmpty {
		case authzv1.OnEmpty_ON_EMPTY_CALLER:
			id = p.ID
		case authzv1.OnEmpty_ON_EMPTY_LIST, authzv1.OnEmpty_ON_EMPTY_AUTHENTICATED:
			return target{}, nil
		default:
			return target{}, apierr.InvalidField(k.id.name, "must not be empty")
		}
	}
	t.resource.ID = id
	if k.resolve != nil {
		if t.resource, err = k.resolve(ctx, id); err != nil {
			return target{}, err
		}
	}
	if k.verb != "" {
		var ok bool
		if t.permission, ok = k.catalog.PermissionFor(t.resource.Type, k.verb); !ok {
			return target{}, apierr.InvalidField(k.typeField.name, "%q is not a type of resource with access bindings", t.resource.Type)
		}
	}
	return t, nil
}

// outcome reads what a Decider said about r: an unknown resource becomes
// NOT_FOUND, since clients need the difference and ids cannot be guessed.
func outcome(err error, r Resource) error {
	e, ok := apierr.As(err)
	if ok && e.Reason == apierr.ReasonResourceNotFound {
		return NotFound(r)
	}
	return err
}

// anonymous is the refusal for a call without a subject: what is wrong with its
// token, or that it has none.
func anonymous(c Caller) error {
	if c.Err != nil {
		return c.Err
	}
	return errNoToken
}
