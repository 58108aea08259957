package server

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Process is units built and ready to serve. It is made by New, serves in Run and
// is gone after Close.
type Process struct {
	opts   Options
	units  []builtUnit
	peers  *peers
	router *router // nil when nothing is passed on
	door   *grpc.ClientConn
	tokens *authn.Verifier
	health *health.Server
	tls    *tls.Config
	cas    *x509.CertPool // of peers; nil means those of the system

	given bool // the time is, by the options

	met atomic.Bool // the units elsewhere have been reached once

	public   *grpc.Server // the port of clients
	inner    *grpc.Server // the units' own calls, on loopback
	operator *grpc.Server // the operator socket; nil when no unit serves it

	listen, innerListen, opListen net.Listener
	http, ops                     *webServer

	closing sync.Once
}

// builtUnit is a unit with what its Build returned.
type builtUnit struct {
	Unit
	*Parts
	services  []service // for the ports
	opService []service // for the operator socket
}

// service is a registration, kept so that several servers can repeat it.
type service struct {
	desc *grpc.ServiceDesc
	impl any
}

// recorder is a registrar that keeps what is registered.
type recorder struct{ services *[]service }

// RegisterService keeps the service.
func (r recorder) RegisterService(desc *grpc.ServiceDesc, impl any) {
	*r.services = append(*r.services, service{desc, impl})
}

// New migrates, builds the units, checks the rule of every method that they
// register, and takes the addresses. It fails with what is wrong; then nothing is
// left open.
func New(ctx context.Context, opts Options) (*Process, error) {
	given := opts.Now != nil
	opts.Now = cmpFunc(opts.Now, time.Now)
	opts.DrainFor = cmp.Or(opts.DrainFor, 10*time.Second)
	opts.MaxCalls = cmp.Or(opts.MaxCalls, defaultMaxCalls())
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	p := &Process{opts: opts, given: given, health: health.NewServer()}
	if err := p.build(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *Process) build(ctx context.Context) error {
	if err := os.MkdirAll(p.opts.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	conf, err := loadTLS(p.opts.TLS, p.opts.DataDir, p.opts.Now())
	if err != nil {
		return err
	}
	p.tls = conf
	if p.cas, err = loadCAs(p.opts.TLS.CA); err != nil {
		return err
	}
	trusted, err := p.unitKeys()
	if err != nil {
		return err
	}
	if p.door, err = dialDoor(func() net.Addr { return p.listen.Addr() }, client(p.opts.Traces)...); err != nil {
		return err
	}
	// The units' own calls have a port of their own: at the end the public one
	// drains first, while its calls still need the others. Units are told it while
	// they are built.
	if p.innerListen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("listen for units: %w", err)
	}
	p.tokens = authn.NewVerifier(p.keySource(), p.opts.Now)
	for _, u := range p.opts.Units {
		if err := p.buildUnit(ctx, u); err != nil {
			return fmt.Errorf("unit %s: %w", u.Name, err)
		}
	}
	names := make([]string, len(p.opts.Units))
	for i, u := range p.opts.Units {
		names[i] = u.Name
	}
	if err := p.observe(); err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	auth := authenticator{tokens: p.tokens, units: authn.NewUnitVerifier(trusted, names, p.opts.Now)}
	if err := p.servers(auth); err != nil {
		return err
	}
	return p.openPorts()
}

// unitKeys returns the keys to trust by unit name and makes the connections that
// sign with ours.
func (p *Process) unitKeys() (map[string]ed25519.PublicKey, error) {
	key := p.opts.UnitKey
	if key == nil {
		var err error
		if _, key, err = ed25519.GenerateKey(rand.Reader); err != nil {
			return nil, fmt.Errorf("unit key: %w", err)
		}
	}
	public, _ := key.Public().(ed25519.PublicKey) // what an Ed25519 key has
	trusted := maps.Clone(p.opts.TrustedUnits)
	if trusted == nil {
		trusted = make(map[string]ed25519.PublicKey)
	}
	for _, u := range p.opts.Units {
		trusted[u.Name] = public
	}
	p.peers = &peers{key: key, now: p.opts.Now, place: p.place, trace: p.opts.Traces}
	return trusted, nil
}

// keySource reads the signing keys over a call of the first unit's own, like any
// service elsewhere.
func (p *Process) keySource() authn.KeySource {
	if p.opts.Keys != nil {
		return p.opts.Keys
	}
	return authn.KeySourceFunc(func(ctx context.Context) ([]authn.Key, error) {
		return authn.KeysOver(asUnitConn{p.peers.conn(p.opts.Units[0].Name, identity)}).SigningKeys(ctx)
	})
}

func (p *Process) buildUnit(ctx context.Context, u Unit) error {
	db, err := p.database(ctx, u)
	if err != nil {
		return err
	}
	parts, err := u.Build(ctx, Base{
		Log:     p.opts.Log.Named(u.Name),
		Metrics: prometheus.WrapRegistererWith(prometheus.Labels{"unit": u.Name}, p.opts.Metrics),
		DB:      db,
		DataDir: p.opts.DataDir,
		Now:     p.opts.Now,
		Given:   p.given,
		Catalog: p.opts.Catalog,
		Tokens:  p.tokens,
		Sealer:  p.opts.Sealer,
		Peer:    func(to string) grpc.ClientConnInterface { return p.peers.conn(u.Name, to) },
		Has:     func(unit string) bool { return p.opts.here(unit) || p.opts.Peers[unit] != "" },
		Door:    p.door,
		Address: p.advertised,
	})
	if err != nil {
		return err
	}
	b := builtUnit{Unit: u, Parts: parts}
	p.units = append(p.units, b)
	last := &p.units[len(p.units)-1]
	if parts.Register == nil {
		return errors.New("registers nothing")
	}
	parts.Register(recorder{&last.services})
	if parts.RegisterOperator != nil {
		parts.RegisterOperator(recorder{&last.opService})
	}
	if parts.Decider == nil {
		parts.Decider = authz.NewClient(asUnitConn{p.peers.conn(u.Name, accessBindings)})
	}
	return nil
}

// database returns the database of a unit with its schema at this version.
func (p *Process) database(ctx context.Context, u Unit) (*sqldb.DB, error) {
	db := p.opts.DB(u.Name)
	switch {
	case len(u.Migrations) == 0:
		return db, nil
	case p.opts.Migrate:
		return db, sqldb.Migrate(ctx, db, u.Migrations...)
	default:
		return db, sqldb.Verify(ctx, db, u.Migrations...)
	}
}

// place says where a unit is: here, or where the options say.
func (p *Process) place(unit string) (place, error) {
	if p.opts.here(unit) {
		return place{target: "passthrough:///" + p.innerListen.Addr().String(), creds: loopbackCreds()}, nil
	}
	addrs, ok := p.opts.Peers[unit]
	if !ok {
		return place{}, fmt.Errorf("unit %s is not in this process and has no address", unit)
	}
	return elsewhere(addrs, p.cas, p.opts.AllowPlaintext)
}

// Addr is the address of the gRPC port.
func (p *Process) Addr() string { return p.listen.Addr().String() }

// advertised is the address of the gRPC port that clients are told.
func (p *Process) advertised() string {
	if p.opts.Advertise != "" {
		return p.opts.Advertise
	}
	return reachable(p.listen.Addr())
}

// HTTPAddr is the address of the HTTP port, "" when there is none.
func (p *Process) HTTPAddr() string { return p.http.addr() }

// OpsAddr is the address of the ops port, "" when there is none.
func (p *Process) OpsAddr() string { return p.ops.addr() }

// Ready reports why the process cannot answer yet: every unit that cannot, and, from
// the start on, every unit elsewhere that was not reached. One that goes away later
// does not make this process unready: its calls say so, and the others go on.
func (p *Process) Ready(ctx context.Context) error {
	errs := p.meetPeers()
	for _, u := range p.units {
		if u.Ready == nil {
			continue
		}
		if err := u.Ready(ctx); err != nil {
			errs = append(errs, fmt.Errorf("unit %s: %w", u.Name, err))
		}
	}
	return errors.Join(errs...)
}

// meetPeers returns what keeps the process from the units elsewhere that its own
// cannot do without.
func (p *Process) meetPeers() []error {
	if p.met.Load() {
		return nil
	}
	var errs []error
	for _, u := range p.units {
		for _, need := range u.Needs {
			if p.opts.here(need) || p.opts.Peers[need] == "" {
				continue
			}
			errs = append(errs, p.meet(u.Name, need))
			if u.Routes != nil {
				errs = append(errs, p.meet(nobody, need))
			}
		}
	}
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	p.met.Store(len(errs) == 0)
	return errs
}

// meet returns why unit from cannot call unit to yet.
func (p *Process) meet(from, to string) error {
	met, err := p.peers.met(from, to)
	if err != nil || met {
		return err
	}
	return fmt.Errorf("unit %s at %s has not answered that it serves (if it refuses %s, its log says why)", to, p.opts.Peers[to], cmp.Or(from, "callers"))
}

// Close frees everything. After Run it has nothing left to do.
func (p *Process) Close() error {
	var err error
	p.closing.Do(func() { err = p.close() })
	return err
}

func (p *Process) close() error {
	for _, s := range []*grpc.Server{p.public, p.operator, p.inner} {
		if s != nil {
			s.Stop()
		}
	}
	for _, l := range []net.Listener{p.listen, p.innerListen, p.opListen} {
		if l != nil {
			_ = l.Close() // its server may have closed it
		}
	}
	p.http.close()
	p.ops.close()
	if p.peers != nil {
		p.peers.close()
	}
	if p.door != nil {
		_ = p.door.Close() // nothing to be done about it at the end
	}
	var errs []error
	for _, u := range slices.Backward(p.units) {
		if u.Parts != nil && u.Close != nil {
			if err := u.Close(); err != nil {
				errs = append(errs, fmt.Errorf("close unit %s: %w", u.Name, err))
			}
		}
	}
	if len(errs) > 0 {
		p.opts.Log.Error("units did not close", zap.Errors("errors", errs))
	}
	return errors.Join(errs...)
}

func cmpFunc(f, otherwise func() time.Time) func() time.Time {
	if f == nil {
		return otherwise
	}
	return f
}

// inputs returns the request messages of all methods.
func inputs(services map[string]grpc.ServiceInfo) ([]protoreflect.MessageDescriptor, error) {
	var out []protoreflect.MessageDescriptor
	for _, name := range slices.Sorted(maps.Keys(services)) {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(name))
		if err != nil {
			return nil, fmt.Errorf("service %s: %w", name, err)
		}
		sd, ok := d.(protoreflect.ServiceDescriptor)
		if !ok {
			return nil, fmt.Errorf("%s is not a service", name)
		}
		for i := range sd.Methods().Len() {
			out = append(out, sd.Methods().Get(i).Input())
		}
	}
	return out, nil
}
