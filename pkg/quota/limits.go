package quota

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
)

// How long an answer of resourcemanager is good for.
const (
	fresh    = time.Minute     // to let a call pass
	refusing = time.Second     // to refuse one: a limit that was just raised counts at once
	away     = 5 * time.Second // how long a unit that did not answer is left alone
	patience = 2 * time.Second // how long a call waits for it
	maxKept  = 10_000          // limits remembered
)

// Resource is what a quota lives on (QL-3).
type Resource struct {
	Type string // e.g. "resource-manager.cloud", or catalog.OnSubject
	ID   string
}

// Subject is the resource of the quotas that one subject has.
func Subject(id string) Resource { return Resource{catalog.OnSubject, id} }

// String is the form in messages: "resource-manager.cloud:cld…".
func (r Resource) String() string { return r.Type + ":" + r.ID }

// Limits knows the limits of all resources. It may be used by many goroutines.
type Limits struct {
	client   quotav1.LimitServiceClient
	now      func() time.Time
	defaults func(quotaID string) (catalog.Quota, bool)

	mu       sync.Mutex
	kept     map[key]answer
	sleepTil time.Time // nobody is asked before
}

type key struct {
	quotaID string
	on      Resource
}

type answer struct {
	limit int64
	at    time.Time
}

// NewLimits returns the limits that resourcemanager tells over conn.
func NewLimits(conn grpc.ClientConnInterface, now func() time.Time) *Limits {
	return &Limits{
		client: quotav1.NewLimitServiceClient(conn), now: now, kept: make(map[key]answer),
		defaults: func(quotaID string) (catalog.Quota, bool) {
			c, err := catalog.Load()
			if err != nil {
				return catalog.Quota{}, false
			}
			return c.Quota(quotaID)
		},
	}
}

// Check refuses what would take a resource above its limit: usage is what it has,
// wanted what is to be added. Nothing wanted is never refused. It fails with
// RESOURCE_EXHAUSTED (QUOTA_EXCEEDED, QL-2), and for a quota that the catalogue
// lacks with an error that is a defect of the caller.
//
// It may ask another unit, which takes up to two seconds when that one is away. A
// caller that holds a transaction should call Limit before it begins, so that the
// answer is there.
func (l *Limits) Check(ctx context.Context, quotaID string, on Resource, usage, wanted int64) error {
	limit, err := l.limit(ctx, quotaID, on, fresh)
	if err != nil || !exceeds(limit, usage, wanted) {
		return err
	}
	if limit, err = l.limit(ctx, quotaID, on, refusing); err != nil {
		return err
	}
	return Exceeded(quotaID, on, limit, usage, wanted)
}

// Limit returns how much a resource may have: as resourcemanager says, at most a
// minute old; while it is away the last that it said, or else the default.
func (l *Limits) Limit(ctx context.Context, quotaID string, on Resource) (int64, error) {
	return l.limit(ctx, quotaID, on, fresh)
}

// Exceeded refuses what would take a resource above a limit that is known, like
// Check; nil when there is room.
func Exceeded(quotaID string, on Resource, limit, usage, wanted int64) error {
	if !exceeds(limit, usage, wanted) {
		return nil
	}
	return apierr.Exhausted(apierr.Quota{
		Metric: quotaID, Subject: on.String(), Limit: limit, Usage: usage, Required: usage + wanted,
	}).WithMeta("quotaId", quotaID, "resourceType", on.Type, "resourceId", on.ID)
}

// exceeds is the one comparison.
func exceeds(limit, usage, wanted int64) bool { return wanted > 0 && wanted > limit-usage }

// limit returns a limit that is at most so old, if it can be had.
func (l *Limits) limit(ctx context.Context, quotaID string, on Resource, old time.Duration) (int64, error) {
	q, ok := l.defaults(quotaID)
	if !ok {
		return 0, fmt.Errorf("quota %q is not in the catalogue", quotaID)
	}
	if q.On != on.Type {
		return 0, fmt.Errorf("quota %s lives on %s, not on %s", quotaID, q.On, on.Type)
	}
	k := key{quotaID, on}
	last, known, ask := l.recall(k, old)
	if !ask {
		if known {
			return last.limit, nil
		}
		return q.Limit, nil
	}
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	resp, err := l.client.GetLimits(bounded, &quotav1.GetLimitsRequest{
		Resource: &quotav1.Resource{Type: on.Type, Id: on.ID}, QuotaIds: []string{quotaID},
	})
	switch {
	case ctx.Err() != nil:
		return 0, ctx.Err()
	case err == nil && len(resp.GetLimits()) == 1:
		l.keep(k, resp.GetLimits()[0].GetLimit())
		return resp.GetLimits()[0].GetLimit(), nil
	}
	l.sleep()
	if known {
		return last.limit, nil
	}
	return q.Limit, nil
}

// recall returns what was last said, and whether to ask anew.
func (l *Limits) recall(k key, old time.Duration) (last answer, known, ask bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	last, known = l.kept[k]
	now := l.now()
	return last, known, !now.Before(l.sleepTil) && (!known || now.Sub(last.at) >= old)
}

// keep remembers an answer. When there are too many the stale ones go, or else any.
func (l *Limits) keep(k key, limit int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	if _, known := l.kept[k]; !known && len(l.kept) >= maxKept {
		for other, a := range l.kept {
			if now.Sub(a.at) >= fresh || len(l.kept) >= maxKept {
				delete(l.kept, other)
			}
		}
	}
	l.kept[k] = answer{limit, now}
}

// sleep leaves the unit that did not answer alone for a while.
func (l *Limits) sleep() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sleepTil = l.now().Add(away)
}
