package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// TestDatabaseRestarts ends PostgreSQL in the middle of concurrent writes, in turn
// as an operator does, in a hurry, and by the death of its first process.
func TestDatabaseRestarts(t *testing.T) {
	binary(t)
	database := sqldbtest.NewServer(t)
	w := newWorld(t, startServer(t, database.URL))
	ends := []func(){
		func() { database.Stop(sqldbtest.Fast) },
		func() { database.Stop(sqldbtest.Immediate) },
		database.Kill,
	}
	w.endure(t, times(t, "BINDERY_CRASH_RESTARTS", 3, 9), func(round int, random *rand.Rand) {
		ends[round%len(ends)]()
		away := time.Duration(random.IntN(300)) * time.Millisecond
		if round%6 == 5 {
			away = 3 * time.Second // longer than the server waits by itself
		}
		time.Sleep(away)
		database.Start()
	})
}

// TestCutConnections breaks connections to PostgreSQL around COMMIT, where it is
// not to be told from the outside whether a change was made, and now and then all
// of them at once.
func TestCutConnections(t *testing.T) {
	binary(t)
	proxy := sqldbtest.NewProxy(t, sqldbtest.URL(t))
	w := newWorld(t, startServer(t, proxy.URL))
	points := []sqldbtest.Cut{sqldbtest.BeforeCommit, sqldbtest.AfterCommit, sqldbtest.DuringCommit, sqldbtest.AfterStatement}
	w.endure(t, times(t, "BINDERY_CRASH_CUTS", 16, 40), func(round int, _ *rand.Rand) {
		if round%8 == 7 {
			proxy.CutAll()
			return
		}
		select {
		case <-proxy.Cut(points[round%len(points)]):
		case <-time.After(patience):
			t.Errorf("round %d: nothing was cut", round)
		}
	})
}

// TestKillOne kills one process of split units after the other in the middle of
// concurrent writes, in any order, and starts it again.
func TestKillOne(t *testing.T) {
	binary(t)
	s := startSplit(t)
	w := newWorld(t, s.server)
	w.endure(t, times(t, "BINDERY_CRASH_ROUNDS", 3, 12), func(_ int, random *rand.Rand) {
		one := s.processes[random.IntN(len(s.processes))]
		one.kill()
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		one.await(one.launch())
	})
}

// endure has clients write that send again what was UNAVAILABLE, while faults
// happen, and then looks: nothing acknowledged is lost, nothing is half there,
// nothing was done twice, nothing is allowed that must not be. It logs how long it
// took, after each fault had ended, until a write was acknowledged.
func (w *world) endure(t *testing.T, rounds int, fault func(round int, random *rand.Rand)) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	w.persist(t)
	all := w.writers(t, 0, random)
	probe := &folder{name: "probe"}
	prober := &writer{world: w, cloud: w.cloud(t)}
	if err := prober.create(probe); err != nil {
		t.Fatal(err)
	}
	var done atomic.Bool
	var running sync.WaitGroup
	for _, each := range all {
		running.Go(func() {
			for !done.Load() {
				if err := each.change(); err != nil {
					t.Errorf("writer %d: %v", each.n, err)
					return
				}
			}
		})
	}
	var took []time.Duration
	for round := range rounds {
		time.Sleep(time.Duration(random.IntN(200)) * time.Millisecond)
		fault(round, random)
		began := time.Now()
		if err := prober.set(probe, round%2 == 0); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		took = append(took, time.Since(began))
		if t.Failed() {
			break
		}
	}
	done.Store(true)
	running.Wait()
	if t.Failed() {
		t.FailNow()
	}
	all = append(all, prober)
	w.each(t, all, (*writer).verify)
	w.each(t, all, (*writer).settle)
	w.each(t, all, (*writer).verify)
	w.each(t, all, (*writer).once)
	slices.Sort(took)
	t.Logf("%d faults, %d answers, %d calls sent again; a write acknowledged after %v at the median, %v at most",
		rounds, w.persistent.count(), w.persistent.again.Load(), took[rounds/2].Round(time.Millisecond), took[rounds-1].Round(time.Millisecond))
}

// once checks that the operations on a folder are those that were answered: a
// change that was made twice would have left another.
func (w *writer) once() error {
	for _, f := range w.folders {
		if f.gone.is {
			continue
		}
		var token string
		for {
			list, err := w.world.folders().ListOperations(w.as(w.owner), &rmv1.ListFolderOperationsRequest{FolderId: f.id, PageSize: 1000, PageToken: token})
			if err != nil {
				return err
			}
			for _, op := range list.GetOperations() {
				if !w.persistent.answered(op.GetId()) {
					return fmt.Errorf("%s %s: nobody was answered by %v", f.name, f.id, op)
				}
			}
			if token = list.GetNextPageToken(); token == "" {
				break
			}
		}
	}
	return nil
}

// A database that answers slowly holds nobody beyond his deadline, and no check at
// all.
func TestSlowDatabase(t *testing.T) {
	binary(t)
	proxy := sqldbtest.NewProxy(t, sqldbtest.URL(t))
	w := newWorld(t, startServer(t, proxy.URL))
	f := &writer{world: w, n: 0, cloud: w.cloud(t), random: rand.New(rand.NewPCG(1, 1))}
	one := &folder{name: "one"}
	if err := f.create(one); err != nil {
		t.Fatal(err)
	}
	proxy.Delay(3 * time.Second)
	const deadline = 500 * time.Millisecond
	calls := map[string]func(ctx context.Context) error{
		"read": func(ctx context.Context) error {
			_, err := w.folders().Get(ctx, &rmv1.GetFolderRequest{FolderId: one.id})
			return err
		},
		"write": func(ctx context.Context) error {
			_, err := w.folders().Create(ctx, &rmv1.CreateFolderRequest{CloudId: f.cloud, Name: "two"})
			return err
		},
		"grant": func(ctx context.Context) error {
			_, err := w.folders().SetAccessBindings(ctx, &accesspb.SetAccessBindingsRequest{ResourceId: one.id, AccessBindings: []*accesspb.AccessBinding{f.viewer()}})
			return err
		},
		"operation": func(ctx context.Context) error {
			_, err := w.operations().Get(ctx, &operationpb.GetOperationRequest{OperationId: f.operations[0].id})
			return err
		},
	}
	for name, call := range calls {
		ctx, cancel := context.WithTimeout(w.as(w.owner), deadline)
		began := time.Now()
		err := call(ctx)
		cancel()
		if took := time.Since(began); status.Code(err) != codes.DeadlineExceeded || took > 2*deadline {
			t.Errorf("%s: %v after %v, want the deadline of %v", name, err, took, deadline)
		}
		began = time.Now()
		if allowed, err := w.allowed(w.owner, one.id); !allowed || err != nil || time.Since(began) > deadline {
			t.Errorf("check beside a %s: %t, %v after %v", name, allowed, err, time.Since(began))
		}
	}
	proxy.Delay(0)
	if err := eventually(func() error { return f.create(&folder{name: "three"}) }); err != nil {
		t.Errorf("once it is fast again: %v", err)
	}
}

// A database that takes no connections, or no changes, costs neither a check nor a
// read more than it must; its refusals are no secret's way out, and leave nothing.
func TestDatabaseRefuses(t *testing.T) {
	s := startSplit(t)
	w := newWorld(t, s.server)
	f := &writer{world: w, cloud: w.cloud(t)}
	if err := f.create(&folder{name: "one"}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, refuse, allow string }{
		{"no connections", `CONNECTION LIMIT 0`, `CONNECTION LIMIT -1`},
		{"no changes", `SET default_transaction_read_only = on`, `RESET default_transaction_read_only`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.alterDatabase(t, tt.refuse)
			ctx, cancel := context.WithTimeout(w.as(w.owner), patience)
			defer cancel()
			req := &rmv1.CreateFolderRequest{CloudId: f.cloud, Name: strings.ReplaceAll(tt.name, " ", "-")}
			_, err := w.folders().Create(ctx, req)
			if text := status.Convert(err).Message(); status.Code(err) != codes.Unavailable || strings.Contains(text, "SQLSTATE") {
				t.Errorf("create: %v, want UNAVAILABLE without internal text", err)
			}
			if allowed, err := w.allowed(w.owner, f.folders[0].id); !allowed || err != nil {
				t.Errorf("check: %t, %v", allowed, err)
			}
			s.alterDatabase(t, tt.allow)
			if err := eventually(func() error { _, err := w.folders().Create(w.as(w.owner), req); return err }); err != nil {
				t.Errorf("create afterwards: %v", err)
			}
		})
	}
}

// alterDatabase changes a property of the database of all units, and ends the
// connections that do not know it yet.
func (s *split) alterDatabase(t *testing.T, property string) {
	t.Helper()
	conf, err := pgx.ParseConfig(s.unit["identity"].databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	conf.User = "bindery" // whose database it is
	conf.RuntimeParams["default_transaction_read_only"] = "off"
	conn, err := pgx.ConnectConfig(t.Context(), conf)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for _, statement := range []string{
		`ALTER DATABASE ` + pgx.Identifier{conf.Database}.Sanitize() + ` ` + property,
		`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()`,
	} {
		if _, err := conn.Exec(t.Context(), statement); err != nil {
			t.Fatalf("%s: %v", statement, err)
		}
	}
}

// TestTwoProcesses starts a second process on the file of the first: it says why
// it does not start, and the first goes on.
func TestTwoProcesses(t *testing.T) {
	s := startServer(t, "")
	second := newServer(t, "")
	second.dataDir = s.dataDir
	for range second.launch() {
		t.Error("the second process was ready")
	}
	err := <-second.exited
	second.cmd = nil
	if text := string(second.log.tail(4 << 10)); err == nil || !strings.Contains(text, "in use by another bindery process") {
		t.Errorf("the second process ended with %v and said %q", err, text)
	}
	s.createUser("owner")
	if err := s.cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the first process: %v", err)
	}
}

// cloud makes a cloud in the organization.
func (w *world) cloud(t testing.TB) string {
	t.Helper()
	op, err := w.clouds().Create(w.as(w.owner), &rmv1.CreateCloudRequest{OrganizationId: w.org, Name: "cloud-" + strconv.Itoa(int(time.Now().UnixMilli()))})
	if err != nil {
		t.Fatal(err)
	}
	var cloud rmv1.Cloud
	if err := op.GetResponse().UnmarshalTo(&cloud); err != nil {
		t.Fatal(err)
	}
	return cloud.GetId()
}
