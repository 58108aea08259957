package server

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/log"
)

// accessBindings is the unit whose AccessService decides by default, identity the
// one that hands out signing keys.
const (
	accessBindings = "accessbindings"
	identity       = "identity"
)

type asUnitKey struct{}

// AsUnit returns a context whose calls to peers are the unit's own: they carry its
// credential and no user's token.
func AsUnit(ctx context.Context) context.Context {
	return context.WithValue(ctx, asUnitKey{}, true)
}

// peers makes the connections between the units of a process and to those of
// others.
type peers struct {
	key     ed25519.PrivateKey
	now     func() time.Time
	address func(unit string) (target string, creds credentials.TransportCredentials, err error)

	mu    sync.Mutex
	conns map[[2]string]*grpc.ClientConn
}

// conn returns the connection of unit from to unit to. It never fails: what is
// wrong with it, its calls say.
func (p *peers) conn(from, to string) grpc.ClientConnInterface {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.conns[[2]string{from, to}]; ok {
		return c
	}
	c, err := p.dial(from, to)
	if err != nil {
		return brokenConn{err}
	}
	if p.conns == nil {
		p.conns = make(map[[2]string]*grpc.ClientConn)
	}
	p.conns[[2]string{from, to}] = c
	return c
}

func (p *peers) dial(from, to string) (*grpc.ClientConn, error) {
	target, creds, err := p.address(to)
	if err != nil {
		return nil, err
	}
	c, err := grpc.NewClient(target,
		grpc.WithTransportCredentials(creds),
		grpc.WithPerRPCCredentials(authn.NewUnitSigner(from, to, p.key, p.now)),
		grpc.WithChainUnaryInterceptor(forwardUnary),
		grpc.WithChainStreamInterceptor(forwardStream),
		grpc.WithDefaultServiceConfig(peerServiceConfig),
		grpc.WithNoProxy(),
	)
	if err != nil {
		return nil, fmt.Errorf("dial unit %s: %w", to, err)
	}
	return c, nil
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close() // nothing to be done about it at the end
	}
	p.conns = nil
}

// peerServiceConfig lets a call survive the restart of its peer.
const peerServiceConfig = `{"methodConfig": [{"name": [{}], "retryPolicy": {
	"maxAttempts": 4, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
	"retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// forward adds what travels along: the ids of the request under way and the
// caller's verified token. Nothing else of what came from outside is passed on.
func forward(ctx context.Context) context.Context {
	out, _ := metadata.FromOutgoingContext(ctx)
	var add []string
	if r := log.RequestFrom(ctx); r.ID != "" && len(out.Get(headerRequestID)) == 0 {
		add = append(add, headerRequestID, r.ID)
	}
	asUnit, _ := ctx.Value(asUnitKey{}).(bool)
	if p := authn.FromContext(ctx); p.Token != "" && !asUnit && len(out.Get("authorization")) == 0 {
		add = append(add, "authorization", bearer+p.Token)
	}
	if len(add) == 0 {
		return ctx
	}
	return metadata.AppendToOutgoingContext(ctx, add...)
}

func forwardUnary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	return invoke(forward(ctx), method, req, reply, cc, opts...)
}

func forwardStream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, stream grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return stream(forward(ctx), desc, cc, method, opts...)
}

// asUnitConn makes every call the unit's own.
type asUnitConn struct{ grpc.ClientConnInterface }

// Invoke calls without the user's token.
func (c asUnitConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return c.ClientConnInterface.Invoke(AsUnit(ctx), method, args, reply, opts...)
}

// NewStream streams without the user's token.
func (c asUnitConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return c.ClientConnInterface.NewStream(AsUnit(ctx), desc, method, opts...)
}

// brokenConn answers every call with the reason for which there is no connection.
type brokenConn struct{ err error }

// Invoke fails.
func (c brokenConn) Invoke(context.Context, string, any, any, ...grpc.CallOption) error { return c.err }

// NewStream fails.
func (c brokenConn) NewStream(context.Context, *grpc.StreamDesc, string, ...grpc.CallOption) (grpc.ClientStream, error) {
	return nil, c.err
}

// loopbackCreds are for calls inside the machine.
func loopbackCreds() credentials.TransportCredentials { return insecure.NewCredentials() }
