package accessbindings

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// listen hears what others tell. Without a connection nothing is lost: what is told
// is looked for as well.
func (r *replicas) listen(ctx context.Context) {
	for ctx.Err() == nil {
		err := sqldb.Listen(ctx, r.db, []string{changesChannel, appliedChannel}, r.hear)
		if ctx.Err() == nil {
			r.log.Warn("notifications are not heard, polling", zap.Error(err))
			pause(ctx, rejoinPause)
		}
	}
}

func (r *replicas) hear(channel, payload string) {
	if channel != appliedChannel {
		r.hearChanges(payload)
		return
	}
	id, text, _ := strings.Cut(payload, " ")
	revision, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id == r.name() {
		return
	}
	r.know(func() {
		if applied, known := r.others[id]; known && applied < revision {
			r.others = maps.Clone(r.others)
			r.others[id] = revision
		}
	})
}

// follow applies what others commit.
func (r *replicas) follow(ctx context.Context) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.wakeFollow:
		case <-tick.C:
		}
		if err := r.bound(ctx, r.catchUp); err != nil && ctx.Err() == nil {
			r.log.Warn("changes were not read", zap.Error(err))
			pause(ctx, rejoinPause)
		}
	}
}

// report tells the others what this process has applied. It may be lost: each renewal
// tells it again.
func (r *replicas) report(ctx context.Context) {
	for ctx.Err() == nil {
		if err := r.reports(ctx); ctx.Err() == nil {
			r.log.Warn("what is applied was not told", zap.Error(err))
			pause(ctx, rejoinPause)
		}
	}
}

// reports reports by one connection until it is lost.
func (r *replicas) reports(ctx context.Context) (err error) {
	var conn *sqldb.Unsynced
	err = r.bound(ctx, func(ctx context.Context) (err error) {
		conn, err = sqldb.OpenUnsynced(ctx, r.db)
		return err
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-r.wakeReport:
		}
		self, revision := r.name(), r.graph.settled()
		err := r.bound(ctx, func(ctx context.Context) error {
			return conn.Exec(ctx, `
				WITH told AS (UPDATE access_replicas SET applied = $2 WHERE id = $1 AND applied < $2 RETURNING id)
				SELECT pg_notify($3, $4) FROM told`, self, revision, appliedChannel, self+" "+strconv.FormatInt(revision, 10))
		})
		if err != nil {
			return err
		}
	}
}

// wake leaves a message for a loop that may be busy.
func wake(loop chan<- struct{}) {
	select {
	case loop <- struct{}{}:
	default:
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
