package e2e

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

// Shape of BenchmarkWrites.
const (
	benchReplicas = 3
	benchWriters  = 64
	benchFolders  = 32
)

// BenchmarkWrites changes access bindings by three replicas of the checker over one
// PostgreSQL, by gRPC at their own addresses, and reports
//
//	p50-ms, p99-ms   one writer: from the call until it is acknowledged, which is until
//	                 the change is enforced by all replicas
//	writes/s         64 writers, acknowledged
//	raw-commits/s    64 connections to the same PostgreSQL, a row and a commit each
//	write-ratio      the one over the other: the median of turns, which alternate
//
// Data, change, audit and revision rows of a write are all there, and an operation.
// PostgreSQL syncs its commits to disk.
func BenchmarkWrites(b *testing.B) {
	database := sqldbtest.NewDurableServer(b)
	s := newSplitOn(b, database.URL, benchReplicas)
	s.start()
	w := newWriteBench(b, s)
	pool, err := pgxpool.New(b.Context(), database.URL+"&pool_max_conns=64")
	if err != nil {
		b.Fatal(err)
	}
	defer pool.Close()
	if _, err := pool.Exec(b.Context(), `CREATE TABLE raw (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload TEXT NOT NULL)`); err != nil {
		b.Fatal(err)
	}
	raw := func(int) error {
		_, err := pool.Exec(b.Context(), `INSERT INTO raw (payload) VALUES ($1)`, "a row of about the size of a binding, which is some hundred bytes")
		return err
	}
	const turn = 3 * time.Second
	w.drive(b, time.Second, benchWriters, w.write) // warm up
	w.drive(b, time.Second, benchWriters, raw)
	for range b.N {
		var ratios, made, commits []float64
		for range 5 {
			writes, _ := w.drive(b, turn, benchWriters, w.write)
			rows, _ := w.drive(b, turn, benchWriters, raw)
			ratios, made, commits = append(ratios, writes/rows), append(made, writes), append(commits, rows)
		}
		_, alone := w.drive(b, turn, 1, w.write)
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(median(ratios), "write-ratio")
		b.ReportMetric(median(made), "writes/s")
		b.ReportMetric(median(commits), "raw-commits/s")
		b.ReportMetric(alone[len(alone)/2].Seconds()*1e3, "p50-ms")
		b.ReportMetric(alone[len(alone)*99/100].Seconds()*1e3, "p99-ms")
	}
}

func median(all []float64) float64 {
	slices.Sort(all)
	return all[len(all)/2]
}

// writeBench is what the writers of a benchmark change: each gives a role to a user of
// its own and takes it, on one of several folders.
type writeBench struct {
	world   *world
	folders []string
	clients []accessv1.AccessBindingServiceClient // of the replicas
	turns   [benchWriters]int
}

func newWriteBench(b *testing.B, s *split) *writeBench {
	b.Helper()
	world := newWorld(b, s.server)
	w := &writeBench{world: world}
	creator := &writer{world: world, cloud: world.cloud(b)}
	for i := range benchFolders {
		f := &folder{name: fmt.Sprintf("folder-%d", i)}
		if err := creator.create(f); err != nil {
			b.Fatal(err)
		}
		w.folders = append(w.folders, f.id)
	}
	for _, one := range s.processesOf(replicated) {
		conn := dialPlain(b, one.grpc)
		w.clients = append(w.clients, accessv1.NewAccessBindingServiceClient(conn))
	}
	return w
}

// write makes one change by a writer.
func (w *writeBench) write(n int) error {
	action := accesspb.AccessBindingAction_ADD
	if w.turns[n]++; w.turns[n]%2 == 0 {
		action = accesspb.AccessBindingAction_REMOVE
	}
	role := []string{viewerRole, "editor", "auditor", "resource-manager.viewer"}[n/benchFolders%4]
	_, err := w.clients[n%len(w.clients)].UpdateAccessBindings(w.world.as(w.world.owner), &accessv1.UpdateAccessBindingsRequest{
		Resource: &accessv1.Resource{Type: folderType, Id: w.folders[n%len(w.folders)]},
		AccessBindingDeltas: []*accessv1.AccessBindingDelta{{Action: action, AccessBinding: &accessv1.AccessBinding{
			RoleId: role, Subject: &accessv1.Subject{Type: "userAccount", Id: w.world.members[n%writers].id},
		}}},
	})
	return err
}

// drive calls for a while by so many callers, and returns calls per second and how long
// each took, in order.
func (w *writeBench) drive(b *testing.B, lasting time.Duration, callers int, call func(n int) error) (rate float64, took []time.Duration) {
	b.Helper()
	var failure atomic.Pointer[error]
	var mu sync.Mutex
	var all sync.WaitGroup
	begun := time.Now()
	for n := range callers {
		all.Go(func() {
			var mine []time.Duration
			for time.Since(begun) < lasting && failure.Load() == nil {
				at := time.Now()
				if err := call(n); err != nil {
					failure.Store(&err)
					return
				}
				mine = append(mine, time.Since(at))
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, mine...)
		})
	}
	all.Wait()
	if err := failure.Load(); err != nil {
		b.Fatal(*err)
	}
	slices.Sort(took)
	return float64(len(took)) / time.Since(begun).Seconds(), took
}
