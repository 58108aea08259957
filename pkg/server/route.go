package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/log"
)

// Routes say which unit owns what. Those of units that are in the same process are
// held against what these register, so that a forgotten one stops the boot.
type Routes struct {
	Services   map[string]string // unit by full name of a service
	Operations map[string]string // unit by prefix of the ids of operations
}

// routedHeaders are the request metadata that are passed on. None but
// authorization says who calls, and the credential of a unit is not among them.
var routedHeaders = []string{
	"authorization", "idempotency-key", "x-client-request-id", "x-client-trace-id", "x-retry-attempt", "tracestate",
}

// router passes calls of methods of units elsewhere on to them, as they came and
// as the caller's own: the owner of a method judges them.
type router struct {
	services map[string]string // unit by full name
	methods  map[string]*route // by full name
	open     func(unit string) (*grpc.ClientConn, error)
}

// route is a method that is passed on.
type route struct {
	method
	unit    string
	streams bool // its caller sends several messages
}

// newRouter returns a router for the services of units that are not here, nil when
// there is none. Methods for units alone are left out: nobody's call may reach them.
func (p *Process) newRouter(m *metrics) (*router, error) {
	if err := p.routesAreWhole(); err != nil {
		return nil, err
	}
	r := &router{
		services: make(map[string]string), methods: make(map[string]*route),
		open: func(unit string) (*grpc.ClientConn, error) { return p.peers.open(nobody, unit) },
	}
	for _, u := range p.units {
		if u.Routes == nil {
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(u.Routes.Services)) {
			unit := u.Routes.Services[name]
			if p.opts.here(unit) {
				continue
			}
			methods, err := publicMethods(name)
			if err != nil {
				return nil, fmt.Errorf("unit %s: route: %w", u.Name, err)
			}
			for _, md := range methods {
				full := "/" + name + "/" + string(md.Name())
				r.methods[full] = &route{method: method{name: full, metrics: m.method(full)}, unit: unit, streams: md.IsStreamingClient()}
			}
			r.services[name] = unit
		}
	}
	if len(r.methods) == 0 {
		return nil, nil
	}
	return r, nil
}

// publicMethods returns the methods of a service that others than units may call.
func publicMethods(service string) ([]protoreflect.MethodDescriptor, error) {
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service))
	if err != nil {
		return nil, fmt.Errorf("service %s: %w", service, err)
	}
	sd, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is not a service", service)
	}
	var public []protoreflect.MethodDescriptor
	for i := range sd.Methods().Len() {
		if md := sd.Methods().Get(i); !authz.Internal(md) {
			public = append(public, md)
		}
	}
	return public, nil
}

// routesAreWhole holds the routes against what the units of this process register.
func (p *Process) routesAreWhole() error {
	i := slices.IndexFunc(p.units, func(u builtUnit) bool { return u.Routes != nil })
	if i < 0 {
		return nil
	}
	edge := p.units[i]
	var errs []error
	for _, u := range p.units {
		if u.Name == edge.Name {
			continue
		}
		for _, svc := range u.services {
			name := svc.desc.ServiceName
			public, err := publicMethods(name)
			if len(public) > 0 && edge.Routes.Services[name] != u.Name {
				err = fmt.Errorf("unit %s: no route to service %s of unit %s", edge.Name, name, u.Name)
			}
			errs = append(errs, err)
		}
		if u.Operations != nil && edge.Routes.Operations[u.Operations.Prefix()] != u.Name {
			errs = append(errs, fmt.Errorf("unit %s: no route to operations %s of unit %s", edge.Name, u.Operations.Prefix(), u.Name))
		}
	}
	return errors.Join(errs...)
}

// withRoutes lists, for reflection, what a server serves and what it passes on.
type withRoutes struct {
	*grpc.Server
	router *router
}

// GetServiceInfo lists the services of both.
func (s withRoutes) GetServiceInfo() map[string]grpc.ServiceInfo {
	all := s.Server.GetServiceInfo()
	for name := range s.router.services {
		all[name] = grpc.ServiceInfo{}
	}
	return all
}

// routed is the chain for calls that are passed on: metrics, request id and log,
// room for one more, recovery. What the owner answers goes out as it came; only a
// failure to reach it passes the error edge.
func (c *chain) routed(ss grpc.ServerStream, name string) error {
	to := c.router.methods[name]
	if to == nil {
		return apierr.Edge(apierr.Unimplemented("unknown method %s", name), "").Err()
	}
	var request frame
	if !to.streams { // a request that is sent slowly takes no room
		if err := ss.RecvMsg(&request); err != nil {
			return err
		}
	}
	k := &call{method: &to.method, request: incoming(ss.Context(), name), start: time.Now()}
	named(&k.request)
	if !c.room(ss.Context(), c.limit.max) {
		c.metrics.shed.Inc()
		return c.end(ss.Context(), k, errOverloaded)
	}
	answered, err := c.pass(ss, k, to, &request)
	c.limit.leave()
	if !answered {
		return c.end(ss.Context(), k, err)
	}
	took, code := time.Since(k.start), apierr.CodeOf(err)
	k.metrics.observe(code, took)
	c.line(k, zap.DebugLevel, code, took, zap.String("owner", to.unit)) // the owner has written one, under the same id
	return err
}

// pass passes a call on and its answer back. answered tells whether the owner has
// ended it: then err is what it said.
func (c *chain) pass(ss grpc.ServerStream, k *call, to *route, request *frame) (answered bool, err error) {
	defer c.recover(k, &err)
	conn, err := c.router.open(to.unit)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithCancel(onward(ss.Context(), &k.request))
	defer cancel()
	cs, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: to.streams, ServerStreams: true}, to.name, grpc.ForceCodecV2(newCodec()))
	if err != nil {
		return false, err
	}
	if to.streams {
		go upload(ss, cs) // ends with either stream
	} else {
		_ = cs.SendMsg(request) // the answer tells whether it arrived
	}
	err = download(cs, ss)
	if errors.Is(err, context.Canceled) { // the caller went away
		return false, err
	}
	trailer := cs.Trailer()
	ss.SetTrailer(trailer)
	// The owner's chain names the request in each of its refusals. What has no name
	// is the connection's own error, but for a method that the owner does not know.
	named := len(trailer.Get(headerRequestID)) > 0
	return err == nil || named || apierr.CodeOf(err) == codes.Unimplemented, err
}

// health sets what is told of the services that are passed on: they serve while
// their owner is reached and says so.
func (r *router) health(h *health.Server) {
	if r == nil {
		return
	}
	for name, unit := range r.services {
		state := healthv1.HealthCheckResponse_NOT_SERVING
		if conn, err := r.open(unit); err == nil && conn.GetState() == connectivity.Ready {
			state = healthv1.HealthCheckResponse_SERVING
		}
		h.SetServingStatus(name, state)
	}
}

// onward is the context of a call that is passed on.
func onward(ctx context.Context, r *log.Request) context.Context {
	in, _ := metadata.FromIncomingContext(ctx)
	out := metadata.Pairs(headerRequestID, r.ID, headerTraceParent, r.TraceParent)
	for _, key := range routedHeaders {
		if values := in.Get(key); len(values) > 0 {
			out.Set(key, values...)
		}
	}
	return metadata.NewOutgoingContext(ctx, out)
}

// upload sends what the caller sends, to its end. What fails, download sees.
func upload(from grpc.ServerStream, to grpc.ClientStream) {
	for {
		var f frame
		if err := from.RecvMsg(&f); err != nil {
			if errors.Is(err, io.EOF) {
				_ = to.CloseSend() // the answer tells whether it arrived
			}
			return
		}
		if to.SendMsg(&f) != nil {
			return
		}
	}
}

// download gives the caller the answer. Its headers go out with the first message,
// so that a refusal has none, as the owner sent it.
func download(from grpc.ClientStream, to grpc.ServerStream) error {
	for first := true; ; first = false {
		var f frame
		if err := from.RecvMsg(&f); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if first {
			header, err := from.Header()
			if err != nil {
				return err
			}
			if err := to.SetHeader(header); err != nil {
				return fmt.Errorf("%w: %w", context.Canceled, err)
			}
		}
		if err := to.SendMsg(&f); err != nil {
			return fmt.Errorf("%w: %w", context.Canceled, err)
		}
	}
}

// frame is a message that is passed on as it came.
type frame struct{ data []byte }

// Marshal encodes a message, or gives out a frame.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if f, ok := v.(*frame); ok {
		return mem.BufferSlice{mem.SliceBuffer(f.data)}, nil
	}
	return c.CodecV2.Marshal(v)
}
