package e2e

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
)

// moment is a little time, less than a lease.
func moment(random *rand.Rand) time.Duration {
	return time.Duration(random.IntN(1500)) * time.Millisecond
}

// long is more than a replica can be silent without losing its lease.
var long = lease.Default.Duration + lease.Default.Margin + time.Second

// faultKind is a bad thing that happens to one replica, or to PostgreSQL, and ends.
type faultKind struct {
	name string
	do   func(f *faulty, at int, random *rand.Rand)
}

func faultKinds() []faultKind {
	return []faultKind{
		{"killed, and started later", (*faulty).killed},
		{"stopped for less than a lease", func(f *faulty, at int, random *rand.Rand) { f.stopped(at, moment(random)) }},
		{"stopped for more than a lease", func(f *faulty, at int, random *rand.Rand) { f.stopped(at, long+moment(random)) }},
		{"connections to PostgreSQL cut", func(f *faulty, at int, _ *rand.Rand) { f.proxies[at].CutAll() }},
		{"PostgreSQL answers three seconds late", (*faulty).slow},
		{"PostgreSQL restarted", func(f *faulty, _ int, random *rand.Rand) { f.restarted(sqldbtest.Fast, moment(random)) }},
		{"PostgreSQL killed", func(f *faulty, _ int, _ *rand.Rand) { f.database.Kill(); f.database.Start() }},
		{"a connection cut at COMMIT", func(f *faulty, at int, random *rand.Rand) { f.proxies[at].Cut(sqldbtest.Cut(random.IntN(4))) }},
		{"PostgreSQL stopped at once", func(f *faulty, _ int, _ *rand.Rand) { f.restarted(sqldbtest.Immediate, 0) }},
		{"half-open connections, for less than a lease", func(f *faulty, at int, random *rand.Rand) { f.halfOpen(at, moment(random), random) }},
		{"half-open connections, for more than a lease", func(f *faulty, at int, random *rand.Rand) { f.halfOpen(at, long+moment(random), random) }},
		{"a renewal that arrives after fencing", (*faulty).renewedLate},
		{"the replica's clock set by ten minutes", (*faulty).setClock},
		{"PostgreSQL's clock set by ten minutes", (*faulty).setDatabaseClock},
		{"a replica that joins late", (*faulty).joinedLate},
	}
}

// fault does the next of the bad things to one of the replicas, or to PostgreSQL. Mostly
// the next one waits until all replicas have come back from it.
func (f *faulty) fault(n int, random *rand.Rand) {
	kinds, at := faultKinds(), random.IntN(len(f.always()))
	kind := kinds[n%len(kinds)]
	f.windows.start(kind.name, at)
	kind.do(f, at, random)
	if random.IntN(4) > 0 {
		f.comeBack()
	}
	time.Sleep(time.Duration(random.IntN(500)) * time.Millisecond)
}

func (f *faulty) killed(at int, random *rand.Rand) {
	one := f.replicas[at].server
	one.kill()
	time.Sleep(moment(random))
	one.await(one.launch())
}

func (f *faulty) stopped(at int, d time.Duration) {
	process := f.replicas[at].server.cmd.Process
	hang(f.t, process)
	time.Sleep(d)
	if err := process.Signal(syscall.SIGCONT); err != nil {
		f.t.Error(err)
	}
}

func (f *faulty) slow(at int, random *rand.Rand) {
	f.proxies[at].Delay(3 * time.Second)
	time.Sleep(long + moment(random))
	f.proxies[at].Delay(0)
}

func (f *faulty) restarted(how sqldbtest.Shutdown, away time.Duration) {
	f.database.Stop(how)
	time.Sleep(away)
	f.database.Start()
}

func (f *faulty) halfOpen(at int, d time.Duration, random *rand.Rand) {
	f.proxies[at].Swallow()
	time.Sleep(d)
	f.proxies[at].Heal(random.IntN(2) == 0)
}

// renewedLate keeps the renewals of a lease on their way until others have fenced it; the
// replica waits for them, or stands and finds their answers when it goes on.
func (f *faulty) renewedLate(at int, random *rand.Rand) {
	held := f.proxies[at].Hold("SET renewals = renewals + 1")
	defer f.proxies[at].Release()
	select {
	case <-held:
	case <-time.After(backWithin): // from the fault before
		f.t.Error("no lease is renewed")
		return
	}
	lease, err := os.ReadFile(filepath.Join(f.replicas[at].server.dataDir, "accessbindings.replica"))
	if err != nil {
		f.t.Error(err)
		return
	}
	process := f.replicas[at].server.cmd.Process
	stop := random.IntN(2) == 0
	if stop {
		hang(f.t, process)
	}
	for deadline := time.Now().Add(patience); slices.Contains(f.leases(), strings.TrimSpace(string(lease))); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Error("nobody took the lease away of a replica that does not renew it")
			break
		}
	}
	f.proxies[at].Release()
	time.Sleep(moment(random) / 4)
	if stop {
		if err := process.Signal(syscall.SIGCONT); err != nil {
			f.t.Error(err)
		}
	}
}

// leases are the ids of those that there are.
func (f *faulty) leases() []string {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.database.URL)
	if err != nil {
		f.t.Error(err)
		return nil
	}
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT id FROM accessbindings.access_replicas`)
	if err != nil {
		f.t.Error(err)
		return nil
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		f.t.Error(err)
	}
	return ids
}

// setClock sets the clock of a replica forward, while somebody has a role that ends in
// five minutes, and back, after a role has ended: neither begins nor ends by it.
func (f *faulty) setClock(at int, random *rand.Rand) {
	f.comeBack() // a role that is given late may have ended by then
	one := f.replicas[at]
	if !f.change(f.timed, give, time.Now().Add(clockStep/2), random) {
		return
	}
	one.server.stepClock(f.t, true)
	for range 20 {
		if f.ask(one, f.timed) == codes.PermissionDenied {
			f.lost.Add(1)
			f.t.Error("a replica whose clock is fast denies what is in force")
		}
	}
	time.Sleep(moment(random))
	one.server.stepClock(f.t, false)
	if !f.change(f.timed, take, time.Time{}, random) {
		return
	}
	end := time.Now().Add(3 * time.Second)
	if !f.change(f.timed, give, end, random) {
		return
	}
	time.Sleep(time.Until(end) + 100*time.Millisecond)
	one.server.stepClock(f.t, false)
	for range 20 {
		if f.ask(one, f.timed) == codes.OK {
			f.stale.Add(1)
			f.t.Error("a replica whose clock is slow allows what has ended")
		}
	}
	time.Sleep(moment(random))
	one.server.stepClock(f.t, true)
}

// setDatabaseClock sets the clock of PostgreSQL, forward or back, and right again. After
// it was ahead the time of the replicas stands still until it has come there, so they are
// started anew, as an operator would.
func (f *faulty) setDatabaseClock(_ int, random *rand.Rand) {
	by := clockStep
	if random.IntN(2) == 0 {
		by = -clockStep
	}
	f.database.MoveClock(by)
	if off := f.databaseAhead(); (off - by).Abs() > clockStep/10 {
		f.t.Errorf("the clock of PostgreSQL is not set: it is %v ahead", off)
	}
	time.Sleep(2*lease.Default.Renew + moment(random))
	f.database.MoveClock(-by)
	time.Sleep(2 * lease.Default.Renew)
	if by < 0 {
		return
	}
	for n := range f.always() {
		f.killed(n, random)
	}
}

// databaseAhead is how far the clock of PostgreSQL is ahead of that of the test, nearly.
func (f *faulty) databaseAhead() time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, f.database.URL)
	if err != nil {
		f.t.Error(err)
		return 0
	}
	defer conn.Close(ctx)
	var now time.Time
	if err := conn.QueryRow(ctx, `SELECT clock_timestamp()`).Scan(&now); err != nil {
		f.t.Error(err)
	}
	return time.Until(now)
}

// joinedLate starts one more replica, which nobody knows, in the middle of it all. It goes
// in good order, or without a word.
func (f *faulty) joinedLate(_ int, random *rand.Rand) {
	late := f.replicas[len(f.replicas)-1].server
	late.dataDir = f.t.TempDir()
	lines := late.launch()
	f.joined.Store(true)
	late.await(lines)
	time.Sleep(time.Second + moment(random))
	f.joined.Store(false)
	if random.IntN(2) == 0 {
		late.kill()
	} else {
		late.stop()
	}
}
