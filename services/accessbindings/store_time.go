package accessbindings

import (
	"context"
	"database/sql"
	"sync/atomic"
	"time"

	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// storeTime is the time by which the unit judges what ends, and dates what it writes: that
// of the store (design §5). Where the store is shared it is the clock of the database, so
// that replicas agree whatever their own clocks show and however those are set:
//
//   - The database is asked with each renewal of the lease. What has passed since then is
//     counted by the clock of leases from a reading before it was asked, so that the time
//     is never earlier than the database's: what ends within the difference has ended.
//   - It does not go back in a process, when the clock of the database does: it stands
//     still until that has come to it again.
//
// Before it was asked, when nothing is answered yet, and where the store is this process's
// alone, it is the process's own time. It is safe for concurrent use.
type storeTime struct {
	own   func() time.Time
	clock lease.Clock
	last  atomic.Pointer[reading]
}

// reading is what the database answered when it was asked for the time.
type reading struct {
	asked time.Duration // by the clock, before
	time  int64         // microseconds UTC
	least int64         // what was told before it
}

func (r *reading) at(clock time.Duration) int64 {
	return max(r.least, r.time+(clock-r.asked).Microseconds())
}

// keepTime makes the time of the unit that of its store, and returns what is to be set;
// nil where a test gives the time.
func keepTime(base *server.Base) *storeTime {
	if base.Given {
		return nil
	}
	s := &storeTime{own: base.Now, clock: lease.Boot}
	base.Now = s.now
	return s
}

func (s *storeTime) now() time.Time {
	r := s.last.Load()
	if r == nil {
		return s.own()
	}
	return sqldb.Time(r.at(s.clock()))
}

// set notes what the database answered. It is for one goroutine.
func (s *storeTime) set(asked time.Duration, answered int64) {
	next := &reading{asked: asked, time: answered}
	if was := s.last.Load(); was != nil {
		next.least = was.at(s.clock())
	}
	s.last.Store(next)
}

// row writes the row of this process, and learns the time of the store by it.
func (r *replicas) row(ctx context.Context, tx *sql.Tx, statement string, args ...any) error {
	asked := r.graph.lease.Clock()
	var answered int64
	err := tx.QueryRowContext(ctx, statement+` RETURNING `+r.db.Clock(), args...).Scan(&answered)
	if err == nil && r.at != nil {
		r.at.set(asked, answered)
	}
	return err
}
