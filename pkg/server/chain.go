package server

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/revision"
	"github.com/bindery-iam/bindery/pkg/slot"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// chain is what every call passes, as one interceptor: metrics, request id and
// log, room for one more call, a slot to run in, recovery, error edge, authentication, authorization,
// validation, idempotency key, handler.
type chain struct {
	methods map[string]*method
	auth    authenticator
	valid   *validator
	log     *zap.Logger
	metrics *metrics
	results results
	limit   limiter
	slots   *slot.Pool // nil when all run at once
	router  *router    // nil when nothing is passed on
	turns   idempotency.Turns
}

// method is what the chain knows of a method before the first call.
type method struct {
	name    string
	rule    *authz.Method
	decider authz.Decider
	keyed   *keyed // nil when it ignores idempotency keys
	fast    Fast   // nil when all its calls take the long way
	quiet   bool
	limit   int64 // calls under way at most when one of this method comes
	metrics methodMetrics
}

// call is one call on its way through the chain.
type call struct {
	*method
	request log.Request
	start   time.Time
	who     authn.Principal
}

// unary is the interceptor of calls with one request and one answer.
func (c *chain) unary(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	k, err := c.begin(ctx, info.FullMethod)
	if err != nil {
		return nil, err
	}
	if !c.room(ctx, k.limit) {
		c.metrics.shed.Inc()
		return nil, c.end(ctx, k, errOverloaded)
	}
	var notes *revision.Notes
	if !k.quiet {
		notes = new(revision.Notes)
		ctx = revision.NewContext(ctx, notes)
	}
	resp, err := c.run(ctx, k, req, handler)
	c.limit.leave()
	if err = c.end(ctx, k, err); err != nil {
		return nil, err
	}
	if !k.quiet {
		c.tell(ctx, k, notes)
	}
	return resp, nil
}

// tell sends what an answer brings along: in headers the ids of its request, and in a
// trailer the revision that is in force with what the call has written.
func (c *chain) tell(ctx context.Context, k *call, notes *revision.Notes) {
	if err := grpc.SetHeader(ctx, ids(&k.request)); err != nil {
		c.log.Debug("response headers not sent", zap.Error(err))
	}
	if r, ok := notes.Latest(); ok {
		if err := grpc.SetTrailer(ctx, metadata.Pairs(access.RevisionTrailer, r.String())); err != nil {
			c.log.Debug("trailer not sent", zap.Error(err))
		}
	}
}

// run is handle once there is a slot for the call. A check needs none: it is over sooner
// than it would have waited.
func (c *chain) run(ctx context.Context, k *call, req any, handler grpc.UnaryHandler) (any, error) {
	if c.slots == nil || k.quiet {
		return c.handle(ctx, k, req, handler)
	}
	ctx, done, err := c.slots.Take(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	return c.handle(ctx, k, req, handler)
}

// handle is the part of the chain whose errors the edge sees.
func (c *chain) handle(ctx context.Context, k *call, req any, handler grpc.UnaryHandler) (resp any, err error) {
	defer c.recover(k, &err)
	msg, ok := req.(proto.Message)
	if !ok {
		return nil, apierr.Internal(fmt.Errorf("request %T is no message", req))
	}
	ctx, err = c.admit(ctx, k, msg)
	if err != nil {
		return c.replayGone(ctx, k, msg, err)
	}
	if err := c.valid.check(msg); err != nil {
		return nil, err
	}
	if !k.quiet { // a check keeps nothing of what it is sent
		if err := wellFormed(msg); err != nil {
			return nil, err
		}
	}
	if k.keyed != nil {
		return c.once(ctx, k, msg, handler)
	}
	return handler(ctx, req)
}

// admit authenticates and authorizes; the returned context carries the request
// and the principal.
func (c *chain) admit(ctx context.Context, k *call, msg proto.Message) (context.Context, error) {
	ctx = log.NewContext(ctx, k.request, c.log)
	caller, err := c.auth.caller(ctx)
	if err != nil {
		c.results.count(codes.Unauthenticated)
		return ctx, err
	}
	caller = k.rule.Seen(caller)
	k.who = caller.Principal
	ctx, err = k.rule.Authorize(authn.NewContext(ctx, caller.Principal), k.decider, caller, msg)
	c.results.count(apierr.CodeOf(err))
	return ctx, err
}

// stream is the interceptor of streams. A rule that reads a field of the request
// is judged when the one request is there; each message that arrives is validated.
func (c *chain) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if c.router != nil && c.methods[info.FullMethod] == nil {
		return c.routed(ss, info.FullMethod)
	}
	k, err := c.begin(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	err = c.handleStream(k, srv, ss, handler)
	return c.end(ss.Context(), k, err)
}

func (c *chain) handleStream(k *call, srv any, ss grpc.ServerStream, handler grpc.StreamHandler) (err error) {
	defer c.recover(k, &err)
	s := &checkedStream{ServerStream: ss, ctx: ss.Context(), valid: c.valid}
	s.admit = func(msg proto.Message) (err error) {
		s.ctx, err = c.admit(ss.Context(), k, msg)
		s.admit = nil
		return err
	}
	if !k.rule.ReadsRequest() {
		if err := s.admit(nil); err != nil {
			return err
		}
	}
	return handler(srv, s)
}

// checkedStream is a stream with the context of an admitted call. Until it is
// admitted nothing but the request can be had from it.
type checkedStream struct {
	grpc.ServerStream
	ctx   context.Context           //nolint:containedctx // the interface asks for it
	admit func(proto.Message) error // nil once it has run
	valid *validator
}

// Context returns the context with the request and the principal.
func (s *checkedStream) Context() context.Context { return s.ctx }

// SendMsg sends one message.
func (s *checkedStream) SendMsg(m any) error {
	if s.admit != nil {
		return apierr.Internal(errors.New("a stream answers before it has read its request"))
	}
	return s.ServerStream.SendMsg(m)
}

// RecvMsg receives, where that is still to be done admits, and validates one
// message.
func (s *checkedStream) RecvMsg(m any) error {
	r := &request{into: m}
	if err := s.ServerStream.RecvMsg(r); err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	msg, ok := m.(proto.Message)
	if !ok {
		return apierr.Internal(fmt.Errorf("request %T is no message", m))
	}
	if s.admit != nil {
		if err := s.admit(msg); err != nil {
			return err
		}
	}
	if err := s.valid.check(msg); err != nil {
		return err
	}
	return wellFormed(msg)
}

// begin finds the method and names the request. A method that is served without a
// rule cannot exist, by the boot check; should it, it is refused.
func (c *chain) begin(ctx context.Context, name string) (*call, error) {
	m := c.methods[name]
	if m == nil || m.rule == nil {
		return nil, apierr.Edge(apierr.Internal(errors.New("method without a rule")), "").Err()
	}
	k := &call{method: m, start: time.Now()}
	if m.quiet { // looked at when there is something to say
		k.request.Method = name
		return k, nil
	}
	k.request = incoming(ctx, name)
	named(&k.request)
	return k, nil
}

// end is the error edge with what surrounds it: it decides what leaves, puts the
// ids of a failure into the trailer, counts, and writes the line of the call.
func (c *chain) end(ctx context.Context, k *call, err error) error {
	took := time.Since(k.start)
	if err == nil {
		k.metrics.observe(codes.OK, took)
		if !k.quiet {
			c.line(k, zap.InfoLevel, codes.OK, took)
		}
		return nil
	}
	if k.quiet {
		k.request = incoming(ctx, k.name)
		named(&k.request)
	}
	err = sqldb.Outward(ctx, err)
	st := apierr.Edge(err, k.request.ID)
	k.metrics.observe(st.Code(), took)
	level := zap.InfoLevel
	switch st.Code() { //nolint:exhaustive // the others are refusals, not failures
	case codes.Internal, codes.Unknown, codes.DataLoss:
		level = zap.ErrorLevel
	case codes.Unavailable:
		level = zap.WarnLevel
		if errors.Is(err, errOverloaded) { // counted, since writing would be work
			level = zap.DebugLevel
		}
	case codes.PermissionDenied, codes.Canceled:
		if k.quiet { // a check that says no is an answer; who watches health goes away some day
			level = zap.DebugLevel
		}
	}
	c.line(k, level, st.Code(), took, zap.String("reason", apierr.ReasonOf(err)), zap.Error(err))
	// A failure sends no headers: a response with headers is not retried.
	if terr := grpc.SetTrailer(ctx, ids(&k.request)); terr != nil {
		c.log.Debug("trailer not sent", zap.Error(terr))
	}
	return st.Err()
}

// line writes the one line of a call.
func (c *chain) line(k *call, level zapcore.Level, code codes.Code, took time.Duration, more ...zap.Field) {
	entry := c.log.Check(level, "rpc")
	if entry == nil {
		return
	}
	fields := append(make([]zap.Field, 0, 12),
		zap.String("method", k.name), zap.String("code", code.String()), zap.Duration("duration", took),
		zap.String("request_id", k.request.ID), zap.String("trace_id", k.request.TraceID),
		zap.String("subject", k.who.Subject()), zap.String("unit", k.who.Unit),
		zap.String("remote", k.request.Remote), zap.String("user_agent", k.request.UserAgent))
	entry.Write(append(fields, more...)...)
}

// recover turns a panic of what is inside into INTERNAL and a line with the stack.
func (c *chain) recover(k *call, err *error) {
	r := recover()
	if r == nil {
		return
	}
	c.metrics.panics.Inc()
	c.log.Error("panic", zap.String("method", k.name), zap.String("request_id", k.request.ID),
		zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
	*err = apierr.Internal(fmt.Errorf("panic: %v", r))
}

// authenticator reads who calls from the two metadata keys that say so. No other
// key is ever identity.
type authenticator struct {
	tokens   *authn.Verifier
	units    *authn.UnitVerifier
	operator bool // every caller is the operator: the socket has checked
}

const bearer = "Bearer "

var (
	errTwoTokens = apierr.Unauthenticated(apierr.ReasonTokenInvalid, "several authorization headers, one is allowed")
	errNotBearer = apierr.Unauthenticated(apierr.ReasonTokenInvalid, "the authorization header must read: Bearer <IAM token>")
	errTwoUnits  = apierr.Unauthenticated(apierr.ReasonUnitInvalid, "several unit credentials, one is allowed")
)

// caller returns who calls. A bad IAM token is not an error here but part of the
// answer, since public methods do not look at it. A bad unit credential is.
func (a *authenticator) caller(ctx context.Context) (authz.Caller, error) {
	var c authz.Caller
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 0 {
		p, err := a.token(ctx, values)
		if err != nil {
			c.Err = err
		} else {
			c.Principal = *p
		}
	}
	if a.operator {
		c.Principal.Unit = authn.Operator
		return c, nil
	}
	values := metadata.ValueFromIncomingContext(ctx, authn.UnitHeader)
	if len(values) == 0 {
		return c, nil
	}
	if len(values) > 1 {
		return authz.Caller{}, errTwoUnits
	}
	unit, err := a.units.Verify(values[0])
	c.Principal.Unit = unit
	return c, err
}

func (a *authenticator) token(ctx context.Context, values []string) (*authn.Principal, error) {
	if len(values) > 1 {
		return nil, errTwoTokens
	}
	token, ok := bearerToken(values[0])
	if !ok {
		return nil, errNotBearer
	}
	return a.tokens.Verify(ctx, token)
}

// bearerToken returns the token of an authorization header; false when it holds none.
func bearerToken(v string) (string, bool) {
	if len(v) <= len(bearer) || !strings.EqualFold(v[:len(bearer)], bearer) {
		return "", false
	}
	return v[len(bearer):], true
}
