package accessbindings

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// talk is a follower whose every word the test says.
type talk struct {
	*world
	grpc.BidiStreamingClient[accessv1.FollowRequest, accessv1.FollowResponse]
	stop     func()
	sequence int64
}

func (w *world) talk(organization string, from *accessv1.Position) *talk {
	w.t.Helper()
	ctx, stop := context.WithCancel(w.t.Context())
	w.t.Cleanup(stop)
	s, err := accessv1.NewChangeServiceClient(w.Unit("kms", Name)).Follow(ctx)
	w.must(err)
	w.must(s.Send(&accessv1.FollowRequest{Message: &accessv1.FollowRequest_Start_{
		Start: &accessv1.FollowRequest_Start{OrganizationId: organization, Position: from}}}))
	return &talk{w, s, stop, 0}
}

// until receives messages until one fits.
func (c *talk) until(fits func(*accessv1.FollowResponse) bool) *accessv1.FollowResponse {
	c.t.Helper()
	for {
		m, err := c.Recv()
		c.must(err)
		if fits(m) {
			return m
		}
	}
}

// snapshot receives a snapshot to its end.
func (c *talk) snapshot() *accessv1.Position {
	c.t.Helper()
	return c.until(func(m *accessv1.FollowResponse) bool { return m.GetFacts().GetPosition() != nil }).GetFacts().GetPosition()
}

func (c *talk) report(revision int64) {
	c.t.Helper()
	c.sequence++
	c.must(c.Send(&accessv1.FollowRequest{Message: &accessv1.FollowRequest_Report_{
		Report: &accessv1.FollowRequest_Report{Sequence: c.sequence, Revision: revision}}}))
}

// granted reports until it is granted the right to answer, and returns for how long.
func (c *talk) granted(revision int64) time.Duration {
	c.t.Helper()
	c.report(revision)
	g := c.until(func(m *accessv1.FollowResponse) bool { return m.GetGrant() != nil }).GetGrant()
	return time.Duration(g.GetDurationMicros()) * time.Microsecond
}

// Where a follower goes on from: a place in the history of this store, which the log
// still has, and from which no move between organizations has to be told.
func TestFollowFromAPosition(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		first := w.talk(org1.ID, nil)
		at := first.snapshot()
		first.stop()
		w.mustUpdate(adam, folder1, add(viewer, vera))
		w.mustUpdate(adam, folder1, add(viewer, nick))
		w.eventually("the tail is gone", func() error { // what follows is read from the log
			h := w.service.committer.graph.followers
			h.mu.Lock()
			defer h.mu.Unlock()
			if h.tail.on {
				return fmt.Errorf("it is there")
			}
			return nil
		})
		again := w.talk(org1.ID, at)
		if m, err := again.Recv(); err != nil || m.GetBegin().GetSnapshot() {
			t.Fatalf("from a good position: %v, %v", m, err)
		}
		for n := range int64(2) {
			m := again.until(func(m *accessv1.FollowResponse) bool { return m.GetRevision() != nil }).GetRevision()
			if m.GetPosition().GetRevision() != at.GetRevision()+1+n || len(m.GetChanges()) != 1 {
				t.Errorf("change %d: %v", n, m)
			}
		}
		again.stop()
		for what, bad := range map[string]struct {
			change func(*accessv1.Position)
			code   codes.Code
			reason string
		}{
			"another epoch":     {func(p *accessv1.Position) { p.Epoch++ }, codes.FailedPrecondition, "FOLLOWED_LINE_LOST"},
			"another write":     {func(p *accessv1.Position) { p.Line = "another" }, codes.FailedPrecondition, "FOLLOWED_LINE_LOST"},
			"another catalogue": {func(p *accessv1.Position) { p.Catalog = []byte("x") }, codes.FailedPrecondition, "FOLLOWED_LINE_LOST"},
			"after the head":    {func(p *accessv1.Position) { p.Revision = 1 << 40 }, codes.FailedPrecondition, "FOLLOWED_LINE_LOST"},
			"before the log":    {func(p *accessv1.Position) { p.Revision = 0 }, codes.OutOfRange, "FOLLOWED_TOO_OLD"},
		} {
			p := proto.CloneOf(at)
			bad.change(p)
			_, err := w.talk(org1.ID, p).Recv()
			t.Log(what)
			refused(t, err, bad.code, bad.reason)
		}
		_, err := w.resources.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: cloud1.proto(), Parent: org2.proto()})
		w.must(err)
		moved := w.talk(org1.ID, at)
		moved.until(func(m *accessv1.FollowResponse) bool {
			if m.GetRevision() != nil && m.GetRevision().GetPosition().GetRevision() > at.GetRevision()+2 {
				t.Fatalf("a move out of the organization is passed over: %v", m)
			}
			return m.GetBegin().GetSnapshot()
		})
	})
}

// Who follows and never applies anything delays a write for a lease and the margin, and
// who does so again and again is granted nothing for a while.
func TestAFollowerThatNeverAppliesIsBarred(t *testing.T) {
	w := serveWith(t, sqldbtest.Open(t, sqldb.SQLite, Name, migrationsOf()), withTerms(brief))
	w.populate()
	c := w.talk(org1.ID, nil)
	at := c.snapshot().GetRevision()
	if d := c.granted(at); d <= 0 || d > brief.Duration {
		t.Fatalf("granted %v", d)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { // it stays, and reports that it has what it had
		for n := int64(1000); ctx.Err() == nil; n++ {
			_ = c.Send(&accessv1.FollowRequest{Message: &accessv1.FollowRequest_Report_{Report: &accessv1.FollowRequest_Report{Sequence: n, Revision: at}}})
			time.Sleep(brief.Renew)
		}
	}()
	begun := time.Now()
	w.mustUpdate(adam, folder1, add(viewer, vera))
	took := time.Since(begun)
	if took < brief.Margin || took > brief.Duration+brief.Margin+2*time.Second {
		t.Errorf("the write took %v, under a lease of %v and a margin of %v", took, brief.Duration, brief.Margin)
	}
	begun = time.Now()
	w.mustUpdate(adam, folder1, remove(viewer, vera))
	if again := time.Since(begun); again > brief.Margin {
		t.Errorf("the next write took %v: it waited for who applies nothing", again)
	}
	h := w.service.committer.graph.followers
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.strikes) != 1 {
		t.Errorf("nobody has noticed: %v", h.strikes)
	}
	for f := range h.all {
		if h.strikes[f.subject] = (strike{count: 3, bar: h.clock() + time.Hour}); h.right(f) != 0 {
			t.Error("who is barred is granted the right to answer")
		}
	}
}

// Nor does it help to go and come again: who goes without giving its right back holds
// writes up until it has ended, and is barred for it the second time.
func TestAFollowerThatComesAndGoesIsBarred(t *testing.T) {
	w := serveWith(t, sqldbtest.Open(t, sqldb.SQLite, Name, migrationsOf()), withTerms(brief))
	w.populate()
	for range 2 {
		c := w.talk(org1.ID, nil)
		c.granted(c.snapshot().GetRevision())
		c.stop()
	}
	h := w.service.committer.graph.followers
	w.eventually("it is barred", func() error {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, s := range h.strikes {
			if s.count == 2 && s.bar > h.clock() {
				return nil
			}
		}
		return fmt.Errorf("strikes: %v", h.strikes)
	})
}

// There is room for so many, and a process that ends lets them go.
func TestFollowersHaveBounds(t *testing.T) {
	w := serve(t, sqldbtest.Open(t, sqldb.SQLite, Name, migrationsOf()))
	w.populate()
	h := w.service.committer.graph.followers
	for range maxFollowersEach {
		if _, err := w.talk(org1.ID, nil).Recv(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := w.talk(org1.ID, nil).Recv()
	refused(t, err, codes.ResourceExhausted, "FOLLOWERS_TOO_MANY")
	one := w.talk(org2.ID, nil)
	one.granted(one.snapshot().GetRevision())
	one.must(one.Send(&accessv1.FollowRequest{Message: &accessv1.FollowRequest_Start_{Start: &accessv1.FollowRequest_Start{}}}))
	for err = nil; err == nil; {
		_, err = one.Recv()
	}
	refused(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
	last := w.talk(org2.ID, nil)
	last.snapshot()
	h.stop()
	last.until(func(m *accessv1.FollowResponse) bool { return m.GetLeave() != nil })
	last.must(last.Send(&accessv1.FollowRequest{Message: &accessv1.FollowRequest_Report_{Report: &accessv1.FollowRequest_Report{Sequence: 9, Released: true}}}))
	for err = nil; err == nil; {
		_, err = last.Recv()
	}
	refused(t, err, codes.Unavailable, apierr.ReasonUnavailable)
}

// Who starts in the place of a process that had followers waits for as long as they may
// answer; who starts after one that let them go does not.
func TestFollowersOutliveTheirProcess(t *testing.T) {
	db := sqldbtest.Open(t, sqldb.SQLite, Name, migrationsOf())
	w := serveWith(t, db, withTerms(brief))
	w.populate()
	c := w.talk(org1.ID, nil)
	c.granted(c.snapshot().GetRevision())
	heir := func() *committer {
		g, err := w.service.committer.store.load(t.Context(), testCatalog(t))
		w.must(err)
		g.followers.terms = brief
		k := newCommitter(db, g, w.service.operations, w.clock.now, w.service.log)
		w.must(k.alone(t.Context()))
		return k
	}
	g := heir().graph
	at := g.Revision()
	w.must(g.Apply(at+1, checker.SetSubject{Subject: checker.Subject(vera), State: checker.Active}))
	begun := time.Now()
	if got := g.settled(); got != at {
		t.Errorf("beside a follower of its predecessor %d is settled, want %d", got, at)
	}
	w.must(g.settle(t.Context(), g.now(), at+1))
	if took := time.Since(begun); took < brief.Duration {
		t.Errorf("it waited for %v, and a right lasts %v", took, brief.Duration)
	}
	c.stop()
	h := w.service.committer.graph.followers
	w.eventually("they are gone", func() error {
		if free, err := h.unnote(t.Context()); !free || err != nil {
			return fmt.Errorf("not yet: %w", err)
		}
		return nil
	})
	free := heir().graph
	w.must(free.Apply(free.Revision()+1, checker.SetSubject{Subject: checker.Subject(vera), State: checker.Active}))
	if got := free.settled(); got != free.Revision() {
		t.Errorf("after the followers were let go %d is settled, want %d", got, free.Revision())
	}
}

// The followers of a replica that is cut off from the store fall silent before it is
// declared dead, and come back with it.
func TestFollowersOfADeadReplicaFallSilent(t *testing.T) {
	all := replicasOf(t, 2, brief)
	writer, lagging := all[0], all[1]
	e := lagging.follow(org1.ID, Subject{})
	writer.ready(e)
	writer.mustUpdate(adam, folder1, add(viewer, vera))
	writer.must(e.ask(vera, getFolder, folder1))
	lagging.frozen.Store(true)
	writer.mustUpdate(adam, folder1, remove(viewer, vera))
	err := e.ask(vera, getFolder, folder1)
	if lagging.service.committer.graph.Revision() < writer.service.committer.graph.Revision() {
		refused(t, err, codes.Unavailable, apierr.ReasonCheckerUnavailable)
	} else { // a reading that was under way had the change
		refused(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
	}
	lagging.frozen.Store(false)
	writer.ready(e)
	refused(t, e.ask(vera, getFolder, folder1), codes.PermissionDenied, apierr.ReasonPermissionDenied)
}

// Who restarts in the place of a killed replica does not end the lease of one that had
// followers: they may answer still.
func TestALeaseWithFollowersRunsOut(t *testing.T) {
	w := replicasOf(t, 1, lease.Default)[0]
	r := w.service.committer.replicas
	rows := func() (n int) {
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM access_replicas WHERE id = $1`, r.name()).Scan(&n))
		return n
	}
	row, err := r.note(t.Context(), true)
	w.must(err)
	w.must(r.take(t.Context(), row, anyRenewal))
	if rows() != 1 {
		t.Error("the row of a replica with followers was taken away")
	}
	_, err = r.note(t.Context(), false)
	w.must(err)
	w.must(r.take(t.Context(), row, anyRenewal))
	if rows() != 0 {
		t.Error("the row of a replica without followers is there")
	}
	if _, err := r.note(t.Context(), true); err == nil {
		t.Error("who has lost its row notes that it has followers, and may grant them something")
	}
}
