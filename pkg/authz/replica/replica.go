package replica

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/facts"
	"github.com/bindery-iam/bindery/pkg/lease"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Config is what a replica needs.
type Config struct {
	// Conn leads to the unit accessbindings, directly or by the gateway; see authz.Dial. Its
	// calls carry the IAM token of a subject that holds
	// organization-manager.accessChanges.follow on the organization.
	Conn grpc.ClientConnInterface

	// Organization is the id of the one to decide in. Empty for all of them, which only
	// units of the installation may follow.
	Organization string

	// Log hears why the replica cannot answer. Nil for nowhere.
	Log *zap.Logger

	// Patience is for how long a question waits while the replica has no right to answer.
	// 0 means that it does not.
	Patience time.Duration
}

// Replica is a Decider (pkg/authz) that decides in this process. Its methods may be
// called from many goroutines.
type Replica struct {
	cfg    Config
	clock  lease.Clock
	tokens *authn.Verifier

	held  atomic.Pointer[right]
	graph atomic.Pointer[checker.Graph] // nil before the first snapshot
	at    atomic.Pointer[accessv1.Position]

	policies map[string]facts.Policy // of the catalogue of graph; of the goroutine that follows

	mu      sync.Mutex
	changed chan struct{} // closed when held or at changes
	last    error         // why the replica does not follow; nil while it does

	done chan struct{}
}

// right is a right to answer.
type right struct {
	until time.Duration // by the clock
	asked time.Duration // when it was asked for
	time  int64         // the store's time after that, in microseconds
}

// Start makes a replica that follows until ctx ends; then it answers no more. It does not
// wait: see Ready.
func Start(ctx context.Context, cfg Config) *Replica {
	return start(ctx, cfg, lease.Boot)
}

func start(ctx context.Context, cfg Config, clock lease.Clock) *Replica {
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	r := &Replica{cfg: cfg, clock: clock, changed: make(chan struct{}), done: make(chan struct{})}
	r.tokens = authn.NewVerifier(authn.KeysOver(cfg.Conn), r.now)
	go func() {
		defer close(r.done)
		r.run(ctx)
	}()
	return r
}

// Done is closed when the replica has ended, after the end of the context of Start, and
// has given its right back.
func (r *Replica) Done() <-chan struct{} { return r.done }

// Tokens verifies IAM tokens in this process. Whether a token is void the replica tells
// with each answer.
func (r *Replica) Tokens() *authn.Verifier { return r.tokens }

// Ready returns when the replica can answer. Fails with the error of ctx and why the
// replica could not follow so far.
func (r *Replica) Ready(ctx context.Context) error {
	return r.wait(ctx, func() bool { _, err := r.right(); return err == nil })
}

// AtLeast returns when the replica answers from a revision, as writes return it, or from a
// later one. Fails as Ready does.
func (r *Replica) AtLeast(ctx context.Context, revision int64) error {
	return r.wait(ctx, func() bool { return r.Revision() >= revision })
}

// Revision is the revision that the replica answers from; 0 before the first.
func (r *Replica) Revision() int64 { return r.at.Load().GetRevision() }

// Facts are the facts of the newest revision that the replica has, for questions that
// Decider has no method for; nil before the first. Whether the replica may answer now they
// do not say: ask Authenticate or Authorize after looking at them.
func (r *Replica) Facts() *checker.View {
	if g := r.graph.Load(); g != nil {
		return g.View()
	}
	return nil
}

func (r *Replica) wait(ctx context.Context, until func() bool) error {
	for {
		r.mu.Lock()
		changed, last := r.changed, r.last
		r.mu.Unlock()
		if until() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), last)
		}
	}
}

// tell wakes who waits.
func (r *Replica) tell(last error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = last
	close(r.changed)
	r.changed = make(chan struct{})
}

// right returns the store's time, or that the replica must not answer. It reads the clock,
// and the facts are looked at after it.
func (r *Replica) right() (now int64, err error) {
	h := r.held.Load()
	if h == nil {
		return 0, errNoRight
	}
	clock := r.clock()
	if clock >= h.until {
		return 0, errNoRight
	}
	return h.time + (clock - h.asked).Microseconds(), nil
}

// now is the time by which tokens are judged: the store's, as far as it is known.
func (r *Replica) now() time.Time {
	h := r.held.Load()
	if h == nil {
		return time.Now()
	}
	return time.UnixMicro(h.time + (r.clock() - h.asked).Microseconds())
}

// extend notes a right that was granted. It is never cut short by it.
func (r *Replica) extend(asked, duration time.Duration, now int64) {
	next := &right{until: asked + duration, asked: asked, time: now}
	if old := r.held.Load(); old != nil {
		next.until = max(next.until, old.until)
	}
	r.held.Store(next)
	r.tell(nil)
}

// drop gives the right up.
func (r *Replica) drop() { r.held.Store(nil) }
