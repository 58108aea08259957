package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/tracing"
)

// storeFlags say where the data is.
type storeFlags struct {
	DataDir     string `default:"./bindery-data" placeholder:"DIR" help:"Directory of the SQLite file, the TLS files and the operator socket (${default})."`
	DatabaseURL string `placeholder:"URL" env:"DATABASE_URL" help:"postgres:// URL of the database; SQLite in the data directory when empty."`
}

// stores are the databases of the units that have tables: a schema of its own for
// each on PostgreSQL, one SQLite file for all.
type stores struct {
	byUnit map[string]*sqldb.DB
}

func (f storeFlags) open(ctx context.Context, units []server.Unit) (*stores, error) {
	if err := os.MkdirAll(f.DataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	s := &stores{byUnit: make(map[string]*sqldb.DB, len(units))}
	var shared *sqldb.DB
	for _, u := range units {
		if len(u.Migrations) == 0 { // it has no tables
			continue
		}
		if f.DatabaseURL == "" && shared != nil {
			s.byUnit[u.Name] = shared
			continue
		}
		conf := sqldb.Config{URL: f.DatabaseURL, Schema: u.Name, Abandon: abandonAfter}
		if f.DatabaseURL == "" {
			conf = sqldb.Config{URL: filepath.Join(f.DataDir, "bindery.db")}
		}
		db, err := sqldb.Open(ctx, conf)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("unit %s: %w", u.Name, err), s.close())
		}
		s.byUnit[u.Name] = db
		if f.DatabaseURL == "" {
			shared = db
		}
	}
	return s, nil
}

// abandonAfter is when a transaction of a process that is silent ends, and others may go on:
// as soon as they can know that a replica of the checker is dead.
var abandonAfter = lease.Default.Duration + lease.Default.Margin

// db returns the database of a unit, nil for a unit without tables.
func (s *stores) db(unit string) *sqldb.DB { return s.byUnit[unit] }

// safe refuses databases by which different names are equal, and warns of those
// that may lose what they acknowledged.
func (s *stores) safe(ctx context.Context, log *zap.Logger) error {
	var warned []string
	for _, unit := range slices.Sorted(maps.Keys(s.byUnit)) {
		faults, err := sqldb.Unequal(ctx, s.byUnit[unit], unit)
		if err != nil {
			return fmt.Errorf("unit %s: %w", unit, err)
		}
		if len(faults) > 0 {
			return fmt.Errorf("the database of the unit %s must not be used: %s", unit, strings.Join(faults, "; "))
		}
		warnings, err := sqldb.Unsafe(ctx, s.byUnit[unit])
		if err != nil {
			return fmt.Errorf("unit %s: %w", unit, err)
		}
		for _, w := range warnings {
			if !slices.Contains(warned, w) { // most units share one server
				warned = append(warned, w)
				log.Warn("the database is not safe", zap.String("unit", unit), zap.String("what", w))
			}
		}
	}
	return nil
}

func (s *stores) close() error {
	var errs []error
	closed := make(map[*sqldb.DB]bool, len(s.byUnit))
	for _, db := range s.byUnit {
		if !closed[db] {
			closed[db] = true
			errs = append(errs, db.Close())
		}
	}
	return errors.Join(errs...)
}

type serveCommand struct {
	Units []string `arg:"" name:"unit" help:"all, or names of units: accessbindings, identity, resourcemanager, notifications, partner, marketplacerequests, gateway."`
	storeFlags
	Listen    string `default:"127.0.0.1:8443" placeholder:"HOST:PORT" help:"Address of gRPC, TLS and plaintext on one port (${default})."`
	HTTP      string `name:"http" default:"127.0.0.1:8080" placeholder:"HOST:PORT" help:"Address of REST (${default})."`
	Ops       string `default:"127.0.0.1:9090" placeholder:"HOST:PORT" help:"Address of metrics and health (${default})."`
	Advertise string `placeholder:"HOST:PORT" help:"Address of gRPC that clients are told; the one listened on when empty."`
	TLSCert   string `name:"tls-cert" placeholder:"FILE" help:"Certificate chain, PEM; made for localhost in the data directory when empty."`
	TLSKey    string `name:"tls-key" placeholder:"FILE" help:"Key of the certificate, PEM."`
	splitFlags
	sealFlags
	notifyFlags
	issuerFlags
	signInFlags
	historyFlags
	Pprof          bool          `help:"Serve profiles of the process at /debug/pprof on the address of metrics."`
	OTLPEndpoint   string        `name:"otlp-endpoint" env:"BINDERY_OTLP_ENDPOINT,OTEL_EXPORTER_OTLP_ENDPOINT" placeholder:"URL" help:"Collector that OpenTelemetry traces are sent to by gRPC, such as http://localhost:4317; none when empty."`
	MaxCalls       int           `default:"0" placeholder:"N" help:"Calls under way at once before more are refused; checks only beyond four times as many; 0 means 64 for each processor, and 128 at least (${default})."`
	AuditRetention time.Duration `default:"0" placeholder:"DURATION" help:"How long audit records are kept, such as 8760h; 0 means for ever (${default})."`
	LogLevel       string        `default:"info" enum:"debug,info,warn,error" help:"Least level that is logged, to standard error (${default})."`
	Demo           bool          `help:"Make a demo world, unless it is there, and print what to try."`
}

// gcPercent lets the heap grow to five times of what is in use before it is collected:
// the graph is small, and a quarter of the work of a check was collecting garbage at
// Go's own 100. GOGC and GOMEMLIMIT say otherwise.
const gcPercent = 400

// Run serves until ctx ends. Ready is a line on out.
func (c serveCommand) Run(ctx context.Context, out io.Writer) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	var dbs *stores
	opts, err := c.options(func(unit string) *sqldb.DB { return dbs.db(unit) })
	if err != nil {
		return err
	}
	if dbs, err = c.open(ctx, opts.Units); err != nil {
		return err
	}
	if err := dbs.safe(ctx, opts.Log); err != nil {
		return errors.Join(err, dbs.close())
	}
	traces, err := c.trace(ctx, &opts)
	if err != nil {
		return errors.Join(err, dbs.close())
	}
	process, err := server.New(ctx, opts)
	if err != nil {
		return errors.Join(err, dbs.close())
	}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return process.Run(ctx) })
	group.Go(func() error { return c.announce(running, process, out) })
	err = errors.Join(group.Wait(), dbs.close())
	if terr := traces.Close(); terr != nil {
		opts.Log.Warn("the last spans were not sent", zap.Error(terr))
	}
	return err
}

// trace begins to send spans where an endpoint is given.
func (c serveCommand) trace(ctx context.Context, opts *server.Options) (*tracing.Provider, error) {
	if c.OTLPEndpoint == "" {
		return nil, nil
	}
	service := "bindery"
	if len(opts.Units) == 1 {
		service += "-" + opts.Units[0].Name
	}
	traces, err := tracing.Start(ctx, tracing.Config{Endpoint: c.OTLPEndpoint, Service: service, Version: version, Log: opts.Log})
	if err == nil {
		opts.Traces = traces
	}
	return traces, err
}

// options are those of the process, found to be good before anything is touched.
func (c serveCommand) options(db func(unit string) *sqldb.DB) (server.Options, error) {
	chosen, err := choose(c.Units)
	if err != nil {
		return server.Options{}, err
	}
	if err := c.historyFlags.set(chosen); err != nil {
		return server.Options{}, err
	}
	if err := c.notifyFlags.set(chosen); err != nil {
		return server.Options{}, err
	}
	if err := setIdentity(chosen, c.issuerFlags, c.signInFlags); err != nil {
		return server.Options{}, err
	}
	cat, err := catalog.Load()
	if err != nil {
		return server.Options{}, fmt.Errorf("role catalogue: %w", err)
	}
	logger, err := log.New(c.LogLevel)
	if err != nil {
		return server.Options{}, err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	opts := server.Options{
		Units: chosen, Catalog: cat, Log: logger, Metrics: metrics,
		DB: db, Migrate: len(chosen) == len(units()),
		DataDir: c.DataDir, Listen: c.Listen, HTTP: c.HTTP, Ops: c.Ops, Pprof: c.Pprof, Version: version, Advertise: c.Advertise,
		MaxCalls: c.MaxCalls, AuditRetention: c.AuditRetention, TLS: server.CertFiles{Cert: c.TLSCert, Key: c.TLSKey},
	}
	err = c.splitFlags.set(&opts)
	if err == nil {
		opts.Sealer, err = c.sealer(c.storeFlags, chosen)
	}
	return opts, errors.Join(err, opts.Validate())
}

// announce says on out that the process is ready, and shows the demo world.
func (c serveCommand) announce(ctx context.Context, process *server.Process, out io.Writer) error {
	if err := process.WaitReady(ctx); err != nil {
		return nil //nolint:nilerr // the process ended before it was ready, and says why itself
	}
	if _, err := fmt.Fprintf(out, "bindery ready grpc=%s http=%s ops=%s\n", process.Addr(), process.HTTPAddr(), process.OpsAddr()); err != nil {
		return err
	}
	if !c.Demo {
		return nil
	}
	if err := showDemo(ctx, out, c.DataDir, process.Addr(), process.HTTPAddr()); err != nil {
		return fmt.Errorf("demo world: %w", err)
	}
	return nil
}

// choose returns the named units.
func choose(names []string) ([]server.Unit, error) {
	all := units()
	if slices.Equal(names, []string{"all"}) {
		return all, nil
	}
	var chosen []server.Unit
	for _, name := range names {
		i := slices.IndexFunc(all, func(u server.Unit) bool { return u.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no unit %q: name all, or some of %s", name, strings.Join(unitNames(all), ", "))
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

func unitNames(units []server.Unit) []string {
	names := make([]string, len(units))
	for i, u := range units {
		names[i] = u.Name
	}
	return names
}

type migrateCommand struct {
	Units []string `arg:"" optional:"" name:"unit" help:"Names of units; all when empty."`
	storeFlags
}

// Run migrates the units, each by what the URL's role may do.
func (c migrateCommand) Run(ctx context.Context, out io.Writer) error {
	if len(c.Units) == 0 {
		c.Units = []string{"all"}
	}
	chosen, err := choose(c.Units)
	if err != nil {
		return err
	}
	dbs, err := c.open(ctx, chosen)
	if err != nil {
		return err
	}
	defer func() { _ = dbs.close() }() // what was committed stays
	for _, u := range chosen {
		if len(u.Migrations) == 0 {
			continue
		}
		if err := sqldb.Migrate(ctx, dbs.db(u.Name), u.Migrations...); err != nil {
			return fmt.Errorf("unit %s: %w", u.Name, err)
		}
		if _, err := fmt.Fprintf(out, "%s: up to date\n", u.Name); err != nil {
			return err
		}
	}
	return nil
}
