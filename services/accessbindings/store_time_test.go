package accessbindings

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

func TestStoreTime(t *testing.T) {
	var clock time.Duration
	start := time.Unix(1_700_000_000, 0)
	s := &storeTime{own: func() time.Time { return start }, clock: func() time.Duration { return clock }}
	is := func(want time.Duration, when string) {
		t.Helper()
		if got := s.now().Sub(start); got != want {
			t.Errorf("%s it is %v, want %v", when, got, want)
		}
	}
	is(0, "before the store was asked")
	at := func(d time.Duration) int64 { return sqldb.Micros(start.Add(d)) }
	clock = 10 * time.Second
	s.set(8*time.Second, at(time.Minute)) // asked two seconds ago
	is(time.Minute+2*time.Second, "when the answer took two seconds")
	clock += time.Second
	is(time.Minute+3*time.Second, "a second later")
	s.set(clock, at(time.Minute+2*time.Second))
	is(time.Minute+3*time.Second, "by a closer answer")
	clock += time.Second
	is(time.Minute+3*time.Second, "while the store comes to it")
	clock += time.Second
	is(time.Minute+4*time.Second, "and goes on")
	s.set(clock, at(-10*time.Minute))
	is(time.Minute+4*time.Second, "when the store's clock was set back")
	clock += 10 * time.Minute
	is(time.Minute+4*time.Second, "while the store's clock is behind")
	s.set(clock, at(time.Hour))
	is(time.Hour, "when the store's clock was set forward")
}

// What ends does so by the clock of the store, whatever that of a replica shows, and the
// sweep of one whose clock is fast takes nothing away that is in force.
func TestEndsAreByTheClockOfTheStore(t *testing.T) {
	db := sqldbtest.Open(t, sqldb.PostgreSQL, Name, migrationsOf())
	var all []*world
	for i, off := range []time.Duration{0, 10 * time.Minute, -10 * time.Minute} {
		w := serveWith(t, db, func(ctx context.Context, base server.Base) (*Service, error) {
			base.Given = false
			return New(ctx, base)
		})
		if i == 0 {
			w.populate()
		}
		w.clock.advance(off)
		all = append(all, w)
	}
	right, fast, slow := all[0], all[1], all[2]
	slow.mustUpdate(adam, folder1, until(add(viewer, vera), time.Now().Add(5*time.Minute)))
	fast.service.sweep(t.Context())
	for i, w := range all {
		if !w.allowed(vera, getFolder, folder1) {
			t.Errorf("replica %d denies what ends in five minutes", i)
		}
	}
	_, err := slow.update(adam, folder1, until(add(viewer, nick), time.Now().Add(-5*time.Minute)))
	refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	right.must((&oracle{world: right}).raw(bindingChange(folder1, Binding{Pair: Pair{viewer, nick}, Sources: []Source{{End: sqldb.Micros(time.Now().Add(-5 * time.Minute))}}}, 0)))
	for i, w := range all {
		if w.allowed(nick, getFolder, folder1) {
			t.Errorf("replica %d allows what ended five minutes ago", i)
		}
	}
}
