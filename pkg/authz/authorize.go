package authz

import (
	"cmp"
	"context"
	"errors"
	"slices"

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

// Admits reports whether every request in which a field is set may call, whoever
// sends it: the handler verifies the credential in it.
func (m *Method) Admits(field string) bool {
	return m.shape == shapeAuthenticated && slices.ContainsFunc(m.credentials, func(p path) bool {
		return len(p) == 1 && string(p[0].Name()) == field
	})
}

// ReadsRequest reports whether the rule is about a field of the request.
func (m *Method) ReadsRequest() bool { return m.shape == shapeCheck || len(m.credentials) > 0 }

// Seen is a caller as the method sees it. Whoever measures usage is no unit of the suite:
// where a method does not name it, its credential says nothing.
func (m *Method) Seen(c Caller) Caller {
	if c.Principal.Unit == authn.Metering && !m.units[authn.Metering] {
		c.Principal.Unit = ""
	}
	return c
}

// Authorize admits the call or refuses it, and returns the context for the
// handler. The order: is the caller anybody; are the fields that the rule names
// well formed; may the caller. req may be nil for methods whose rule reads no
// field; of a stream from the caller it is the first message.
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

// admits reports whether the method is for that unit.
func (m *Method) admits(unit string) bool {
	return unit != "" && (m.units[unit] || m.units[AllUnits] && unit != authn.Operator)
}

// admit judges an internal method.
func (m *Method) admit(c Caller) error {
	unit := c.Principal.Unit
	switch {
	case m.admits(unit):
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
	if m.admits(c.Principal.Unit) {
		return ctx, nil
	}
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
	if m.self != nil {
		who, err := m.self.value(req.ProtoReflect())
		if err != nil {
			return ctx, err
		}
		if who == "" || who == c.Principal.ID {
			return ctx, outcome(d.Authenticate(ctx, c.Principal), Resource{})
		}
	}
	for i, t := range targets {
		if t.permission == "" { // nothing named: any authenticated subject
			if err := outcome(d.Authenticate(ctx, c.Principal), Resource{}); err != nil {
				return ctx, err
			}
			continue
		}
		err := outcome(d.Authorize(ctx, c.Principal, t.permission, t.resource), t.resource)
		if i == 0 {
			err = m.orElse(ctx, d, c.Principal, t.resource, err)
		}
		if denied, ok := apierr.As(err); ok && m.filtered && denied.Code == codes.PermissionDenied {
			ctx, err = context.WithValue(ctx, withheldKey{}, denied), nil
		}
		if err != nil {
			return ctx, err
		}
	}
	return ctx, nil
}

// orElse asks for the further permissions of a rule while the answer is a denial.
// When all of them are denied, the first denial is told.
func (m *Method) orElse(ctx context.Context, d Decider, p authn.Principal, r Resource, first error) error {
	for _, permission := range m.or {
		if apierr.CodeOf(first) != codes.PermissionDenied {
			return first
		}
		err := outcome(d.Authorize(ctx, p, permission, r), r)
		if err == nil || apierr.CodeOf(err) != codes.PermissionDenied {
			return err
		}
	}
	return first
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
	if k.typ == "" && k.typeField.name != "" {
		typ, err := k.typeField.value(r)
		if err != nil {
			return target{}, err
		}
		t.resource.Type = typ
	}
	id, err := k.id.value(r)
	if err != nil {
		return target{}, err
	}
	if t.resource.Type == "" && k.typeField.name != "" && (id != "" || !k.mayLack()) {
		return target{}, apierr.InvalidField(k.typeField.name, "must not be empty")
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
		if p.IsSubject() && t.resource == (Resource{Type: UserAccount, ID: p.ID}) {
			return target{}, nil // their own, whatever kind of account it is: ids are of one space
		}
	}
	if k.verb != "" {
		var ok bool
		if t.permission, ok = k.catalog.PermissionFor(t.resource.Type, k.verb); !ok {
			return target{}, apierr.InvalidField(cmp.Or(k.typeField.name, k.id.name), "%q is not a type of resource with access bindings", t.resource.Type)
		}
	}
	return t, nil
}

// mayLack reports whether a request need not name a resource.
func (k *check) mayLack() bool {
	return k.onEmpty == authzv1.OnEmpty_ON_EMPTY_LIST || k.onEmpty == authzv1.OnEmpty_ON_EMPTY_AUTHENTICATED
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
