package accessbindings

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	local "github.com/bindery-iam/bindery/pkg/authz/replica"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/lease"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// cable is the connection of a follower, which a test slows down and cuts.
type cable struct {
	grpc.ClientConnInterface
	as    context.Context //nolint:containedctx // its metadata is sent
	delay atomic.Int64    // before each message that arrives, nanoseconds
	cut   atomic.Bool     // nothing arrives and nothing leaves
}

func (l *cable) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	for l.cut.Load() {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
	if l.as != nil {
		md, _ := metadata.FromOutgoingContext(l.as)
		ctx = metadata.NewOutgoingContext(ctx, md)
	}
	s, err := l.ClientConnInterface.NewStream(ctx, desc, method, opts...)
	return slowStream{s, l}, err
}

type slowStream struct {
	grpc.ClientStream
	line *cable
}

func (s slowStream) RecvMsg(m any) error {
	if err := s.ClientStream.RecvMsg(m); err != nil {
		return err
	}
	time.Sleep(time.Duration(s.line.delay.Load()))
	for s.line.cut.Load() && s.Context().Err() == nil {
		time.Sleep(time.Millisecond)
	}
	return s.Context().Err()
}

func (s slowStream) SendMsg(m any) error {
	if s.line.cut.Load() {
		return nil
	}
	return s.ClientStream.SendMsg(m)
}

// elsewhere is a service that decides in its own process.
type elsewhere struct {
	*local.Replica
	line *cable
	stop func()
}

// follow starts a follower as a subject, or as a unit elsewhere.
func (w *world) follow(organization string, as Subject) *elsewhere {
	w.t.Helper()
	l := &cable{ClientConnInterface: w.Unit("kms", Name)}
	if as != (Subject{}) {
		l.ClientConnInterface, l.as = w.Conn, w.Subject(as.Type, as.ID)
	}
	ctx, stop := context.WithCancel(context.Background())
	e := &elsewhere{local.Start(ctx, local.Config{Conn: l, Organization: organization}), l, nil}
	e.stop = func() {
		stop()
		<-e.Done()
	}
	w.t.Cleanup(e.stop)
	return e
}

// ready waits until a follower answers.
func (w *world) ready(e *elsewhere) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	w.must(e.Ready(ctx))
}

// ask asks a follower about a subject.
func (e *elsewhere) ask(who Subject, permission string, r Ref) error {
	return e.Authorize(context.Background(), authn.Principal{Type: who.Type, ID: who.ID}, permission, authz.Resource{Type: r.Type, ID: r.ID})
}

// A service elsewhere answers what the checker does, from the moment a change is
// acknowledged on.
func TestFollowersAnswerWhatWasAcknowledged(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		one, all := w.follow(org1.ID, Subject{}), w.follow("", Subject{})
		w.ready(one)
		w.ready(all)
		for range 50 {
			w.mustUpdate(adam, folder1, add(viewer, vera))
			w.must(one.ask(vera, getFolder, folder1))
			w.must(all.ask(vera, getFolder, folder1))
			w.mustUpdate(adam, folder1, remove(viewer, vera))
			for _, e := range []*elsewhere{one, all} {
				refused(t, e.ask(vera, getFolder, folder1), codes.PermissionDenied, apierr.ReasonPermissionDenied)
			}
		}
		refused(t, one.ask(olga, "organization-manager.organizations.get", org2), codes.PermissionDenied, apierr.ReasonResourceNotFound)
		w.must(all.ask(olga, "organization-manager.organizations.get", org2))
		w.state(adam, stateSuspended)
		refused(t, one.ask(adam, getCloud, cloud1), codes.Unauthenticated, apierr.ReasonSubjectInactive)
	})
}

// A follower that is slow, or cut off, holds a write up for a lease and the margin at
// most, and has stopped to answer by then; it comes back by itself.
func TestAFollowerThatIsCutOffIsLeftBehind(t *testing.T) {
	sqldbtest.ForEach(t, Name, migrationsOf(), func(t *testing.T, db *sqldb.DB) {
		w := serveWith(t, db, withTerms(brief))
		w.populate()
		e := w.follow(org1.ID, Subject{})
		w.ready(e)
		w.mustUpdate(adam, folder1, add(viewer, vera))
		w.must(e.ask(vera, getFolder, folder1))
		e.line.cut.Store(true)
		begun := time.Now()
		w.mustUpdate(adam, folder1, remove(viewer, vera))
		took := time.Since(begun)
		refused(t, e.ask(vera, getFolder, folder1), codes.Unavailable, apierr.ReasonCheckerUnavailable)
		if took > brief.Duration+brief.Margin+2*time.Second {
			t.Errorf("the write took %v", took)
		}
		begun = time.Now()
		w.mustUpdate(adam, folder1, add(viewer, nick))
		if again := time.Since(begun); again > took/2 {
			t.Errorf("the next write took %v: it waited for who answers no more", again)
		}
		e.line.cut.Store(false)
		w.ready(e)
		refused(t, e.ask(vera, getFolder, folder1), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.must(e.ask(nick, getFolder, folder1))
	})
}

// withTerms builds the unit with other terms of leases.
func withTerms(terms lease.Terms) func(context.Context, server.Base) (*Service, error) {
	return func(ctx context.Context, base server.Base) (*Service, error) {
		return newService(ctx, base, Config{}, terms)
	}
}

// Followers of several replicas, each slow in its own way, answer from every change that
// was acknowledged, by whichever replica.
func TestFollowersOfReplicasAnswerWhatWasAcknowledged(t *testing.T) {
	replicas := replicasOf(t, 2, lease.Default)
	var all []*elsewhere
	for i, delay := range []time.Duration{0, 3 * time.Millisecond, 12 * time.Millisecond} {
		e := replicas[i%2].follow([]string{org1.ID, ""}[i%2], Subject{})
		replicas[0].ready(e)
		e.line.delay.Store(int64(delay))
		all = append(all, e)
	}
	if allowed, refused := staleFollowers(t, replicas, all, 60); allowed+refused > 0 {
		t.Errorf("%d times a follower allowed what was revoked, %d times it refused what was granted", allowed, refused)
	}
}

// staleFollowers is staleAllows for followers. One that has no right to answer is not wrong.
func staleFollowers(t *testing.T, writers []*replica, all []*elsewhere, rounds int) (allowed, refusedToo int) {
	t.Helper()
	asks := func(want bool) (wrong int) {
		for _, e := range all {
			switch err := e.ask(vera, getFolder, folder1); {
			case apierr.CodeOf(err) == codes.Unavailable:
			case err != nil && apierr.CodeOf(err) != codes.PermissionDenied:
				t.Fatal(err)
			case (err == nil) != want:
				wrong++
			}
		}
		return wrong
	}
	for i := range rounds {
		writer := writers[i%len(writers)]
		writer.mustUpdate(adam, folder1, add(viewer, vera))
		refusedToo += asks(true)
		writer.mustUpdate(adam, folder1, remove(viewer, vera))
		allowed += asks(false)
	}
	return allowed, refusedToo
}

// The tests above see what they are for: when nobody waits for followers they lag behind.
func TestWithoutTheBarrierFollowersAreStale(t *testing.T) {
	all := replicasOf(t, 2, lease.Default)
	e := all[1].follow(org1.ID, Subject{})
	all[0].ready(e)
	e.line.delay.Store(int64(30 * time.Millisecond))
	h := all[1].service.committer.graph.followers
	h.mu.Lock()
	h.terms.Margin = -time.Hour // none is held
	h.mu.Unlock()
	if allowed, _ := staleFollowers(t, all, []*elsewhere{e}, 10); allowed == 0 {
		t.Error("without the barrier the follower was never stale")
	}
}

// What a follower is sent: what decides in its organization, and nothing else. When that
// becomes more, or less, it begins anew.
func TestFollowersAreSentTheirOrganizationAlone(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.must(w.members(org1, []Subject{nick}, nil))
		w.must(w.members(org2, []Subject{vera}, nil))
		own, crew := w.group(org1, "crew"), w.group(org2, "crew")
		e := w.follow(org1.ID, olga)
		if err := readyWithin(e, time.Second); err == nil || !strings.Contains(err.Error(), "accessChanges.follow") { // an owner does not
			t.Errorf("without the permission: %v", err)
		}
		w.mustUpdate(olga, org1, add("organization-manager.accessChanges.follower", olga))
		w.ready(e)
		view := func() *checker.View { return e.Facts() }
		w.register(Ref{typeCloud, "elsewhere"}, org2, []Pair{{cloudOwner, carl}})
		w.must(w.change(crew, []Subject{vera}, nil))
		w.mustUpdate(olga, org1, add(viewer, olga)) // so that what came before has passed
		if view().Path(checker.Resource{Type: typeCloud, ID: "elsewhere"}) != nil || slices.Contains(view().Identities(checker.Subject(vera)), checker.Subject(group(crew.ID))) {
			t.Error("it was sent what is of another organization")
		}
		w.must(w.change(own, []Subject{nick}, nil))
		w.mustUpdate(adam, folder1, add(viewer, group(own.ID)))
		w.must(e.ask(nick, getFolder, folder1))
		refused(t, e.ask(vera, getFolder, folder1), codes.PermissionDenied, apierr.ReasonPermissionDenied)

		w.mustUpdate(adam, folder1, add(viewer, group(crew.ID))) // of the other organization
		w.ready(e)
		w.must(e.ask(vera, getFolder, folder1))
		w.must(w.change(crew, nil, []Subject{vera}))
		w.ready(e)
		refused(t, e.ask(vera, getFolder, folder1), codes.PermissionDenied, apierr.ReasonPermissionDenied)

		_, err := w.resources.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: cloud1.proto(), Parent: org2.proto()})
		w.must(err)
		w.ready(e)
		refused(t, e.ask(nick, getFolder, folder1), codes.PermissionDenied, apierr.ReasonResourceNotFound)
		_, err = w.resources.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: cloud1.proto(), Parent: org1.proto()})
		w.must(err)
		w.ready(e)
		w.must(e.ask(nick, getFolder, folder1))

		w.mustUpdate(olga, org1, remove("organization-manager.accessChanges.follower", olga))
		w.eventually("who may not follow any more is silent", func() error {
			if err := e.ask(nick, getFolder, folder1); apierr.CodeOf(err) != codes.Unavailable {
				return fmt.Errorf("it answers %w", err)
			}
			return nil
		})
	})
}

// readyWithin is why a follower was not ready within a time.
func readyWithin(e *elsewhere, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return e.Ready(ctx)
}
