package server

import (
	"cmp"
	"context"
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
)

const (
	// callsPerProcessor is above what a healthy process has under way at once;
	// leastMaxCalls leaves room on a small machine for calls that wait for a database.
	callsPerProcessor = 64
	leastMaxCalls     = 128
	// slotsPerProcessor is how many calls run at once, those not counted that wait for
	// PostgreSQL, for a commit or for another process. A refusal waits for some of them in
	// the queue of the scheduler, and they for refusals: with a quarter as many the calls
	// that were let in came to half of what they can do, without a bound refusals took
	// twice as long.
	slotsPerProcessor = 32
	// checksOverCalls is how many times more calls there may be under way before
	// checks are refused as well: everybody waits for them.
	checksOverCalls = 4
	// reservedFor is for how long a call whose headers have come may be on its way to the
	// place that was kept for it: its message mostly comes with them.
	reservedFor = 10 * time.Millisecond
	// retryAfter is when a refused caller may come again.
	retryAfter = time.Second
)

// defaultMaxCalls is how many calls a port has under way at once unless told.
func defaultMaxCalls() int { return max(leastMaxCalls, callsPerProcessor*runtime.GOMAXPROCS(0)) }

// limiter bounds the calls that a port has under way at once. What comes on top is
// refused before any work, so that what was begun is finished in time. The units' own
// calls are never refused: they belong to calls that were let in.
type limiter struct {
	underWay atomic.Int64
	max      int64 // math.MaxInt64 refuses nothing
}

// limitOf returns how many calls may be under way for one more of a method: a check
// finds room when nothing else does, health always.
func (l *limiter) limitOf(o owner) int64 {
	switch {
	case o.never:
		return math.MaxInt64
	case o.quiet && l.max < math.MaxInt64/checksOverCalls:
		return checksOverCalls * l.max
	default:
		return l.max
	}
}

// enter counts a call in unless limit are under way; then leave ends it.
func (l *limiter) enter(limit int64) bool {
	if l.underWay.Add(1) <= limit {
		return true
	}
	l.underWay.Add(-1)
	return false
}

func (l *limiter) leave() { l.underWay.Add(-1) }

// reservation is a place that is kept for a call from its headers on until the call
// claims it, so that no more calls get a goroutine than there are places. It lapses when
// the call is not there in time: a message that does not come holds no place.
type reservation struct {
	limiter *limiter
	over    atomic.Bool // claimed or lapsed
	timer   *time.Timer
}

type reservationKey struct{}

// reserve keeps a place for a call; nil when limit are under way.
func (l *limiter) reserve(limit int64) *reservation {
	if l.underWay.Load() >= limit || !l.enter(limit) {
		return nil
	}
	r := &reservation{limiter: l}
	r.timer = time.AfterFunc(reservedFor, func() {
		if r.over.CompareAndSwap(false, true) {
			l.leave()
		}
	})
	return r
}

// claim makes the place that of a call under way, unless it has lapsed.
func (r *reservation) claim() bool {
	r.timer.Stop()
	return r.over.CompareAndSwap(false, true)
}

// room takes a place for one more call; then limiter.leave gives it back. A unit of
// another process always finds one.
func (c *chain) room(ctx context.Context, limit int64) bool {
	if r, ok := ctx.Value(reservationKey{}).(*reservation); ok && r.claim() {
		return true
	}
	if c.limit.enter(limit) {
		return true
	}
	statement := metadata.ValueFromIncomingContext(ctx, authn.UnitHeader)
	if len(statement) != 1 {
		return false
	}
	_, err := c.auth.units.Verify(statement[0])
	return err == nil && c.limit.enter(math.MaxInt64)
}

// early refuses a call as soon as its headers are there, while too many are under way:
// it then costs no goroutine, no message and no place in the queue of the scheduler
// behind the calls that were let in. For what it lets pass it keeps a place, but not for
// a check, which is to cost nothing here. The id of the request is in the details, if its
// caller gave one; trailers there are none.
func (c *chain) early(ctx context.Context, info *tap.Info) (context.Context, error) {
	m := c.methods[info.FullMethodName]
	if m == nil && c.router != nil {
		if to := c.router.methods[info.FullMethodName]; to != nil {
			m = &to.method
		}
	}
	if m == nil || c.limit.max == math.MaxInt64 || len(info.Header[authn.UnitHeader]) > 0 {
		return ctx, nil
	}
	limit := cmp.Or(m.limit, c.limit.max)
	if m.quiet {
		if c.limit.underWay.Load() < limit {
			return ctx, nil
		}
	} else if r := c.limit.reserve(limit); r != nil {
		return context.WithValue(ctx, reservationKey{}, r), nil
	}
	c.metrics.shed.Inc()
	m.metrics.observe(errOverloaded.Code, 0)
	var id string
	if given := info.Header[headerRequestID]; len(given) == 1 && validRequestID(given[0]) {
		id = given[0]
	}
	return ctx, apierr.Edge(errOverloaded, id).Err()
}

// errOverloaded says when to come again, both as the message that clients read and
// as the code that they retry.
var errOverloaded = &apierr.Error{
	Code: codes.Unavailable, Reason: apierr.ReasonOverloaded,
	Message: "the server has too many calls under way, try again",
	Details: []proto.Message{&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)}},
}
