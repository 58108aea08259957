// Package servertest runs units in a test: the production process with its chain,
// on loopback ports, over a database of the test, called by a real client.
package servertest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Options say what to run. Units, DB and Catalog are required.
type Options struct {
	Units   []server.Unit
	DB      *sqldb.DB // all units share it; their tables do not collide
	Catalog authz.Catalog

	DataDir string                // "" means a new directory
	Now     func() time.Time      // nil means time.Now
	Log     *zap.Logger           // nil means the log of the test, from warnings on
	Change  func(*server.Options) // may change the rest before the start
}

// World is a running process and what tests need around it.
type World struct {
	*server.Process
	// Conn is a plaintext connection as nobody; see Context and Subject.
	Conn *grpc.ClientConn
	// Issuer makes tokens that the process accepts. Without the unit identity it
	// is the only one; with it, tokens come from that unit and Issuer is nil.
	Issuer  *authn.Issuer
	DataDir string
	Metrics *prometheus.Registry

	t    testing.TB
	now  func() time.Time
	key  ed25519.PrivateKey // of units that Unit plays
	stop func()

	remote Remote // instead of a process of the test
}

// played are the units that tests may play by Unit.
var played = []string{"metering", "accessbindings", "identity", "resourcemanager", "partner", "marketplacerequests", "notifications", "gateway", "test"}

// Start runs the units until the test ends and returns when they are ready.
func Start(t testing.TB, opts Options) *World {
	t.Helper()
	w := &World{t: t, DataDir: opts.DataDir, Metrics: prometheus.NewRegistry()}
	if w.DataDir == "" {
		w.DataDir = t.TempDir()
	}
	if opts.Log == nil {
		opts.Log = zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel))
	}
	public, key := newKey(t)
	w.key, w.now = key, opts.Now
	if w.now == nil {
		w.now = time.Now
	}
	o := server.Options{
		Units: opts.Units, Catalog: opts.Catalog, Log: opts.Log, Metrics: w.Metrics, Now: opts.Now,
		DB: func(string) *sqldb.DB { return opts.DB }, Migrate: true,
		DataDir: w.DataDir, Listen: "127.0.0.1:0", HTTP: "127.0.0.1:0", Ops: "127.0.0.1:0",
		TrustedUnits: make(map[string]ed25519.PublicKey), DrainFor: 5 * time.Second, UnitKey: key,
	}
	for _, name := range played {
		o.TrustedUnits[name] = public
	}
	var err error
	if o.Sealer, err = secret.EnsureSealer(w.DataDir); err != nil {
		t.Fatal(err)
	}
	if !w.hasIdentity(opts.Units) {
		w.issue(&o, w.now)
	}
	if opts.Change != nil {
		opts.Change(&o)
	}
	w.run(o)
	return w
}

// Series are the migrations of units that share a database, for sqldbtest: a database that
// has them costs a start less than one that has yet to be migrated.
func Series(units ...server.Unit) (all []sqldb.Migrations) {
	for _, u := range units {
		all = append(all, u.Migrations...)
	}
	return all
}

func (w *World) hasIdentity(units []server.Unit) bool {
	for _, u := range units {
		if u.Name == "identity" {
			return true
		}
	}
	return false
}

// issue makes the test the issuer of tokens.
func (w *World) issue(o *server.Options, now func() time.Time) {
	public, key := newKey(w.t)
	w.Issuer = &authn.Issuer{
		Key:   func() authn.SigningKey { return authn.SigningKey{ID: "servertest", Private: key} },
		Epoch: func() int64 { return 1 },
		Now:   now,
	}
	o.Keys = authn.KeySourceFunc(func(context.Context) ([]authn.Key, error) {
		return []authn.Key{{ID: "servertest", Public: public, Epoch: 1}}, nil
	})
}

func (w *World) run(o server.Options) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p, err := server.New(ctx, o)
	if err != nil {
		cancel()
		w.t.Fatalf("start: %v", err)
	}
	w.Process = p
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
	}
	w.t.Cleanup(w.stop)
	w.Conn = w.Dial(grpc.WithTransportCredentials(insecure.NewCredentials()))
	ready, cancelReady := context.WithTimeout(ctx, 20*time.Second)
	defer cancelReady()
	if err := p.WaitReady(ready); err != nil {
		w.t.Fatalf("not ready: %v", err)
	}
}

// Stop ends the process before the test ends, e.g. to start another one over the
// same database.
func (w *World) Stop() {
	w.t.Helper()
	_ = w.Conn.Close() // so that draining does not wait for it
	w.stop()
}

// Dial connects to the gRPC port until the test ends.
func (w *World) Dial(opts ...grpc.DialOption) *grpc.ClientConn {
	w.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+w.Addr(), append(append(opts, w.remote.Dial...), grpc.WithNoProxy())...)
	if err != nil {
		w.t.Fatalf("dial: %v", err)
	}
	w.t.Cleanup(func() { _ = conn.Close() }) // the test is over
	return conn
}

// Unit connects as a unit of the suite to another one.
func (w *World) Unit(name, audience string) *grpc.ClientConn {
	w.t.Helper()
	return w.Dial(grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithPerRPCCredentials(authn.NewUnitSigner(name, audience, w.key, w.now)))
}

// Subject returns a context whose calls are made as a subject, with a new token.
func (w *World) Subject(subjectType, id string) context.Context {
	w.t.Helper()
	if w.Issuer == nil {
		w.t.Fatal("the unit identity issues the tokens: use Context")
	}
	token, err := w.Issuer.Issue(subjectType, id, time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.Context(token.Text)
}

// User is Subject for a user account.
func (w *World) User(id string) context.Context {
	w.t.Helper()
	return w.Subject(authn.UserAccount, id)
}

// Context returns a context whose calls carry an IAM token.
func (w *World) Context(token string) context.Context {
	return metadata.AppendToOutgoingContext(w.t.Context(), "authorization", "Bearer "+token)
}

func newKey(t testing.TB) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public, key
}
