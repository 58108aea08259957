package server

import (
	"context"
	"math"
	"sync/atomic"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
)

const (
	// defaultMaxCalls is far above what a healthy process has under way at once.
	defaultMaxCalls = 1024
	// checksOverCalls is how many times more calls there may be under way before
	// checks are refused as well: everybody waits for them.
	checksOverCalls = 4
	// retryAfter is when a refused caller may come again.
	retryAfter = time.Second
)

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

// room takes a place for one more call; then limiter.leave gives it back. A unit of
// another process always finds one.
func (c *chain) room(ctx context.Context, limit int64) bool {
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

// errOverloaded says when to come again, both as the message that clients read and
// as the code that they retry.
var errOverloaded = &apierr.Error{
	Code: codes.Unavailable, Reason: apierr.ReasonOverloaded,
	Message: "the server has too many calls under way, try again",
	Details: []proto.Message{&errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)}},
}
