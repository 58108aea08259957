package server

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/bindery-iam/bindery/pkg/access"
	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/slot"
)

// accessBindings is the unit whose AccessService decides by default, identity the
// one that hands out signing keys.
const (
	accessBindings = "accessbindings"
	identity       = "identity"
)

// nobody is the caller of a connection without the credential of any unit.
const nobody = ""

// How long a unit that is away can hold a call, and how soon it is found again.
const (
	peerDeadline    = 15 * time.Second // of one call with its retries
	peerConnect     = 3 * time.Second  // to a machine that does not answer
	peerBackoff     = 2 * time.Second  // at most, between two attempts to connect
	peerPing        = 15 * time.Second // on a silent connection; more than minPing
	peerPingTimeout = 5 * time.Second
)

type asUnitKey struct{}

// AsUnit returns a context whose calls to peers are the unit's own: they carry its
// credential and no user's token.
func AsUnit(ctx context.Context) context.Context {
	return context.WithValue(ctx, asUnitKey{}, true)
}

// place is where a unit is.
type place struct {
	target string
	creds  credentials.TransportCredentials
	remote bool // in another process

	replicas []resolver.Address // where it is, in another process
}

// elsewhere is the place of a unit at host:port, or at several of them with commas
// between.
func elsewhere(addrs string, cas *x509.CertPool, allowPlaintext bool) (place, error) {
	at := place{remote: true}
	loopback := true
	all := strings.Split(addrs, ",")
	for _, addr := range all {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return place{}, fmt.Errorf("address of a unit: %w", err)
		}
		ip := net.ParseIP(host)
		local := host == "localhost" || ip != nil && ip.IsLoopback()
		loopback = loopback && local
		at.replicas = append(at.replicas, resolver.Address{Addr: addr, ServerName: host})
	}
	switch {
	case len(all) > 1:
		at.target = replicasScheme + ":///" + all[0]
	case loopback:
		at.target = "passthrough:///" + addrs // whichever of its addresses answers, not all of them
	default:
		at.target = "dns:///" + addrs
	}
	at.creds = credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cas})
	if cas == nil && (loopback || allowPlaintext) {
		at.creds = loopbackCreds()
	}
	return at, nil
}

// replicasScheme is the scheme of a target that is a list of addresses.
const replicasScheme = "replicas"

// list hands the addresses of a place to gRPC.
func (p place) list() resolver.Builder {
	b := manual.NewBuilderWithScheme(replicasScheme)
	b.InitialState(resolver.State{Addresses: p.replicas})
	return b
}

// peers makes the connections between the units of a process and to those of
// others.
type peers struct {
	key   ed25519.PrivateKey
	now   func() time.Time
	place func(unit string) (place, error)
	trace trace.TracerProvider // nil when off

	mu    sync.Mutex
	conns map[[2]string]*grpc.ClientConn
}

// conn returns the connection of unit from to unit to. It never fails: what is
// wrong with it, its calls say.
func (p *peers) conn(from, to string) grpc.ClientConnInterface {
	c, err := p.open(from, to)
	if err != nil {
		return brokenConn{err}
	}
	return c
}

// open returns the connection of unit from to unit to. The one of nobody carries
// nothing but what its caller puts into the context.
func (p *peers) open(from, to string) (*grpc.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c, ok := p.conns[[2]string{from, to}]; ok {
		return c, nil
	}
	c, err := p.dial(from, to)
	if err != nil {
		return nil, err
	}
	if p.conns == nil {
		p.conns = make(map[[2]string]*grpc.ClientConn)
	}
	p.conns[[2]string{from, to}] = c
	return c, nil
}

func (p *peers) dial(from, to string) (*grpc.ClientConn, error) {
	at, err := p.place(to)
	if err != nil {
		return nil, err
	}
	opts := []grpc.DialOption{grpc.WithTransportCredentials(at.creds), grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxPeerAnswer))}
	opts = append(opts, client(p.trace)...)
	opts = append(opts, grpc.WithChainUnaryInterceptor(access.NoteUnary))
	retries := noRetries
	if from != nobody {
		retries = peerRetries
		opts = append(opts,
			grpc.WithPerRPCCredentials(authn.NewUnitSigner(from, to, p.key, p.now)),
			grpc.WithChainUnaryInterceptor(forwardUnary, within(to)),
			grpc.WithChainStreamInterceptor(forwardStream))
	}
	if at.remote {
		opts = append(opts, grpc.WithChainUnaryInterceptor(aside))
		opts = append(opts, grpc.WithResolvers(at.list()))
		opts = append(opts, remoteOptions(to, retries)...)
	} else {
		opts = append(opts, grpc.WithDefaultServiceConfig(fmt.Sprintf(`{"methodConfig": [%s]}`, retries)))
	}
	c, err := grpc.NewClient(at.target, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial unit %s: %w", to, err)
	}
	return c, nil
}

// remoteOptions are for a unit in another process: its replicas take turns, those
// that say they are not ready are left out, and one that went away is noticed,
// and found again, within seconds. A unit of the same process is never left out:
// it serves to the end of the calls that need it.
func remoteOptions(unit, retries string) []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithDefaultServiceConfig(fmt.Sprintf(`{
			"loadBalancingConfig": [{"round_robin": {}}],
			"healthCheckConfig": {"serviceName": %q},
			"methodConfig": [%s]}`, unit, retries)),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: peerBackoff},
			MinConnectTimeout: peerConnect,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: peerPing, Timeout: peerPingTimeout, PermitWithoutStream: true}),
	}
}

// met reports whether a unit elsewhere has been reached and says that it serves.
// It begins to connect when nobody has.
func (p *peers) met(from, to string) (bool, error) {
	c, err := p.open(from, to)
	if err != nil {
		return false, err
	}
	c.Connect()
	return c.GetState() == connectivity.Ready, nil
}

func (p *peers) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close() // nothing to be done about it at the end
	}
	p.conns = nil
}

// peerRetries let a call survive the restart of its peer. What is passed on for a
// client is the client's to retry.
const (
	peerRetries = `{"name": [{}], "retryPolicy": {
		"maxAttempts": 4, "initialBackoff": "0.05s", "maxBackoff": "1s", "backoffMultiplier": 2,
		"retryableStatusCodes": ["UNAVAILABLE"]}}`
	noRetries = `{"name": [{}]}`
)

// within bounds each call by peerDeadline. A peer that let it pass is away, which
// is another thing than a deadline of the caller's own.
func within(unit string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		bounded, cancel := context.WithTimeout(ctx, peerDeadline)
		defer cancel()
		err := invoke(bounded, method, req, reply, cc, opts...)
		if err != nil && ctx.Err() == nil && errors.Is(bounded.Err(), context.DeadlineExceeded) {
			return apierr.Unavailable(apierr.ReasonUnavailable, "a service behind this one does not answer, try again").
				WithCause(fmt.Errorf("unit %s: %w", unit, err))
		}
		return err
	}
}

// forward adds what travels along: the ids of the request under way and the
// caller's verified token. Nothing else of what came from outside is passed on.
func forward(ctx context.Context) context.Context {
	out, _ := metadata.FromOutgoingContext(ctx)
	var add []string
	r := log.RequestFrom(ctx)
	if r.ID != "" && len(out.Get(headerRequestID)) == 0 {
		add = append(add, headerRequestID, r.ID)
	}
	if r.TraceParent != "" && len(out.Get(headerTraceParent)) == 0 {
		add = append(add, headerTraceParent, r.TraceParent)
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

// aside lets another call run while this one waits for a unit of another process: one of
// this process runs in its place.
func aside(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	defer slot.Aside(ctx)()
	return invoke(ctx, method, req, reply, cc, opts...)
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
