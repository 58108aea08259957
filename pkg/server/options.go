package server

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Options are what a process is made of.
type Options struct {
	Units   []Unit
	Catalog authz.Catalog
	Log     *zap.Logger
	Metrics *prometheus.Registry
	Now     func() time.Time // nil means time.Now, and the clock of a database where that is what counts

	// DB returns the database of a unit that has migrations. The process does not
	// close it.
	DB func(unit string) *sqldb.DB
	// Migrate brings the schemas to this version at start; otherwise an old one is
	// refused.
	Migrate bool

	DataDir string // TLS files, operator socket, files of the units
	Listen  string // host:port of gRPC, TLS and h2c
	HTTP    string // host:port of Parts.HTTP; empty means none
	Ops     string // host:port of /metrics, /healthz and /readyz; empty means none
	Pprof   bool   // /debug/pprof on the port Ops
	Version string // of the program, for the metrics

	// Traces makes spans of calls and of REST; nil means none. Quiet methods
	// (Parts.Quiet) have spans only in a trace that their caller keeps.
	Traces trace.TracerProvider
	TLS    CertFiles

	// Advertise is the host:port of gRPC that clients are told; empty means what
	// Listen became.
	Advertise string

	// AllowPlaintext accepts h2c and plain HTTP from other machines.
	AllowPlaintext bool

	// Peers are where units run that are elsewhere, by name: host:port, or several of
	// them with commas between, which are replicas and take turns, as do the
	// addresses of a name that has several. They are dialed by TLS; in plaintext
	// when TLS.CA is not given and all are on loopback or AllowPlaintext is set.
	Peers map[string]string
	// UnitKey signs for the units of this process; nil means a new one, which only
	// this process trusts, and is refused beside Peers.
	UnitKey ed25519.PrivateKey
	// TrustedUnits are the public keys of units that run elsewhere, by name.
	TrustedUnits map[string]ed25519.PublicKey

	// Sealer seals the secrets of units (Unit.Seals); nil when none of them does.
	Sealer *secret.Sealer

	// Keys reads the keys that sign IAM tokens; nil means the SigningKeyService of
	// the unit identity.
	Keys authn.KeySource

	// MaxCalls bounds the calls under way at once over the public port; those on top
	// are refused (OVERLOADED), checks only beyond four times as many. 0 means 64 for
	// each processor, and 128 at least.
	MaxCalls int

	// AuditRetention is how long audit records are kept; 0 means for ever.
	AuditRetention time.Duration

	// DrainFor bounds how long calls under way may take after the end was asked
	// for; 0 means 10 seconds.
	DrainFor time.Duration
}

// Validate reports everything that is wrong with the options. New does so too.
func (o *Options) Validate() error {
	var errs []error
	missing := func(what string, is bool) {
		if is {
			errs = append(errs, fmt.Errorf("options: no %s", what))
		}
	}
	missing("units", len(o.Units) == 0)
	missing("catalogue", o.Catalog == nil)
	missing("logger", o.Log == nil)
	missing("metrics", o.Metrics == nil)
	missing("database", o.DB == nil)
	missing("data directory", o.DataDir == "")
	missing("address to listen on", o.Listen == "")
	if o.MaxCalls < 0 {
		errs = append(errs, fmt.Errorf("options: at most %d calls at once", o.MaxCalls))
	}
	if o.AuditRetention < 0 {
		errs = append(errs, fmt.Errorf("options: audit records kept for %s", o.AuditRetention))
	}
	seen := make(map[string]bool)
	for _, u := range o.Units {
		switch {
		case u.Name == "" || strings.ContainsAny(u.Name, ". /") || u.Name == authn.Operator || u.Name == authz.AllUnits:
			errs = append(errs, fmt.Errorf("options: %q cannot name a unit", u.Name))
		case seen[u.Name]:
			errs = append(errs, fmt.Errorf("options: unit %s twice", u.Name))
		case u.Build == nil:
			errs = append(errs, fmt.Errorf("options: unit %s cannot be built", u.Name))
		case u.Seals && o.Sealer == nil:
			errs = append(errs, fmt.Errorf("options: unit %s seals secrets: give it the seal key (--seal-key FILE)", u.Name))
		}
		seen[u.Name] = true
	}
	for _, addr := range []string{o.Listen, o.HTTP, o.Ops, o.Advertise} {
		if _, _, err := net.SplitHostPort(addr); err != nil && addr != "" {
			errs = append(errs, fmt.Errorf("options: address: %w", err))
		}
	}
	return errors.Join(append(errs, o.validatePeers())...)
}

// validatePeers reports what is wrong with the units that run elsewhere.
func (o *Options) validatePeers() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(o.Peers)) {
		if o.here(name) {
			errs = append(errs, fmt.Errorf("options: unit %s is served here and has the address of a peer", name))
		}
		for addr := range strings.SplitSeq(o.Peers[name], ",") {
			if host, _, err := net.SplitHostPort(addr); err != nil || host == "" {
				errs = append(errs, fmt.Errorf("options: the address of unit %s, %q, is not HOST:PORT", name, addr))
			}
		}
	}
	if len(o.Peers) > 0 && o.UnitKey == nil {
		errs = append(errs, errors.New("options: units elsewhere do not trust a key made at start: give the unit key (--unit-key)"))
	}
	for _, u := range o.Units {
		for _, need := range u.Needs {
			if need == identity && o.Keys != nil || o.here(need) || o.Peers[need] != "" {
				continue
			}
			errs = append(errs, fmt.Errorf("options: unit %s cannot be served without unit %s: serve it in the same process, or say where it runs (--peer %s=HOST:PORT)", u.Name, need, need))
		}
	}
	return errors.Join(errs...)
}

// here reports whether a unit is one of this process.
func (o *Options) here(unit string) bool {
	return slices.ContainsFunc(o.Units, func(u Unit) bool { return u.Name == unit })
}
