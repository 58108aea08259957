package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

// The two things that are done with a role.
const (
	give = accesspb.AccessBindingAction_ADD
	take = accesspb.AccessBindingAction_REMOVE
)

// faulty is an installation with three replicas of the checker, and a fourth that comes
// and goes, each of which reaches PostgreSQL by a proxy of its own, and people whose roles
// come and go meanwhile.
type faulty struct {
	t        *testing.T
	database *sqldbtest.Server
	world    *world
	proxies  []*sqldbtest.Proxy
	replicas []*checkReplica // in the order of proxies; the last one joins late
	people   []person
	steady   person // has the role all the time
	timed    person // has it for a time, now and then
	begun    time.Time
	ended    atomic.Bool
	joined   atomic.Bool // the late one takes calls
	windows  windows

	pairs, checks, unavailable, again, stale, lost atomic.Int64
}

// person is a member and a folder on which he is given a role.
type person struct {
	member member
	folder string
}

// foldersOfPeople is on how many folders the members are given roles.
const foldersOfPeople = 4

// TestReplicasUnderFaults gives and takes roles by any of three replicas while bad things
// happen (faultKinds): to them, to their connections, to PostgreSQL, and to the clocks.
// After a revoke was acknowledged no replica allows, after a grant none denies: it says
// UNAVAILABLE when it cannot know. It logs how often, and for how long who was silent.
func TestReplicasUnderFaults(t *testing.T) {
	f := newFaulty(t)
	pairs, rounds := int64(times(t, "BINDERY_FAULT_PAIRS", 200, 200)), times(t, "BINDERY_FAULT_ROUNDS", len(faultKinds()), len(faultKinds()))
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	f.begun = time.Now()
	var running sync.WaitGroup
	for n, who := range f.people {
		running.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			for !f.ended.Load() && !t.Failed() {
				f.pair(who, random)
			}
		})
	}
	for n := range f.always() {
		running.Go(func() { f.watch(n) })
	}
	running.Go(func() {
		defer f.ended.Store(true)
		random := rand.New(rand.NewPCG(seed, 99))
		for n := 0; (n < rounds || f.pairs.Load() < pairs) && !t.Failed(); n++ {
			f.fault(n, random)
			if n%50 == 49 {
				t.Logf("%d faults, %d pairs, after %v", n+1, f.pairs.Load(), time.Since(f.begun).Round(time.Second))
			}
		}
	})
	running.Wait()
	f.report()
	if f.stale.Load()+f.lost.Load() > 0 || f.pairs.Load() < pairs {
		t.Errorf("%d stale allows, %d lost writes in %d pairs of %d", f.stale.Load(), f.lost.Load(), f.pairs.Load(), pairs)
	}
}

func newFaulty(t *testing.T) *faulty {
	t.Helper()
	binary(t)
	program, err := steppable()
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{t: t, database: sqldbtest.NewServerWithClock(t)}
	s := newSplitOn(t, f.database.URL, 3)
	all := s.processesOf(replicated)
	late := newServer(t, all[0].databaseURL)
	late.units, late.flags = all[0].units, all[0].flags
	all = append(all, late)
	for _, one := range all {
		proxy := sqldbtest.NewProxy(t, one.databaseURL)
		one.databaseURL, one.program = proxy.URL, program
		f.proxies = append(f.proxies, proxy)
	}
	s.start()
	f.world = newWorld(t, s.server)
	on := &writer{world: f.world, cloud: f.world.cloud(t)}
	for n := range foldersOfPeople + 1 {
		if err := on.create(&folder{name: fmt.Sprintf("folder-%d", n)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, each := range on.folders[:foldersOfPeople] {
		for _, m := range f.world.members {
			f.people = append(f.people, person{m, each.id})
		}
	}
	last := on.folders[foldersOfPeople].id
	f.steady, f.timed = person{f.world.members[0], last}, person{f.world.members[1], last}
	for _, one := range all {
		f.replicas = append(f.replicas, &checkReplica{t: t, world: f.world, server: one, conn: dialOften(t, one.grpc)})
	}
	if !f.change(f.steady, give, time.Time{}, rand.New(rand.NewPCG(1, 1))) {
		t.FailNow()
	}
	return f
}

// dialOften connects to a process that comes and goes: it tries again soon, so that the
// first answers after a start are heard.
func dialOften(t testing.TB, address string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{BaseDelay: 10 * time.Millisecond, Multiplier: 1.5, MaxDelay: 100 * time.Millisecond}, MinConnectTimeout: time.Second,
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// always are the replicas that are there all the time.
func (f *faulty) always() []*checkReplica { return f.replicas[:len(f.replicas)-1] }

// there are the replicas that take calls, unless something is wrong with them.
func (f *faulty) there() []*checkReplica {
	if f.joined.Load() {
		return f.replicas
	}
	return f.always()
}

// pair gives a role and takes it, each by some replica until it is acknowledged, and asks
// all replicas after each.
func (f *faulty) pair(who person, random *rand.Rand) {
	for _, action := range []accesspb.AccessBindingAction{give, take} {
		if !f.change(who, action, time.Time{}, random) {
			return
		}
		for _, r := range f.there() {
			f.checks.Add(1)
			switch code := f.ask(r, who); {
			case code == codes.OK && action == take:
				f.stale.Add(1)
				f.t.Errorf("%s allows what was revoked", r.server.grpc)
			case code == codes.PermissionDenied && action == give:
				f.lost.Add(1)
				f.t.Errorf("%s denies what was granted", r.server.grpc)
			case code != codes.OK && code != codes.PermissionDenied:
				f.unavailable.Add(1)
			}
		}
	}
	f.pairs.Add(1)
}

// change sends a change until it is acknowledged: to another replica each time, with one
// key. What is given until a time ends then; the zero time is never.
func (f *faulty) change(who person, action accesspb.AccessBindingAction, until time.Time, random *rand.Rand) bool {
	ctx := metadata.AppendToOutgoingContext(f.world.as(f.world.owner), "idempotency-key", fmt.Sprintf("%x-%x", random.Uint64(), random.Uint64()))
	binding := &accessv1.AccessBinding{RoleId: viewerRole, Subject: &accessv1.Subject{Type: "userAccount", Id: who.member.id}}
	if !until.IsZero() {
		binding.ExpiresAt = timestamppb.New(until)
	}
	begun := time.Now()
	for time.Since(begun) < 2*time.Minute {
		all := f.there()
		call, cancel := context.WithTimeout(ctx, 10*time.Second)
		_, err := accessv1.NewAccessBindingServiceClient(all[random.IntN(len(all))].conn).UpdateAccessBindings(call, &accessv1.UpdateAccessBindingsRequest{
			Resource:            &accessv1.Resource{Type: folderType, Id: who.folder},
			AccessBindingDeltas: []*accessv1.AccessBindingDelta{{Action: action, AccessBinding: binding}},
		})
		cancel()
		switch status.Code(err) {
		case codes.OK:
			f.windows.wrote(begun)
			return true
		case codes.Unavailable, codes.DeadlineExceeded,
			codes.Unauthenticated: // by one whose clock is behind: the token is of the future
			f.again.Add(1)
			time.Sleep(20 * time.Millisecond) // between two attempts
		default:
			f.t.Errorf("a change: %v", err)
			return false
		}
	}
	f.t.Error("no replica acknowledged a change within two minutes")
	return false
}

// ask asks a replica whether a person may read the folder; what stands is not waited for.
func (f *faulty) ask(r *checkReplica, who person) codes.Code {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	on := *r
	on.folder = who.folder
	return status.Code(on.askAs(ctx, who.member.token))
}

// watch asks a replica about the steady person all the time, and notes for how long it
// does not answer.
func (f *faulty) watch(n int) {
	var since time.Time // since when it is silent
	for ; !f.ended.Load(); time.Sleep(10 * time.Millisecond) {
		switch code := f.ask(f.replicas[n], f.steady); {
		case code == codes.PermissionDenied:
			f.lost.Add(1)
			f.t.Errorf("%s denies what was granted long ago", f.replicas[n].server.grpc)
		case code != codes.OK && since.IsZero():
			since = time.Now()
		case code == codes.OK && !since.IsZero():
			f.windows.silent(n, since)
			since = time.Time{}
		}
	}
}

// backWithin is how long a replica may take to come back by itself.
const backWithin = time.Minute

// comeBack waits until all replicas answer: they do so by themselves.
func (f *faulty) comeBack() {
	for _, r := range f.always() {
		for deadline := time.Now().Add(backWithin); f.ask(r, f.steady) != codes.OK; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				f.t.Errorf("%s does not answer for %v after the fault has ended", r.server.grpc, backWithin)
				return
			}
		}
	}
}

// report logs what happened.
func (f *faulty) report() {
	took := time.Since(f.begun)
	f.t.Logf("%d pairs in %v (%.0f a second), %d checks (%d unavailable), %d calls sent again; %d stale allows, %d lost writes; a write took %s",
		f.pairs.Load(), took.Round(time.Second), float64(f.pairs.Load())/took.Seconds(), f.checks.Load(), f.unavailable.Load(), f.again.Load(),
		f.stale.Load(), f.lost.Load(), spread(f.windows.all))
	f.t.Logf("how long who was silent, in each kind of fault (median, p99, at most):\n%s", strings.Join(f.windows.lines(), "\n"))
}
