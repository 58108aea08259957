package authn

import "context"

// Subject types of a Principal, as in access bindings (SU-1).
const (
	UserAccount    = "userAccount"
	ServiceAccount = "serviceAccount"
	FederatedUser  = "federatedUser"
)

// Operator is the Unit of whoever reaches the operator socket.
const Operator = "operator"

// Metering is the Unit of whoever measures usage: a service of elsewhere that proves itself
// as units do, and may call what names it and nothing else.
const Metering = "metering"

// TokenID is the random id of an IAM token, or of a login session; revocation is
// by it.
type TokenID [16]byte

// Principal is who makes a call. The zero value is nobody.
type Principal struct {
	Type    string  // UserAccount, ServiceAccount, FederatedUser; "" without a token
	ID      string  // id of the subject; "" without a token
	TokenID TokenID // id of the token
	Session TokenID // id of the login session that it came from; zero for none (TK-5)
	Actor   Actor   // who asked for the token, to act as the subject (IM-1); zero for the subject itself
	Token   string  // the token itself, to be carried along to other units; a secret
	Unit    string  // name of the calling unit, Operator, or ""
}

// Actor is a subject that acts as another one. The zero value is nobody.
type Actor struct {
	Type string // UserAccount, ServiceAccount, FederatedUser
	ID   string
}

// IsSubject reports whether a verified token names a subject.
func (p Principal) IsSubject() bool { return p.ID != "" }

// Subject returns <type>:<id>, e.g. "userAccount:usr…", for logs and audit; ""
// for nobody.
func (p Principal) Subject() string {
	if !p.IsSubject() {
		return ""
	}
	return p.Type + ":" + p.ID
}

// String keeps the token out of any log.
func (p Principal) String() string {
	switch {
	case p.Unit == "" && !p.IsSubject():
		return "nobody"
	case p.Unit == "":
		return p.Subject()
	case !p.IsSubject():
		return "unit:" + p.Unit
	default:
		return p.Subject() + " through unit:" + p.Unit
	}
}

// GoString is String.
func (p Principal) GoString() string { return p.String() }

type principalKey struct{}

// NewContext returns a context that carries p. The server's chain calls it; so
// may tests and work that a unit does on its own.
func NewContext(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, &p)
}

// FromContext returns who makes the call; the zero Principal when nobody proved
// anything, which only methods with a public rule see.
func FromContext(ctx context.Context) Principal {
	if p, ok := ctx.Value(principalKey{}).(*Principal); ok {
		return *p
	}
	return Principal{}
}
