package authz

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
)

// Guard admits the calls of a gRPC server elsewhere: it verifies the caller's IAM token,
// and asks a Decider by the rule written beside each RPC. The units of the suite do the
// same in a chain of their own.
type Guard struct {
	decider Decider
	tokens  *authn.Verifier
	table   atomic.Pointer[Table] // nil before Compile: nothing is admitted
}

// NewGuard returns a guard that asks d, a Client or a replica.Replica, about callers whose
// tokens tokens verifies (authn.KeysOver).
func NewGuard(d Decider, tokens *authn.Verifier) *Guard { return &Guard{decider: d, tokens: tokens} }

// Options are those with which the server is made.
func (g *Guard) Options() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.ChainUnaryInterceptor(g.unary), grpc.ChainStreamInterceptor(g.stream)}
}

// Compile reads the rules of what a server has registered, before it serves. Fails as
// NewTable does: such a server must not serve.
func (g *Guard) Compile(s interface {
	GetServiceInfo() map[string]grpc.ServiceInfo
}, deps Deps) error {
	t, err := NewTable(s.GetServiceInfo(), deps)
	if err != nil {
		return err
	}
	g.table.Store(t)
	return nil
}

func (g *Guard) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	msg, _ := req.(proto.Message)
	ctx, err := g.admit(ctx, info.FullMethod, msg)
	if err != nil {
		return nil, apierr.Edge(err, "").Err()
	}
	return handler(ctx, req)
}

func (g *Guard) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	s := &guardedStream{ServerStream: ss, guard: g, method: info.FullMethod, ctx: ss.Context()}
	if m, err := g.method(info.FullMethod); err != nil || !m.ReadsRequest() {
		if err := s.admit(nil); err != nil {
			return err
		}
	}
	return handler(srv, s)
}

// guardedStream is judged by its first message where its rule reads one.
type guardedStream struct {
	grpc.ServerStream
	guard    *Guard
	method   string
	ctx      context.Context //nolint:containedctx // the interface asks for it
	admitted bool
}

func (s *guardedStream) admit(msg proto.Message) error {
	ctx, err := s.guard.admit(s.ServerStream.Context(), s.method, msg)
	if err != nil {
		return apierr.Edge(err, "").Err()
	}
	s.ctx, s.admitted = ctx, true
	return nil
}

// Context returns the context with the caller.
func (s *guardedStream) Context() context.Context { return s.ctx }

// SendMsg sends a message of an admitted stream.
func (s *guardedStream) SendMsg(m any) error {
	if !s.admitted {
		return apierr.Edge(apierr.Internal(errors.New("a stream answers before it has read its request")), "").Err()
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg receives a message; the first one is judged.
func (s *guardedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil || s.admitted {
		return err
	}
	msg, _ := m.(proto.Message)
	return s.admit(msg)
}

func (g *Guard) method(name string) (*Method, error) {
	t := g.table.Load()
	if t == nil {
		return nil, apierr.Internal(errors.New("the rules of the server were not compiled"))
	}
	if m := t.Method(name); m != nil {
		return m, nil
	}
	return nil, apierr.Internal(fmt.Errorf("method %s has no rule", name))
}

// admit judges a call. The context that it returns carries the caller.
func (g *Guard) admit(ctx context.Context, name string, msg proto.Message) (context.Context, error) {
	m, err := g.method(name)
	if err != nil {
		return ctx, err
	}
	if msg == nil && m.ReadsRequest() {
		return ctx, apierr.Internal(errors.New("the request is no message"))
	}
	c := g.caller(ctx)
	return m.Authorize(authn.NewContext(ctx, c.Principal), g.decider, c, msg)
}

var errHeader = apierr.Unauthenticated(apierr.ReasonTokenInvalid, "there must be one authorization header, and it must read: Bearer <IAM token>")

// caller reads who calls from the one header that says so.
func (g *Guard) caller(ctx context.Context) Caller {
	const scheme = "Bearer "
	values := metadata.ValueFromIncomingContext(ctx, "authorization")
	if len(values) == 0 {
		return Caller{}
	}
	if v := values[0]; len(values) > 1 || len(v) <= len(scheme) || !strings.EqualFold(v[:len(scheme)], scheme) {
		return Caller{Err: errHeader}
	}
	p, err := g.tokens.Verify(ctx, values[0][len(scheme):])
	if err != nil {
		return Caller{Err: err}
	}
	return Caller{Principal: *p}
}
