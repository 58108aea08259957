package server

import (
	"context"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
)

// Fast answers a request from its bytes, or refuses it. It takes only requests of
// which it is certain that the chain and the handler would answer the same: with
// false it leaves a request to them, and has done nothing. The bytes are the
// caller's again when it returns.
//
// It is for the check, which is asked on every request of every service, and whose
// decision costs less than anything around it. The fast path is the chain in a few
// steps: no message is made of the bytes, none of the answer, and the caller is
// taken as proven by what was proven before. Whatever is not usual (a field that is
// not, a credential that is new, a caller to be turned away, a line to be logged) goes
// the long way; a test sends both ways what can be sent.
type Fast func(ctx context.Context, request []byte) (answer []byte, refusal *apierr.Ready, ok bool)

// fastCall is a call on the fast path. It is what the codec decodes into: the bytes
// of the request are there no longer than that.
type fastCall struct {
	chain  *chain
	method *method
	ctx    context.Context //nolint:containedctx // the decoder is given none
	ok     bool            // it was answered
	answer frame
	err    error
	left   []byte // the request, when it was not
}

// fast returns a handler that answers on the fast path what can be answered there,
// and leaves the rest to another one.
func (c *chain) fast(name string, other methodHandler) methodHandler {
	return func(srv any, ctx context.Context, decode func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
		m := c.methods[name]
		if m == nil || m.fast == nil {
			return other(srv, ctx, decode, interceptor)
		}
		f := &fastCall{chain: c, method: m, ctx: ctx}
		if err := decode(f); err != nil {
			return nil, err
		}
		switch {
		case !f.ok:
			return other(srv, ctx, func(into any) error {
				return newCodec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(f.left)}, into)
			}, interceptor)
		case f.err != nil:
			return nil, f.err
		default:
			return &f.answer, nil
		}
	}
}

// take answers the request, or keeps it for the long way.
func (f *fastCall) take(data mem.BufferSlice) {
	if len(data) == 1 {
		f.run(data[0].ReadOnlyData())
	} else {
		f.run(data.Materialize())
	}
	if !f.ok {
		f.left = data.Materialize()
	}
}

func (f *fastCall) run(request []byte) {
	c, k := f.chain, call{method: f.method, start: time.Now()}
	if c.log.Core().Enabled(zapcore.DebugLevel) { // denials are logged
		return
	}
	if !c.auth.known(f.ctx) || !c.limit.enter(k.limit) {
		return
	}
	defer c.limit.leave()
	refusal, defect := f.ask(&k, request)
	switch {
	case defect != nil: // it is in the log; the long way may do better
		f.ok = false
	case !f.ok:
	case refusal != nil:
		c.results.count(codes.OK) // the rule of the method has let it pass
		f.err = c.refuse(f.ctx, &k, refusal)
	default:
		c.results.count(codes.OK)
		k.metrics.observe(codes.OK, time.Since(k.start))
	}
}

func (f *fastCall) ask(k *call, request []byte) (refusal *apierr.Ready, defect error) {
	defer f.chain.recover(k, &defect)
	f.answer.data, refusal, f.ok = k.fast(f.ctx, request)
	return refusal, nil
}

// refuse is the end of a refused call, as chain.end is.
func (c *chain) refuse(ctx context.Context, k *call, refusal *apierr.Ready) error {
	identify(ctx, &k.request)
	named(&k.request)
	st, details := refusal.Wire(k.request.ID)
	k.metrics.observe(st.Code(), time.Since(k.start))
	trailer := metadata.MD{
		headerRequestID: {k.request.ID}, headerServerTraceID: {k.request.TraceID},
		"grpc-status-details-bin": {details}, // where grpc puts those of a status
	}
	if err := grpc.SetTrailer(ctx, trailer); err != nil {
		c.log.Debug("trailer not sent", zap.Error(err))
	}
	return st.Err()
}

// known reports whether every credential with which a call comes was proven before.
func (a *authenticator) known(ctx context.Context) bool {
	if values := metadata.ValueFromIncomingContext(ctx, "authorization"); len(values) > 1 {
		return false
	} else if len(values) == 1 {
		token, ok := bearerToken(values[0])
		if !ok {
			return false
		}
		if _, ok = a.tokens.Known(token); !ok {
			return false
		}
	}
	values := metadata.ValueFromIncomingContext(ctx, authn.UnitHeader)
	if len(values) == 0 {
		return !a.operator
	}
	_, err := a.units.Verify(values[0])
	return err == nil && len(values) == 1 && !a.operator
}
