package server

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"runtime"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/slot"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Bounds of every connection.
const (
	maxMessage = 4 << 20 // bytes of a request
	// maxPeerAnswer bounds what units answer each other, who trust each other more.
	maxPeerAnswer = 64 << 20
	maxHeaders    = 16 << 10 // bytes of a request's metadata
	maxStreams    = 1000     // calls at once over one connection
	// streamWindow and connWindow are the bytes of requests that may be on their way in, of
	// one call and over one connection. They are fixed: to find out what a connection could
	// take, grpc would ping the caller again and again while it makes calls, which costs
	// small calls more than any window gives them.
	streamWindow = 256 << 10
	connWindow   = 1 << 20
	// minPing allows the pings of the official clients, every 30 seconds and from
	// terraform's newer half too, also without calls.
	minPing = 10 * time.Second
	// streamWorkers are the goroutines for each processor that wait for calls: one that
	// has answered a call has the stack for the next. Calls beyond them get new ones.
	streamWorkers = 32
	// maxIdle ends a connection that had no call for so long, in good order.
	maxIdle = 15 * time.Minute
)

// servers makes the grpc servers and their chains, after checking every rule.
func (p *Process) servers(auth authenticator) error {
	m := newMetrics(p.opts.Metrics)
	var public, operator []service
	for _, u := range p.units {
		public = append(public, u.services...)
		operator = append(operator, u.opService...)
	}
	ops, err := p.operationService()
	if err != nil {
		return err
	}
	usage, err := p.usageService()
	if err != nil {
		return err
	}
	public = append(append(public, ops...), usage, p.trailService())
	if err := errors.Join(p.once(public), p.once(operator)); err != nil {
		return err
	}

	if p.router, err = p.newRouter(m); err != nil {
		return err
	}
	p.public, err = p.newServer(public, auth, m, port{newEitherCreds(p.tls, p.opts.AllowPlaintext), p.opts.MaxCalls, slot.New(slotsPerProcessor * runtime.GOMAXPROCS(0)), p.router})
	if err != nil {
		return err
	}
	if p.inner, err = p.newServer(public, auth, m, port{insecure.NewCredentials(), math.MaxInt, nil, nil}); err != nil {
		return err
	}
	if len(operator) > 0 {
		auth.operator = true
		if p.operator, err = p.newServer(operator, auth, m, port{operatorCreds{}, math.MaxInt, nil, nil}); err != nil {
			return err
		}
	}
	return nil
}

// once reports services and resolvers that two units give: grpc would end the
// process over the first, and one of the latter would hide the other.
func (p *Process) once(services []service) error {
	var errs []error
	seen := make(map[string]bool)
	for _, svc := range services {
		if name := svc.desc.ServiceName; seen[name] {
			errs = append(errs, fmt.Errorf("service %s is registered twice", name))
		}
		seen[svc.desc.ServiceName] = true
	}
	owners := make(map[string]string)
	for _, u := range p.units {
		for name := range u.Resolvers {
			if other, taken := owners[name]; taken {
				errs = append(errs, fmt.Errorf("units %s and %s both give the resolver %s", other, u.Name, name))
			}
			owners[name] = u.Name
		}
	}
	return errors.Join(errs...)
}

// port is in what the servers of a process differ.
type port struct {
	creds    credentials.TransportCredentials
	maxCalls int        // under way at once
	slots    *slot.Pool // nil when as many run at once
	router   *router    // nil when it passes nothing on
}

// newServer makes a server that offers the services behind the chain. The chain
// needs the table of methods, which needs the server: so it is filled in last.
func (p *Process) newServer(services []service, auth authenticator, m *metrics, at port) (*grpc.Server, error) {
	c := &chain{auth: auth, log: p.opts.Log, metrics: m, results: m.results(), limit: limiter{max: int64(at.maxCalls)}, slots: at.slots, router: at.router}
	opts := []grpc.ServerOption{
		grpc.Creds(at.creds),
		grpc.UnaryInterceptor(c.unary),
		grpc.StreamInterceptor(c.stream),
		grpc.InTapHandle(c.early),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPing, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: maxIdle, Time: 2 * time.Minute, Timeout: 20 * time.Second}),
		grpc.ForceServerCodecV2(newCodec()),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaders),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.NumStreamWorkers(uint32(streamWorkers * runtime.GOMAXPROCS(0))), //nolint:gosec // a small number
	}
	opts = append(opts, p.tracing().server()...)
	if at.router != nil {
		opts = append(opts, grpc.UnknownServiceHandler(func(any, grpc.ServerStream) error { return nil })) // the interceptor passes it on
	}
	s := grpc.NewServer(opts...)
	for _, svc := range services {
		s.RegisterService(c.decoding(svc.desc), svc.impl)
	}
	healthv1.RegisterHealthServer(s, healthService{p.health})
	if at.router == nil {
		reflection.RegisterV1(s)
	} else {
		reflectionv1.RegisterServerReflectionServer(s, reflection.NewServerV1(reflection.ServerOptions{Services: withRoutes{s, at.router}}))
	}
	return s, p.fill(c, s, m)
}

// fill compiles the rules and constraints of all methods of a server.
func (p *Process) fill(c *chain, s *grpc.Server, m *metrics) error {
	table, err := authz.NewTable(s.GetServiceInfo(), authz.Deps{Catalog: p.opts.Catalog, Resolvers: p.resolvers()})
	if err != nil {
		return err
	}
	msgs, err := inputs(s.GetServiceInfo())
	if err != nil {
		return err
	}
	if c.valid, err = newValidator(msgs); err != nil {
		return err
	}
	owners, err := p.owners()
	if err != nil {
		return err
	}
	c.methods = make(map[string]*method)
	for name, info := range s.GetServiceInfo() {
		owner := owners[name]
		for _, mi := range info.Methods {
			full := "/" + name + "/" + mi.Name
			md, err := descriptor(name, mi.Name)
			if err != nil {
				return err
			}
			if owner.fast[full] != nil && !table.Method(full).Admits("iam_token") {
				return fmt.Errorf("%s: has a fast path, and its rule does not admit every request with an iam_token", full)
			}
			c.methods[full] = &method{
				fast: owner.fast[full],
				name: full, rule: table.Method(full), decider: owner.decider, keyed: owner.keyed.keyedBy(full, md),
				quiet: owner.quiet, limit: c.limit.limitOf(owner), metrics: m.method(full),
			}
		}
	}
	return nil
}

// owner is what the unit that registered a service says about its methods.
type owner struct {
	decider authz.Decider
	keyed   *keyed
	fast    map[string]Fast
	quiet   bool
	never   bool // refused for want of room
}

// owners returns the owner of each service; those of the process itself are judged
// by the first unit's Decider and health is quiet.
func (p *Process) owners() (map[string]owner, error) {
	out := map[string]owner{
		healthv1.Health_ServiceDesc.ServiceName:              {quiet: true, never: true},
		operationpb.OperationService_ServiceDesc.ServiceName: {decider: p.decider()},
	}
	for _, u := range p.units {
		writes, err := u.keyed()
		if err != nil {
			return nil, err
		}
		for _, svc := range slices.Concat(u.services, u.opService) {
			name := svc.desc.ServiceName
			out[name] = owner{decider: u.Decider, keyed: writes, fast: u.Fast, quiet: slices.Contains(u.Quiet, name)}
		}
	}
	return out, nil
}

// decider is that of accessbindings where it lives here, else of any unit.
func (p *Process) decider() authz.Decider {
	for _, u := range p.units {
		if u.Name == accessBindings {
			return u.Decider
		}
	}
	return p.units[0].Decider
}

func (p *Process) resolvers() map[string]authz.Resolver {
	out := make(map[string]authz.Resolver)
	for _, u := range p.units {
		maps.Copy(out, u.Resolvers)
	}
	return out
}

// openPorts takes the addresses, so that a taken one is known before Run.
func (p *Process) openPorts() error {
	var err error
	if p.listen, err = net.Listen("tcp", p.opts.Listen); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if p.operator != nil {
		if p.opListen, err = listenOperator(p.opts.DataDir); err != nil {
			return fmt.Errorf("operator socket: %w", err)
		}
	}
	if p.http, err = p.openHTTP(); err != nil {
		return err
	}
	p.ops, err = p.openOps()
	return err
}

// usageService returns the one UsageService of the process, over the quotas that
// its units own.
func (p *Process) usageService() (service, error) {
	all := make(map[string]quota.Usage)
	for _, u := range p.units {
		for quotaID, count := range u.Usage {
			if all[quotaID] != nil {
				return service{}, fmt.Errorf("unit %s: counts quota %s of another unit", u.Name, quotaID)
			}
			all[quotaID] = count
		}
	}
	return service{&quotav1.UsageService_ServiceDesc, &quota.Usages{By: all}}, nil
}

// operationService returns the one OperationService of the process, over the
// operations of all its units and of those to which one of them routes; none when
// there are none.
func (p *Process) operationService() ([]service, error) {
	routes := make(map[string]operation.Route)
	for _, u := range p.units {
		if u.Operations == nil {
			continue
		}
		prefix := u.Operations.Prefix()
		if routes[prefix] != nil {
			return nil, fmt.Errorf("unit %s: operations with the prefix %s of another unit", u.Name, prefix)
		}
		routes[prefix] = operation.Local(u.Operations, u.Decider.Authorize)
	}
	for _, u := range p.units {
		if u.Routes == nil {
			continue
		}
		for prefix, owner := range u.Routes.Operations {
			if !p.opts.here(owner) {
				routes[prefix] = operation.Remote(p.peers.conn(u.Name, owner))
			}
		}
	}
	if len(routes) == 0 {
		return nil, nil
	}
	return []service{{&operationpb.OperationService_ServiceDesc, operation.NewService(routes)}}, nil
}
