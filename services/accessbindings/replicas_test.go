package accessbindings

import (
	"context"
	"encoding/base64"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// brief are terms under which a test need not wait long for the end of a lease.
var brief = lease.Terms{Duration: 1500 * time.Millisecond, Margin: 500 * time.Millisecond, Renew: 200 * time.Millisecond}

// replica is one of several processes over one PostgreSQL, which reads the log only
// as the test lets it.
type replica struct {
	*world
	delay  atomic.Int64 // before each reading of the log, nanoseconds
	frozen atomic.Bool  // it reads nothing
}

// replicasOf starts n replicas on one store, in the world of populate.
func replicasOf(t *testing.T, n int, terms lease.Terms) []*replica {
	t.Helper()
	db := sqldbtest.Open(t, sqldb.PostgreSQL, Name, migrationsOf())
	var all []*replica
	for range n {
		r := new(replica)
		r.world = serveWith(t, db, func(ctx context.Context, base server.Base) (*Service, error) {
			s, err := newService(ctx, base, Config{}, terms)
			if err != nil {
				return nil, err
			}
			read := s.committer.replicas.catchUp
			s.committer.replicas.catchUp = func(ctx context.Context) error {
				time.Sleep(time.Duration(r.delay.Load()))
				if r.frozen.Load() {
					<-ctx.Done()
					return ctx.Err()
				}
				return read(ctx)
			}
			told := s.committer.replicas.told
			s.committer.replicas.told = func(of line, entries []entry) bool { // else it reads, as the test lets it
				return r.delay.Load() == 0 && !r.frozen.Load() && told(of, entries)
			}
			return s, nil
		})
		all = append(all, r)
	}
	all[0].populate()
	return all
}

// staleAllows gives and takes a role again and again, each time by another replica, and
// counts how often one of them still allows what is revoked, or still refuses what
// is granted, after the call that changed it has returned.
func staleAllows(t *testing.T, all []*replica, rounds int) (allowed, refusedToo int) {
	t.Helper()
	asks := func(want bool) (wrong int) {
		for _, r := range all {
			_, err := r.authorize(vera, getFolder, folder1)
			if code := apierr.CodeOf(apierr.FromRPC(err)); err != nil && code != codes.PermissionDenied {
				t.Fatal(err)
			}
			if (err == nil) != want {
				wrong++
			}
		}
		return wrong
	}
	for i := range rounds {
		writer := all[i%len(all)]
		writer.mustUpdate(adam, folder1, add(viewer, vera))
		refusedToo += asks(true)
		writer.mustUpdate(adam, folder1, remove(viewer, vera))
		allowed += asks(false)
	}
	return allowed, refusedToo
}

// Whichever replica takes a write, when it has acknowledged it no replica answers from
// before.
func TestAcknowledgedMeansEnforcedByEveryReplica(t *testing.T) {
	all := replicasOf(t, 3, lease.Default)
	for i, r := range all {
		r.delay.Store(int64(i) * int64(5*time.Millisecond)) // each lags differently
	}
	if allowed, refused := staleAllows(t, all, 60); allowed+refused > 0 {
		t.Errorf("%d times a replica allowed what was revoked, %d times it refused what was granted", allowed, refused)
	}
	for _, r := range all {
		r.sameAsStore()
	}
}

// The test above sees what it is for: without the barrier the others lag behind.
func TestWithoutTheBarrierReplicasAreStale(t *testing.T) {
	all := replicasOf(t, 2, lease.Default)
	all[1].delay.Store(int64(20 * time.Millisecond))
	writer := all[0].service.committer
	barrier := writer.replicas
	writer.replicas = nil // it waits for nobody but itself
	defer func() { writer.replicas = barrier }()
	all[0].mustUpdate(adam, folder1, add(viewer, vera))
	all[1].eventually("the other follows", func() error { _, err := all[1].authorize(vera, getFolder, folder1); return err })
	all[0].mustUpdate(adam, folder1, remove(viewer, vera))
	if _, err := all[1].authorize(vera, getFolder, folder1); err != nil {
		t.Errorf("the other replica is not stale: %v", err)
	}
}

// A replica that does not follow holds writes up until its lease has run out, once; it
// has stopped answering by then, and comes back by itself with what it missed.
func TestAReplicaThatLagsIsLeftBehind(t *testing.T) {
	all := replicasOf(t, 3, brief)
	writer, other, lagging := all[0], all[1], all[2]
	writer.mustUpdate(adam, folder1, add(viewer, vera))
	lagging.frozen.Store(true)
	begun := time.Now()
	writer.mustUpdate(adam, folder1, remove(viewer, vera))
	took := time.Since(begun)
	_, err := lagging.authorize(vera, getFolder, folder1)
	refused(t, err, codes.Unavailable, apierr.ReasonCheckerUnavailable)
	if err := lagging.service.Parts().Ready(t.Context()); err == nil {
		t.Error("it says it is ready")
	}
	_, err = other.authorize(vera, getFolder, folder1)
	refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	t.Logf("the write took %v, under a lease of %v and a margin of %v", took, brief.Duration, brief.Margin)

	begun = time.Now()
	other.mustUpdate(adam, folder1, add(editor, vera))
	if again := time.Since(begun); again > took/2 {
		t.Errorf("the next write took %v: it waited for the dead, too", again)
	}
	lagging.frozen.Store(false)
	lagging.eventually("it answers again", func() error { _, err := lagging.authorize(vera, getFolder, folder1); return err })
	lagging.sameAsStore()
	lagging.mustUpdate(adam, folder1, remove(editor, vera))
	if allowed, refused := staleAllows(t, all, 5); allowed+refused > 0 {
		t.Errorf("after it came back: %d stale allows, %d stale refusals", allowed, refused)
	}
}

// Who tells a state without changing it waits as well: a revoke that finds nothing left
// to remove says that the role is gone.
func TestARepeatedRevokeIsEnforced(t *testing.T) {
	all := replicasOf(t, 2, lease.Default)
	all[0].mustUpdate(adam, folder1, add(viewer, vera))
	all[1].delay.Store(int64(300 * time.Millisecond))
	first := make(chan struct{})
	go func() {
		defer close(first)
		all[0].mustUpdate(adam, folder1, remove(viewer, vera)) // waits for the other
	}()
	for { // until it is committed
		h, err := all[0].service.committer.store.head(t.Context(), all[0].db, false)
		all[0].must(err)
		if h.Revision > all[1].service.committer.graph.Revision() {
			break
		}
	}
	all[0].mustUpdate(adam, folder1, remove(viewer, vera)) // nothing is left to remove
	_, err := all[1].authorize(vera, getFolder, folder1)
	refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	<-first
}

// loseLast takes the newest revision out of the store, as a failover to a standby does
// that did not have it, of which nothing but a binding came.
func (w *world) loseLast() {
	w.t.Helper()
	for _, query := range []string{
		`DELETE FROM access_bindings WHERE number >= (SELECT revision FROM access_revision) * 1048576`,
		`DELETE FROM access_changes WHERE revision = (SELECT revision FROM access_revision)`,
		`UPDATE access_assignments SET pairs = pairs - 1 WHERE organization_id = 'org1'`,
		`UPDATE access_revision SET revision = revision - 1, write_id = (
			SELECT DISTINCT write_id FROM access_changes WHERE revision = (SELECT revision FROM access_revision) - 1)`,
	} {
		_, err := w.db.Pool().ExecContext(w.t.Context(), query)
		w.must(err)
	}
}

// comesBack waits until a replica answers, and wants no other answer before.
func (r *replica) comesBack(allowed bool) {
	r.t.Helper()
	r.eventually("it comes back by itself", func() error {
		_, err := r.authorize(vera, getFolder, folder1)
		switch code := apierr.CodeOf(apierr.FromRPC(err)); {
		case err == nil && allowed, code == codes.PermissionDenied && !allowed:
			return nil
		default:
			return fmt.Errorf("it answers %w", err)
		}
	})
}

// A store that lost commits has another line: the replicas notice, answer nothing from
// the one that is gone, and load what there is by themselves.
func TestReplicasLeaveALostLine(t *testing.T) {
	all := replicasOf(t, 2, brief)
	before := all[0].service.committer.graph.at()
	all[0].mustUpdate(adam, folder1, add(viewer, vera))
	all[0].loseLast()
	for _, r := range all {
		r.comesBack(false)
		if is := r.service.committer.graph.at(); is.line != (line{1, 2}) || is.revision != before.revision {
			t.Errorf("it is at %+v after %+v", is, before)
		}
	}
	all[1].mustUpdate(adam, folder1, add(viewer, vera)) // under the number that was lost
	if allowed, refused := staleAllows(t, all, 3); allowed+refused > 0 {
		t.Errorf("%d stale allows, %d stale refusals", allowed, refused)
	}
	all[0].sameAsStore()
}

// The store has gone on since it lost the commits, past the number that a replica knows.
func TestALostLineIsNoticedLate(t *testing.T) {
	all := replicasOf(t, 1, brief)
	r := all[0]
	r.mustUpdate(adam, folder1, add(viewer, vera))
	r.service.committer.replicas.told = func(line, []entry) bool { return true } // it is told, and does not look
	r.frozen.Store(true)
	r.loseLast()
	g, err := r.service.committer.store.load(t.Context(), testCatalog(t))
	r.must(err)
	other := newCommitter(r.db, g, r.service.operations, r.clock.now, r.service.log)
	other.start()
	defer other.close()
	for _, who := range []Subject{user("one"), user("two")} { // two writes of another program
		_, err := other.submit(t.Context(), &setSubject{subject: who, standing: standing{State: stateActive}, record: recordOf(t.Context(), "test", "Test")})
		r.must(err)
	}
	r.frozen.Store(false)
	r.comesBack(false)
	if is := r.service.committer.graph.at(); is.line != (line{1, 2}) {
		t.Errorf("it is at %+v", is)
	}
	r.sameAsStore()
}

// A promoted standby is another line, whatever it has lost.
func TestAnotherTimelineIsAnotherLine(t *testing.T) {
	r := replicasOf(t, 1, brief)[0]
	_, err := r.db.Pool().ExecContext(t.Context(), `UPDATE access_revision SET timeline = '00000000'`)
	r.must(err)
	r.eventually("it begins another line", func() error {
		if is := r.service.committer.graph.at(); is.line != (line{1, 2}) {
			return fmt.Errorf("it is at %+v", is)
		}
		return nil
	})
	r.comesBack(false)
	r.mustUpdate(adam, folder1, add(viewer, vera))
	r.comesBack(true)
}

// Who waits for a revision of a line that is lost is not told that it is in force.
func TestAWaitEndsWithItsLine(t *testing.T) {
	g := newGraph(testCatalog(t), line{1, 1})
	ended := make(chan error)
	go func() { ended <- g.await(t.Context(), line{1, 1}, 5) }()
	next := newGraph(testCatalog(t), line{1, 2})
	if err := next.strand.Load().Load(9, func(func(checker.Change, error) bool) {}); err != nil {
		t.Fatal(err)
	}
	g.replace(next)
	if err := <-ended; apierr.ReasonOf(err) != apierr.ReasonOutcomeUnknown {
		t.Errorf("it ended with %v", err)
	}
}

// Who restarts in the place of a dead replica need not wait for its lease.
func TestPredecessor(t *testing.T) {
	dir := t.TempDir()
	first, err := openPredecessor(dir)
	if err != nil || first == nil || first.id() != "" {
		t.Fatalf("in an empty directory: %v, %v", first, err)
	}
	for _, id := range []string{"rep-of-a-long-name", "rep2"} {
		if err := first.write(id); err != nil || first.id() != id {
			t.Fatalf("wrote %q, read %q, %v", id, first.id(), err)
		}
	}
	if second, err := openPredecessor(dir); second != nil || err != nil {
		t.Errorf("beside a living process: %v, %v", second, err)
	}
	if err := first.close(); err != nil {
		t.Fatal(err)
	}
	second, err := openPredecessor(dir)
	if err != nil || second.id() != "rep2" {
		t.Errorf("after its end: %q, %v", second.id(), err)
	}
	if err := second.close(); err != nil {
		t.Fatal(err)
	}
	if _, err := openPredecessor(filepath.Join(dir, "none")); err == nil {
		t.Error("in a directory that is not there: no error")
	}
}

// eventually waits until try succeeds.
func (w *world) eventually(what string, try func() error) {
	w.t.Helper()
	var err error
	for range 1000 {
		if err = try(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
	w.t.Fatalf("%s: %v", what, err)
}

// What is told of the log is what it says, and what is damaged is read there.
func TestTold(t *testing.T) {
	d := newDraft()
	for revision := range int64(3) {
		if err := d.enter(revision+7, fmt.Sprintf("w%d", revision), 1, []*accessv1.Change{placed(folder1, cloud1), {}}); err != nil {
			t.Fatal(err)
		}
	}
	raw := tell(line{3, 2}, d.log.Values)
	of, entries, err := heard(base64.StdEncoding.EncodeToString(raw), 0)
	if err != nil || of != (line{3, 2}) || len(entries) != 6 {
		t.Fatalf("line %v, %d entries, %v", of, len(entries), err)
	}
	for i, e := range entries {
		want := []*accessv1.Change{placed(folder1, cloud1), {}}[i%2]
		if e.Revision != int64(i/2+7) || e.WriteID != fmt.Sprintf("w%d", i/2) || !proto.Equal(e.Change, want) {
			t.Errorf("entry %d is %v", i, e)
		}
	}
	if _, some, err := heard(base64.StdEncoding.EncodeToString(raw), 8); err != nil || some[3].Change != nil || some[4].Change == nil {
		t.Errorf("from revision 9 on: %v, %v", some, err)
	}
	for n := 1; n < len(raw); n++ { // cut anywhere, it is refused or tells what comes first
		_, some, err := heard(base64.StdEncoding.EncodeToString(raw[:n]), 0)
		if err == nil && len(some) >= len(entries) {
			t.Errorf("%d of %d bytes tell everything", n, len(raw))
		}
	}
}
