package accessbindings

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/lease"
)

// followers are the processes elsewhere that decide by themselves, from what this
// process sends them (ChangeService). They stand behind it as replicas stand behind the
// store, and no writer knows of them: this process answers for them. Why none of them
// answers from before an acknowledged change:
//
//   - A follower answers only while it has a right that this process granted: for a
//     duration that it counts from a reading of its own clock (CLOCK_BOOTTIME) before it
//     asked. This process counts the same duration from when the question had arrived,
//     which is later, and a margin beyond it, and until then the follower is *held*.
//   - What this process says it has applied (settled), to itself and to the writers
//     elsewhere, is the least of what it and each follower that is held have applied. So a
//     change is acknowledged when they all have it.
//   - What was said cannot be taken back: a follower is granted the right only when it
//     has applied all that was ever said, and what this process had to know when it joined
//     the replicas (told).
//   - A right ends before the lease of this process does. When this process dies, is
//     stopped or is cut off, its followers fall silent before any writer takes its row
//     away and stops to wait for it.
//   - The one way in which a row goes earlier is at the hands of its owner, which first
//     takes the rights back (leave), or of who restarts in its place, and that one leaves a
//     row alone that says it had followers. Where the store is not shared the row serves
//     for that alone: who finds it waits for as long as a right can last (heirloom).
//
// A follower that does not keep up is granted nothing beyond one lease from the moment
// when this process had what the follower lacks: it can delay a write for that long and the
// margin, and it can do so rarely (strikes). What is of no interest to a follower it need
// not acknowledge.
type followers struct {
	graph *graph
	terms lease.Terms
	clock lease.Clock
	mark  func(ctx context.Context, followed bool) (row string, err error) // notes durably that there are followers, or none any more
	row   func() string                                                    // that the note has to be on

	stopping chan struct{} // closed when the process begins to end
	stopOnce sync.Once
	marking  sync.Mutex

	mu      sync.Mutex
	all     map[*follower]bool
	told    int64         // the highest that settled returned
	heard   int64         // the highest of them that those who wait were woken for
	marked  string        // the row that has the note; "" for none
	fresh   chan struct{} // closed when the tail has more
	tail    tail
	strikes map[string]strike
}

// follower is one of them. Its fields belong to the lock of followers.
type follower struct {
	organization string // "" for all of them
	subject      string // who follows, for bounds
	of           line   // of the store that it follows

	ready   bool          // it has a snapshot, or what it had when it came
	loaded  int64         // the revision of the snapshot that it was sent last
	scanned int64         // the last revision that was looked at for it
	owed    []int64       // revisions with something for it that it has not reported
	until   time.Duration // when its right ends; 0 for never granted
	gone    bool          // its stream is over
	wakes   *time.Timer   // when it is not held any more
	grant   *grant        // to be sent
	wake    chan struct{}
}

// notLoaded is the revision of no snapshot.
const notLoaded = -1

// grant is the answer to a report.
type grant struct {
	sequence int64
	duration time.Duration
	now      int64 // microseconds
}

// Bounds of followers.
const (
	maxFollowers     = 128 // of a process
	maxFollowersEach = 32  // of one organization
	strikeMemory     = 10 * time.Minute
	firstBar         = 5 * time.Second // after the second strike, then twice as long each time
	longestBar       = 5 * time.Minute
)

// strike is how often a subject's followers held writes up, and until when they are
// granted nothing for it.
type strike struct {
	count int
	last  time.Duration
	bar   time.Duration
}

var (
	errManyFollowers = apierr.New(codes.ResourceExhausted, "FOLLOWERS_TOO_MANY", "too many services follow here already, at most %d in all and %d of an organization", maxFollowers, maxFollowersEach)
	errLineLost      = apierr.Precondition("FOLLOWED_LINE_LOST", "the position is not in the history of this store, begin anew without it")
	errTooOld        = apierr.New(codes.OutOfRange, "FOLLOWED_TOO_OLD", "the log does not reach back to the position, begin anew without it")
	errSilent        = apierr.Unavailable(apierr.ReasonUnavailable, "the follower has not reported for too long")
)

func newFollowers(g *graph, terms lease.Terms) *followers {
	return &followers{
		graph: g, terms: terms, clock: lease.Boot, told: g.Revision(), stopping: make(chan struct{}), fresh: make(chan struct{}),
		all: make(map[*follower]bool), strikes: make(map[string]strike),
		mark: func(context.Context, bool) (string, error) { return "", errors.New("nobody marks") }, row: func() string { return "" },
	}
}

// metrics are how many followers there are.
func (h *followers) metrics() []prometheus.Collector {
	count := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "bindery_followers", Help: "Services that decide by themselves from what this process sends them.",
	}, func() float64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		return float64(len(h.all))
	})
	return []prometheus.Collector{count}
}

// applied is the revision that a follower answers from, or a later one of which nothing
// is for it.
func (f *follower) applied() int64 {
	if len(f.owed) > 0 {
		return f.owed[0] - 1
	}
	return f.scanned
}

// held reports whether a follower may still answer, or might by an uneven clock.
func (h *followers) held(f *follower, now time.Duration) bool {
	return f.until != 0 && now <= f.until+h.terms.Margin
}

// settled is the revision that this process and all that it answers for answer from.
// What it returned before of the same line it never falls below.
func (h *followers) settled() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	own, now := h.graph.Revision(), h.clock() // here: what the graph was before anew is of a lost line
	for f := range h.all {
		switch {
		case h.held(f, now):
			own = min(own, f.applied())
		case f.gone:
			delete(h.all, f)
		}
	}
	h.told = max(h.told, own)
	return h.told
}

// joined notes the revision from which on this process may answer: what was
// acknowledged before it joined the replicas is in it.
func (h *followers) joined(revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = max(h.told, revision)
}

// enter makes room for a follower of an organization.
func (h *followers) enter(organization string, who authn.Principal) (*follower, error) {
	f := &follower{organization: organization, subject: who.String(), of: h.graph.now(), loaded: notLoaded, wake: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	here, same := 0, 0
	for other := range h.all {
		if other.gone {
			continue
		}
		here++
		if other.organization == organization {
			same++
		}
	}
	if here >= maxFollowers || same >= maxFollowersEach {
		return nil, errManyFollowers
	}
	if !h.tail.on {
		h.tail = tail{on: true, base: h.graph.Revision()}
	}
	f.wakes = time.AfterFunc(time.Hour, h.progress)
	f.wakes.Stop()
	h.all[f] = true
	return f, nil
}

// exit notes that the stream of a follower is over. It may answer until its right ends,
// and is held until then.
func (h *followers) exit(f *follower) {
	h.mu.Lock()
	f.gone = true
	if now := h.clock(); h.held(f, now) { // it went without a word
		h.blame(f.subject, now)
	}
	h.forget()
	h.mu.Unlock()
	h.progress()
}

// forget lets go of followers that are gone and not held, and of the tail when nobody
// reads it.
func (h *followers) forget() {
	now, reading := h.clock(), false
	for f := range h.all {
		if f.gone && !h.held(f, now) {
			delete(h.all, f)
		}
		reading = reading || !f.gone
	}
	if !reading {
		h.tail = tail{}
	}
}

// progress wakes who waits for something to be settled, if more is.
func (h *followers) progress() {
	settled := h.settled()
	h.mu.Lock()
	more := settled > h.heard
	h.heard = max(h.heard, settled)
	h.mu.Unlock()
	if !more {
		return
	}
	h.graph.wake()
	if h.graph.applied != nil {
		h.graph.applied()
	}
}

// without runs fn while nobody follows or begins to, and reports whether it did.
func (h *followers) without(fn func() error) (bool, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tail.on {
		return false, nil
	}
	return true, fn()
}

// add gives followers a revision that this process has.
func (h *followers) add(before, after *checker.View, line string, facts []checker.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.tail.on {
		return
	}
	h.tail.add(followed{revision: after.Revision(), line: line, at: h.clock(), changes: scopes(before, after, facts)})
	close(h.fresh)
	h.fresh = make(chan struct{})
}

// after returns what a follower has to be sent next, and when there may be more.
func (h *followers) after(f *follower) (entries []followed, ok bool, more <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	entries, ok = h.tail.after(f.scanned)
	return entries, ok, h.fresh
}

// begin takes a follower back to a snapshot. It stays held until it has released its
// right.
func (h *followers) begin(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.ready, f.loaded, f.grant = false, notLoaded, nil
}

// snapshot notes that a follower was sent the facts of a revision.
func (h *followers) snapshot(f *follower, revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.loaded, f.scanned, f.owed = revision, revision, nil
}

// resume notes that a follower has a revision already.
func (h *followers) resume(f *follower, revision int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.scanned, f.owed, f.ready = revision, nil, true
}

// scan notes, before it is sent, that a revision was looked at for a follower, and
// whether something in it is for it. It is called in order.
func (h *followers) scan(f *follower, revision int64, owed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	f.scanned = revision
	if owed {
		f.owed = append(f.owed, revision)
	}
}

// released notes that a follower answers no more.
func (h *followers) released(f *follower) {
	h.mu.Lock()
	f.until, f.grant = 0, nil
	f.wakes.Stop()
	h.mu.Unlock()
	wake(f.wake)
	h.progress()
}

// free reports whether a follower has no right, as far as this process can tell.
func (h *followers) free(f *follower) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return !h.held(f, h.clock())
}

// report notes what a follower has applied, and grants it the right to answer if it
// keeps up.
func (h *followers) report(f *follower, sequence, revision, now int64) {
	h.mu.Lock()
	n := 0
	for n < len(f.owed) && f.owed[n] <= revision {
		n++
	}
	f.owed = f.owed[n:]
	f.ready = f.ready || f.loaded != notLoaded && revision >= f.loaded
	if duration := h.right(f); duration > 0 {
		f.grant = &grant{sequence: sequence, duration: duration, now: now}
		f.wakes.Reset(duration + h.terms.Margin + time.Millisecond)
	}
	h.mu.Unlock()
	wake(f.wake)
	h.progress()
}

// right is for how long a follower may answer from now on; 0 for not at all.
func (h *followers) right(f *follower) time.Duration {
	own := h.graph.Revision() // what comes later, the follower may lack for a whole lease
	now := h.clock()
	has := f.applied()
	if !f.ready || has < h.told || h.graph.lost() != nil || f.of != h.graph.now() || h.barred(f, now) {
		return 0
	}
	end := now + h.terms.Duration
	if h.graph.lease != nil {
		end = min(end, now+h.graph.lease.Left())
	}
	if has < own {
		end = min(end, h.tail.since(has+1, now)+h.terms.Duration)
	}
	if h.marked == "" || h.marked != h.row() { // after the lease was read: a new row comes before its lease
		return 0
	}
	if end <= now {
		if has < own {
			h.strike(f, now)
		}
		return 0
	}
	f.until = max(f.until, end)
	return end - now
}

// barred reports whether followers of that subject have held writes up too often.
func (h *followers) barred(f *follower, now time.Duration) bool {
	return now < h.strikes[f.subject].bar
}

// strike notes that a follower has held writes up for a whole lease. Once is a process
// that was stopped or cut off; who does it again and again waits longer each time.
func (h *followers) strike(f *follower, now time.Duration) {
	if f.until != 0 { // otherwise it held nothing up
		f.until = 0 // it has ended long ago
		h.blame(f.subject, now)
	}
}

// blame counts a strike.
func (h *followers) blame(subject string, now time.Duration) {
	for who, s := range h.strikes {
		if now-s.last > strikeMemory {
			delete(h.strikes, who)
		}
	}
	s := h.strikes[subject]
	s.count++
	s.last = now
	if s.count > 1 {
		s.bar = now + min(firstBar<<min(s.count-2, 10), longestBar)
	}
	h.strikes[subject] = s
}

// take takes the grant that is to be sent; nil for none.
func (h *followers) take(f *follower) *grant {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := f.grant
	f.grant = nil
	return g
}

// note makes sure that the row of this process says that it has followers: before the
// first right is granted.
func (h *followers) note(ctx context.Context) error {
	h.mu.Lock()
	done := h.marked != "" && h.marked == h.row()
	h.mu.Unlock()
	if done {
		return nil
	}
	h.marking.Lock()
	defer h.marking.Unlock()
	row, err := h.mark(ctx, true)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.marked = row
	return nil
}

// unnote takes the note back when there are no followers; false while there are.
func (h *followers) unnote(ctx context.Context) (bool, error) {
	h.marking.Lock()
	defer h.marking.Unlock()
	h.mu.Lock()
	h.forget()
	none, marked := len(h.all) == 0, h.marked != ""
	if none {
		h.marked = ""
	}
	h.mu.Unlock()
	if !none || !marked {
		return none, nil
	}
	_, err := h.mark(ctx, false)
	return true, err
}

// heirloom holds what a predecessor may have granted: a follower that nobody hears of,
// until its right has ended.
func (h *followers) heirloom() {
	f := &follower{gone: true, ready: true, scanned: h.graph.Revision(), until: h.clock() + h.terms.Duration}
	f.wakes = time.AfterFunc(h.terms.Duration+h.terms.Margin+time.Millisecond, h.progress)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all[f] = true
	h.marked = h.row()
}

// anew begins with the facts of a revision that were loaded in place of those before.
// Those who follow another line are let go of: they are granted nothing any more, and
// until their rights have ended nothing is acknowledged (beginLine).
func (h *followers) anew(revision int64, other bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tail = tail{on: h.tail.on, base: revision}
	close(h.fresh)
	h.fresh = make(chan struct{})
	if other {
		clear(h.all)
		h.told, h.heard = revision, revision
	}
}

// stop asks all followers to leave.
func (h *followers) stop() { h.stopOnce.Do(func() { close(h.stopping) }) }
