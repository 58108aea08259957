package accessbindings

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// Channels on which replicas wake each other.
const (
	changesChannel = "bindery_access_changes" // "<replica> <revisions>": they were committed (announce), or ""
	appliedChannel = "bindery_access_applied" // "<replica> <revision>"
)

// How often what notifications tell is looked for without one.
const (
	followEvery = 250 * time.Millisecond // the log, by every replica
	lookEvery   = 50 * time.Millisecond  // the rows of others, by who waits for them
	rejoinPause = 100 * time.Millisecond
	reloadPause = time.Second // a program that is too old for its store tries in vain
)

// replicas makes this process one of those that answer from the same store, and knows
// the others. Its rules, and why no replica answers from before an acknowledged
// change:
//
//   - A replica answers only while it holds a lease (graph.fault asks), by the rules
//     of pkg/lease.
//   - It joins by a row that is committed under the lock of the head, and answers
//     after it has applied the head as it was then. A write that was committed before
//     is in that head; one that comes after finds the row.
//   - A write reads the rows under the lock of the head, and is acknowledged when each
//     of those replicas has applied it or has lost its row (enforced).
//   - A row is taken away by its owner, which has stopped answering; by who restarts in
//     its place and knows it dead (predecessor); or by a writer, when its lease has run
//     out on the writer's own clock.
//
// The store must be shared: on SQLite there is nobody else, and none of this runs.
type replicas struct {
	db    *sqldb.DB
	store *store
	graph *graph
	terms lease.Terms
	now   func() time.Time
	at    *storeTime // to be set; nil in tests that give the time
	log   *zap.Logger
	mark  *predecessor

	catchUp func(ctx context.Context) error     // applies what the log has
	told    func(of line, entries []entry) bool // applies what was told of it
	reload  func(ctx context.Context) error     // after the graph failed

	looking chan struct{} // holds one while somebody looks: one look after another, so that the later one wins
	watch   lease.Watch

	mu      sync.Mutex
	self    string // id of the row of this process; "" before it has joined
	others  map[string]int64
	changed chan struct{} // closed when others changes

	wakeFollow, wakeReport chan struct{}

	waited prometheus.Histogram
}

func newReplicas(c *committer, terms lease.Terms, mark *predecessor) *replicas {
	r := &replicas{
		db: c.db, store: c.store, graph: c.graph, terms: terms, now: c.now, at: c.at, log: c.log, mark: mark, catchUp: c.follow, told: c.told, reload: c.reload,
		looking: make(chan struct{}, 1), watch: lease.Watch{Terms: terms, Clock: c.graph.lease.Clock},
		changed: make(chan struct{}), waited: newEnforceDuration(), wakeFollow: make(chan struct{}, 1), wakeReport: make(chan struct{}, 1),
	}
	c.graph.applied = func() { wake(r.wakeReport) }
	return r
}

// metrics are how many replicas there are, how long this one may answer without a
// renewal, and how long acknowledgements wait.
func (r *replicas) metrics() []prometheus.Collector {
	count := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bindery_replicas", Help: "Processes that answer checks from this store, as this one last saw.",
	}, func() float64 {
		r.mu.Lock()
		defer r.mu.Unlock()
		return float64(len(r.others))
	})
	left := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bindery_lease_seconds", Help: "How long this process may answer checks without renewing its lease; 0 when it must not.",
	}, func() float64 { return r.graph.lease.Left().Seconds() })
	return []prometheus.Collector{count, left, r.waited}
}

// run holds the lease, follows the log and tells how far it is, until ctx ends.
func (r *replicas) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, loop := range []func(context.Context){r.listen, r.follow, r.hold, r.report} {
		g.Go(func() error { loop(ctx); return nil })
	}
	return g.Wait()
}

// leave gives the lease back, so that nobody waits for this process. It must not be
// asked any more. While it has followers that may answer still, its row stays, for as
// long as it takes the others to find that its lease has run out.
func (r *replicas) leave(ctx context.Context) error {
	r.graph.lease.Drop()
	free, err := r.graph.followers.unnote(ctx)
	if err != nil || !free {
		return err
	}
	return r.take(ctx, r.name(), anyRenewal)
}

// name is the id of the row of this process.
func (r *replicas) name() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.self
}

// hold joins and renews.
func (r *replicas) hold(ctx context.Context) {
	tick := time.NewTicker(r.terms.Renew)
	defer tick.Stop()
	for joined := false; ; {
		err := error(nil)
		if r.graph.lost() != nil {
			joined, err = false, r.reload(ctx)
		}
		if err != nil {
			r.log.Warn("the graph that failed was not loaded anew", zap.Error(err))
			if pause(ctx, reloadPause); ctx.Err() != nil {
				return
			}
			continue
		}
		if !joined {
			err = r.bound(ctx, r.join)
			joined = err == nil
		} else if joined, err = r.renew(ctx); err == nil && joined {
			err = r.look(ctx)
		}
		if err != nil && ctx.Err() == nil {
			r.log.Warn("the lease was not renewed", zap.Bool("joined", joined), zap.Error(err))
		}
		next := tick.C
		if !joined {
			next = time.After(rejoinPause)
		}
		select {
		case <-ctx.Done():
			return
		case <-next:
		}
	}
}

// bound asks the database within the time of a lease. A connection on which that does not
// do is half-open, and so may those be that wait in the pool: without them the next attempt
// has a new one, and does not wait for each of them in turn.
func (r *replicas) bound(ctx context.Context, ask func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, r.terms.Duration)
	defer cancel()
	err := ask(ctx)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		r.db.DropIdle()
	}
	return err
}

// join makes a new row and the lease that goes with it.
func (r *replicas) join(ctx context.Context) error {
	if old := r.mark.id(); old != "" {
		if err := r.take(ctx, old, anyRenewal); err != nil {
			return err
		}
	}
	self := id.New("rep")
	if err := r.mark.write(self); err != nil {
		return err
	}
	begun := r.graph.lease.Clock()
	var h head
	err := sqldb.InTx(ctx, r.db, func(ctx context.Context, tx *sql.Tx) (err error) {
		if h, err = r.store.head(ctx, tx, true); err != nil {
			return err
		}
		if h.Timeline == "" { // nobody has looked before
			if _, err := tx.ExecContext(ctx, `UPDATE access_revision SET timeline = $1 WHERE one = 1`, h.Now); err != nil {
				return err
			}
		}
		return r.row(ctx, tx, `INSERT INTO access_replicas (id, renewals, applied, joined_at) VALUES ($1, 0, $2, $3)`,
			self, r.graph.settled(), sqldb.Micros(r.now()))
	})
	if err != nil {
		return fmt.Errorf("join: %w", err)
	}
	for r.graph.now() != h.line || r.graph.Revision() < h.Revision {
		if err := r.catchUp(ctx); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	r.graph.followers.joined(r.graph.Revision())
	r.mu.Lock()
	r.self = self
	r.mu.Unlock()
	r.graph.lease.Extend(begun, r.terms.Duration)
	wake(r.wakeReport)
	r.log.Info("joined the replicas", zap.String("replica", self), zap.Int64("revision", r.graph.Revision()))
	return r.look(ctx)
}

// renew lengthens the lease, if this process can follow the log: others wait for who
// holds one. It is false when somebody has taken the row away: what this process
// remembers may be old, and it has to join again.
func (r *replicas) renew(ctx context.Context) (held bool, err error) {
	var begun time.Duration
	var taken bool
	err = r.bound(ctx, func(ctx context.Context) error {
		if err := r.catchUp(ctx); err != nil {
			return err
		}
		begun = r.graph.lease.Clock()
		err := sqldb.InTx(ctx, r.db, func(ctx context.Context, tx *sql.Tx) error {
			return r.row(ctx, tx, `UPDATE access_replicas SET renewals = renewals + 1, applied = $2 WHERE id = $1`, r.name(), r.graph.settled())
		})
		if taken = errors.Is(err, sql.ErrNoRows); taken {
			return nil
		}
		return err
	})
	switch {
	case err != nil:
		return true, fmt.Errorf("renew: %w", err) // it runs on to its end
	case taken:
		r.graph.lease.Drop()
		r.log.Warn("the lease was taken away: this process was silent for too long", zap.String("replica", r.name()))
		return false, nil
	}
	r.graph.lease.Extend(begun, r.terms.Duration)
	return true, nil
}

// anyRenewal takes a row away whatever its renewals, but not one with followers, which
// outlive their process.
const anyRenewal = -1

// take takes a row away, if it has not been renewed since.
func (r *replicas) take(ctx context.Context, id string, renewals int64) error {
	err := sqldb.InTx(ctx, r.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM access_replicas WHERE id = $1 AND (renewals = $2 OR $2 = -1 AND followed = 0)`, id, renewals)
		return err
	})
	if err != nil {
		return fmt.Errorf("take a lease away: %w", err)
	}
	return nil
}

// note says in the row of this process whether it has followers.
func (r *replicas) note(ctx context.Context, followed bool) (row string, err error) {
	row = r.name()
	err = sqldb.InTx(ctx, r.db, func(ctx context.Context, tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, `UPDATE access_replicas SET followed = $2 WHERE id = $1`, row, flag(followed))
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			return errors.Join(errNoLease, err) // the row was taken away
		}
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("note followers: %w", err)
	}
	return row, nil
}

func flag(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// look reads all rows, and takes those of the dead away.
func (r *replicas) look(ctx context.Context) error { return r.bound(ctx, r.looks) }

func (r *replicas) looks(ctx context.Context) error {
	select {
	case r.looking <- struct{}{}:
		defer func() { <-r.looking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	renewals, others := make(map[string]int64), make(map[string]int64)
	var id string
	var n, applied int64
	err := each(ctx, r.db, "replicas", `SELECT id, renewals, applied FROM access_replicas`, []any{&id, &n, &applied}, func() error {
		renewals[id], others[id] = n, applied
		return nil
	})
	if err != nil {
		return err
	}
	delete(renewals, r.name())
	r.watch.See(renewals)
	for id, n := range r.watch.Dead() {
		r.log.Warn("a replica is dead: its lease has run out", zap.String("replica", id))
		if err := r.take(ctx, id, n); err != nil {
			return err
		}
	}
	r.know(func() {
		for id, applied := range r.others { // a notification may have been faster
			if _, there := others[id]; there {
				others[id] = max(others[id], applied)
			}
		}
		r.others = others
	})
	return nil
}

// know changes what is known of the others and wakes who waits for it.
func (r *replicas) know(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
	close(r.changed)
	r.changed = make(chan struct{})
}

// enforced returns when this process and each of the members, as they were when the
// revision was committed, answers from it or from a later one, or answers no more.
func (r *replicas) enforced(ctx context.Context, members []string, of line, revision int64) error {
	begun := time.Now()
	defer func() { r.waited.Observe(time.Since(begun).Seconds()) }()
	if err := r.graph.settle(ctx, of, revision); err != nil {
		return err
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for looked := false; ; {
		done, strangers, changed := r.applied(members, revision)
		if r.graph.now() != of {
			return errGone
		}
		if done && (looked || !strangers) {
			return nil
		}
		if !strangers || looked {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
				continue
			case <-tick.C:
			}
		}
		if err := r.look(ctx); err == nil {
			looked = true
		} else if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// applied reports whether all members that are known have applied a revision, and
// whether some are not known: gone, or not seen yet.
func (r *replicas) applied(members []string, revision int64) (done, strangers bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	done = true
	for _, id := range members {
		applied, known := r.others[id]
		switch {
		case id == r.self:
		case !known:
			strangers = true
		case applied < revision:
			done = false
		}
	}
	return done, strangers, r.changed
}

const membersQuery = `SELECT id FROM access_replicas`

// members reads the replicas that a write has to wait for.
func (s *store) members(ctx context.Context, q sqldb.Querier) ([]string, error) {
	if !s.db.Shared() {
		return nil, nil
	}
	var all []string
	var id string
	err := each(ctx, q, "replicas", membersQuery, []any{&id}, func() error {
		all = append(all, id)
		return nil
	})
	return all, err
}
