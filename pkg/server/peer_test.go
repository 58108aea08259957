package server_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// two is an installation of two processes: the owner runs the unit fake, the other
// one the same under the name caller, or a unit at the edge.
type two struct {
	t       testing.TB
	address string // of the owner
	key     ed25519.PrivateKey
	keys    authn.KeySource // of both
	issuer  *authn.Issuer
}

func newTwo(t *testing.T) *two {
	t.Helper()
	_, unit, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	public, signing, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &two{
		t: t, address: servertest.FreeAddress(t), key: unit,
		keys: authn.KeySourceFunc(func(context.Context) ([]authn.Key, error) {
			return []authn.Key{{ID: "two", Public: public, Epoch: 1}}, nil
		}),
		issuer: &authn.Issuer{
			Key:   func() authn.SigningKey { return authn.SigningKey{ID: "two", Private: signing} },
			Epoch: func() int64 { return 1 }, Now: time.Now,
		},
	}
}

// owner starts the process of the unit fake, which trusts both others.
func (w *two) owner() *world {
	w.t.Helper()
	f := newFake()
	return &world{fake: f, World: servertest.Start(w.t, servertest.Options{
		Units: []server.Unit{f.unit()}, Catalog: catalog{}, DB: sqldbtest.Open(w.t, sqldb.SQLite, "fake", nil), Log: zap.NewNop(),
		Change: func(o *server.Options) {
			o.Listen, o.Keys = w.address, w.keys
			public := w.key.Public().(ed25519.PublicKey)
			o.TrustedUnits = map[string]ed25519.PublicKey{"caller": public, "edge": public}
		},
	})}
}

// other starts the other process. It does not wait until that is ready.
func (w *two) other(u server.Unit, change func(*server.Options)) *server.Process {
	w.t.Helper()
	o := server.Options{
		Units: []server.Unit{u}, Catalog: catalog{}, Log: zap.NewNop(), Metrics: prometheus.NewRegistry(),
		DB: func(string) *sqldb.DB { return nil }, DataDir: w.t.TempDir(), Listen: "127.0.0.1:0",
		Keys: w.keys, Peers: map[string]string{"fake": w.address}, UnitKey: w.key, DrainFor: 5 * time.Second,
	}
	if change != nil {
		change(&o)
	}
	ctx, stop := context.WithCancel(context.Background())
	p, err := server.New(ctx, o)
	if err != nil {
		stop()
		w.t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	w.t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			w.t.Errorf("run: %v", err)
		}
	})
	return p
}

// caller is the unit that calls the unit fake.
func (w *two) caller() server.Unit {
	u := newFake().unit()
	u.Name, u.Needs = "caller", []string{"fake"}
	return u
}

// user returns a context of the subject "good" and a connection to a process.
func (w *two) user(p *server.Process) (context.Context, *grpc.ClientConn) {
	w.t.Helper()
	conn, err := grpc.NewClient("passthrough:///"+p.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close() })
	token, err := w.issuer.Issue(authn.UserAccount, "good", time.Hour)
	if err != nil {
		w.t.Fatal(err)
	}
	return with(w.t.Context(), "authorization", "Bearer "+token.Text), conn
}

// viaPeer makes the unit of a process call the unit fake.
func (w *two) viaPeer(p *server.Process) error {
	ctx, conn := w.user(p)
	_, err := iamv1.NewUserAccountServiceClient(conn).Get(ctx, &iamv1.GetUserAccountRequest{UserAccountId: "peer"})
	return err
}

func TestPeerElsewhere(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(w *two, owner *world, o *server.Options)
		code   codes.Code
		reason string
	}{
		{"plaintext on loopback", func(*two, *world, *server.Options) {}, codes.OK, ""},
		{"TLS", func(_ *two, owner *world, o *server.Options) { o.TLS.CA = server.CAPath(owner.DataDir) }, codes.OK, ""},
		{"TLS by name", func(w *two, owner *world, o *server.Options) {
			o.TLS.CA = server.CAPath(owner.DataDir)
			o.Peers["fake"] = strings.Replace(w.address, "127.0.0.1", "localhost", 1)
		}, codes.OK, ""},
		{"TLS under another authority", func(_ *two, _ *world, o *server.Options) {
			other := newTwo(t).owner()
			o.TLS.CA = server.CAPath(other.DataDir)
		}, codes.Unavailable, apierr.ReasonUnavailable},
		{"a key that nobody trusts", func(w *two, _ *world, o *server.Options) { o.UnitKey = newTwo(t).key }, codes.Unavailable, apierr.ReasonUnavailable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newTwo(t)
			owner := w.owner()
			p := w.other(w.caller(), func(o *server.Options) { tt.change(w, owner, o) })
			begun := time.Now()
			wantCode(t, w.viaPeer(p), tt.code, tt.reason)
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("answered after %v", took)
			}
			if tt.code != codes.OK {
				if p.Ready(t.Context()) == nil {
					t.Error("ready with a peer that refuses it")
				}
				if s := owner.seen.Load(); s != nil {
					t.Errorf("the owner has seen %+v", s.principal)
				}
				return
			}
			if got := owner.seen.Load(); got == nil || got.principal.Unit != "caller" || got.principal.ID != "good" {
				t.Errorf("the owner saw %+v, want the unit and its caller", got)
			}
		})
	}
}

// An internal method admits a unit by a statement that it made for the unit called.
func TestUnitStatementsAreForOneAudience(t *testing.T) {
	w := newTwo(t)
	owner := w.owner()
	for _, tt := range []struct {
		name, unit, audience string
		key                  ed25519.PrivateKey
		code                 codes.Code
		reason               string
	}{
		{"trusted", "caller", "fake", w.key, codes.OK, ""},
		{"made for another unit", "caller", "identity", w.key, codes.Unauthenticated, apierr.ReasonUnitInvalid},
		{"name of another unit", "identity", "fake", w.key, codes.Unauthenticated, apierr.ReasonUnitInvalid},
		{"another key", "caller", "fake", newTwo(t).key, codes.Unauthenticated, apierr.ReasonUnitInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			conn := owner.Dial(grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithPerRPCCredentials(authn.NewUnitSigner(tt.unit, tt.audience, tt.key, time.Now)))
			_, err := brmv1.NewPlaceServiceClient(conn).GetPlace(t.Context(), &brmv1.GetPlaceRequest{FolderId: "any"})
			wantCode(t, err, tt.code, tt.reason)
		})
	}
}

// The order of starting does not matter, and who went away is found again.
func TestPeerComesAndGoes(t *testing.T) {
	w := newTwo(t)
	p := w.other(w.caller(), nil)
	time.Sleep(200 * time.Millisecond) // it has tried
	if err := p.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), "unit fake at "+w.address+" has not answered") {
		t.Fatalf("ready without the unit that it needs: %v", err)
	}
	wantCode(t, w.viaPeer(p), codes.Unavailable, apierr.ReasonUnavailable)

	owner := w.owner()
	eventually(t, "ready", func() bool { return p.Ready(t.Context()) == nil })
	if err := w.viaPeer(p); err != nil {
		t.Errorf("the unit is there: %v", err)
	}
	owner.ready.Store(false)
	eventually(t, "left out while it is not ready", func() bool { return status.Code(w.viaPeer(p)) == codes.Unavailable })
	owner.ready.Store(true)
	eventually(t, "taken back", func() bool { return w.viaPeer(p) == nil })

	begun := time.Now()
	owner.Stop()
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("the owner took %v to end: its peers held it", took)
	}
	begun = time.Now()
	wantCode(t, w.viaPeer(p), codes.Unavailable, apierr.ReasonUnavailable)
	if took := time.Since(begun); took > 3*time.Second {
		t.Errorf("refused after %v", took)
	}
	if err := p.Ready(t.Context()); err != nil {
		t.Errorf("not ready for want of a peer that it has known: %v", err)
	}
	w.owner()
	eventually(t, "found again", func() bool { return w.viaPeer(p) == nil })
}

// A peer that answers nothing is away, not a reason to wait for ever.
func TestPeerThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close() // it accepts connections and says nothing
	w := newTwo(t)
	w.address = l.Addr().String()
	p := w.other(w.caller(), nil)
	begun := time.Now()
	wantCode(t, w.viaPeer(p), codes.Unavailable, apierr.ReasonUnavailable)
	if took := time.Since(begun); took > 16*time.Second {
		t.Errorf("refused after %v", took)
	}
}

func TestPeersThatCannotBe(t *testing.T) {
	key := newTwo(t).key
	unit := func(needs ...string) server.Unit {
		u := unitOf("a", server.Parts{Register: nothing, Decider: decider{}})
		u.Needs = needs
		return u
	}
	for _, tt := range []struct {
		name   string
		change func(*server.Options)
		want   string
	}{
		{"needed and nowhere", func(*server.Options) {}, "unit a cannot be served without unit b: serve it in the same process, or say where it runs (--peer b=HOST:PORT)"},
		{"here and elsewhere", func(o *server.Options) { o.Peers["a"] = "h:1" }, "unit a is served here and has the address of a peer"},
		{"no port", func(o *server.Options) { o.Peers["b"] = "h" }, `the address of unit b, "h", is not HOST:PORT`},
		{"no host", func(o *server.Options) { o.Peers["b"] = ":1" }, `the address of unit b, ":1", is not HOST:PORT`},
		{"no key", func(o *server.Options) { o.Peers["b"], o.UnitKey = "h:1", nil }, "--unit-key"},
		{"no authorities", func(o *server.Options) { o.Peers["b"], o.TLS.CA = "h:1", filepath.Join(t.TempDir(), "none") }, "authorities of peers: open"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, err := server.New(t.Context(), options(t, func(o *server.Options) {
				o.Peers, o.UnitKey = map[string]string{}, key
				tt.change(o)
			}, unit("b")))
			if err == nil {
				_ = p.Close()
				t.Fatal("started")
			}
			if !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v does not say %q", err, tt.want)
			}
		})
	}
}

// Replicas of a unit take turns; one that is away is left out.
func TestPeerReplicas(t *testing.T) {
	w := newTwo(t)
	first, one := w.owner(), w.address
	w.address = servertest.FreeAddress(t)
	second, two := w.owner(), w.address
	p := w.other(w.caller(), func(o *server.Options) {
		o.Peers["fake"] = one + "," + servertest.FreeAddress(t) + "," + two
	})
	if err := p.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); first.seen.Load() == nil || second.seen.Load() == nil; {
		wantCode(t, w.viaPeer(p), codes.OK, "")
		if time.Now().After(deadline) {
			t.Fatalf("the first was asked: %t, the second: %t", first.seen.Load() != nil, second.seen.Load() != nil)
		}
	}
}

// The certificate of each replica is checked for the host by which it is named.
func TestPeerReplicasByTLS(t *testing.T) {
	w := newTwo(t)
	owner := w.owner()
	p := w.other(w.caller(), func(o *server.Options) {
		o.TLS.CA = server.CAPath(owner.DataDir)
		o.Peers["fake"] = strings.Replace(w.address, "127.0.0.1", "localhost", 1) + "," + w.address
	})
	wantCode(t, w.viaPeer(p), codes.OK, "")
}
