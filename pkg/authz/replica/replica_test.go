package replica

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/facts"
	"github.com/bindery-iam/bindery/pkg/lease"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// hand is a clock that a test moves.
type hand struct{ now atomic.Int64 }

func (h *hand) read() time.Duration     { return time.Duration(h.now.Load()) }
func (h *hand) advance(d time.Duration) { h.now.Add(int64(d)) }

// script is a server that does what a test says.
type script struct {
	accessv1.UnimplementedChangeServiceServer
	t       *testing.T
	streams chan *conversation
}

// conversation is one stream.
type conversation struct {
	t     *testing.T
	start *accessv1.FollowRequest_Start
	grpc.BidiStreamingServer[accessv1.FollowRequest, accessv1.FollowResponse]
	end chan error
}

func (s *script) Follow(stream grpc.BidiStreamingServer[accessv1.FollowRequest, accessv1.FollowResponse]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	c := &conversation{s.t, first.GetStart(), stream, make(chan error, 1)}
	s.streams <- c
	select {
	case err := <-c.end:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

func (c *conversation) send(m *accessv1.FollowResponse) {
	c.t.Helper()
	if err := c.Send(m); err != nil {
		c.t.Error(err)
	}
}

func (c *conversation) begin(snapshot bool) {
	c.t.Helper()
	b := &accessv1.FollowResponse_Begin{Epoch: 1, Snapshot: snapshot, ReportEveryMicros: time.Hour.Microseconds()}
	if snapshot {
		b.Catalog = &accessv1.FollowResponse_Catalog{
			Permissions: []string{"things.get", "things.set"},
			Roles:       []*accessv1.FollowResponse_Catalog_Role{{Id: "reader", Permissions: []int32{0}}},
			Policies:    []*accessv1.FollowResponse_Catalog_Policy{{Id: "denyReading", Denies: []string{"things.get"}}},
		}
	}
	c.send(&accessv1.FollowResponse{Event: &accessv1.FollowResponse_Begin_{Begin: b}})
}

func (c *conversation) encode(changes []checker.Change) (all []*accessv1.Change) {
	c.t.Helper()
	for _, f := range changes {
		m, err := facts.Encode(f)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

func at(revision int64) *accessv1.Position {
	return &accessv1.Position{Epoch: 1, Revision: revision, Line: "w"}
}

func (c *conversation) facts(revision int64, changes ...checker.Change) {
	c.t.Helper()
	c.send(&accessv1.FollowResponse{Event: &accessv1.FollowResponse_Facts_{Facts: &accessv1.FollowResponse_Facts{Changes: c.encode(changes), Position: at(revision)}}})
}

func (c *conversation) revision(revision int64, changes ...checker.Change) {
	c.t.Helper()
	c.send(&accessv1.FollowResponse{Event: &accessv1.FollowResponse_Revision_{Revision: &accessv1.FollowResponse_Revision{Changes: c.encode(changes), Position: at(revision)}}})
}

// report is the next report.
func (c *conversation) report() *accessv1.FollowRequest_Report {
	c.t.Helper()
	m, err := c.Recv()
	if err != nil {
		c.t.Fatalf("no report: %v", err)
	}
	return m.GetReport()
}

func (c *conversation) grant(sequence int64, d time.Duration, now int64) {
	c.t.Helper()
	c.send(&accessv1.FollowResponse{Event: &accessv1.FollowResponse_Grant_{Grant: &accessv1.FollowResponse_Grant{
		Sequence: sequence, DurationMicros: d.Microseconds(), Time: timestamppb.New(time.UnixMicro(now)),
	}}})
}

// follower starts a replica of a script.
func follower(t *testing.T, patience time.Duration) (*Replica, *script, *hand) {
	t.Helper()
	s := &script{t: t, streams: make(chan *conversation, 1)}
	listener, server := bufconn.Listen(1<<20), grpc.NewServer()
	accessv1.RegisterChangeServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient("passthrough:///script", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	h := new(hand)
	h.advance(time.Hour)
	ctx, stop := context.WithCancel(context.Background())
	r := start(ctx, Config{Conn: conn, Organization: "org", Patience: patience}, h.read)
	t.Cleanup(func() { stop(); <-r.Done() })
	return r, s, h
}

var (
	ann    = authn.Principal{Type: checker.UserAccount, ID: "ann"}
	thing  = authz.Resource{Type: "thing", ID: "1"}
	onIt   = checker.Resource{Type: "thing", ID: "1"}
	annsID = checker.Subject{Type: checker.UserAccount, ID: "ann"}
	given  = checker.Bind{Resource: onIt, Subject: annsID, Role: "reader"}
	world  = []checker.Change{checker.Place{Resource: onIt}, checker.SetSubject{Subject: annsID, State: checker.Active}, given}
)

func (r *Replica) wants(t *testing.T, code codes.Code, when string) {
	t.Helper()
	if err := r.Authorize(t.Context(), ann, "things.get", thing); apierr.CodeOf(err) != code {
		t.Errorf("%s: %v, want %v", when, err, code)
	}
}

// soon waits for what the replica does beside the test.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1000 {
		if is() {
			return
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
	t.Fatalf("%s: not within 5 s", what)
}

func (r *Replica) holds() bool { _, err := r.right(); return err == nil }

func TestARightIsCountedFromBeforeItWasAskedFor(t *testing.T) {
	r, s, h := follower(t, 0)
	r.wants(t, codes.Unavailable, "before anything came")
	c := <-s.streams
	c.begin(true)
	if !c.report().GetReleased() {
		t.Fatal("before a snapshot it does not say that it has no right")
	}
	c.facts(7, world...)
	asked := c.report()
	if asked.GetRevision() != 7 || asked.GetReleased() {
		t.Fatalf("after the snapshot of 7 it reports %v", asked)
	}
	r.wants(t, codes.Unavailable, "with facts and no right")
	h.advance(2 * time.Second) // the answer took its time
	c.grant(asked.GetSequence(), 5*time.Second, 1_000_000)
	soon(t, "the right", r.holds)
	r.wants(t, codes.OK, "with the right")
	if now, _ := r.right(); now != 3_000_000 {
		t.Errorf("the store's time is taken for %d µs, want that of the answer and what has passed since the question", now)
	}
	h.advance(3*time.Second - 1)
	r.wants(t, codes.OK, "until the very end")
	h.advance(1)
	r.wants(t, codes.Unavailable, "five seconds after it was asked for")
	c.grant(99, time.Hour, 0) // answers nothing that was asked
	c.revision(8)
	soon(t, "the revision", func() bool { return r.Revision() == 8 })
	r.wants(t, codes.Unavailable, "after an answer to no question")
}

func TestChangesAreInForceBeforeTheyAreReported(t *testing.T) {
	r, s, _ := follower(t, 0)
	c := <-s.streams
	c.begin(true)
	c.report()
	c.facts(7, world...)
	c.grant(c.report().GetSequence(), time.Hour, 1)
	soon(t, "the right", r.holds)
	c.revision(8, checker.Unbind{Resource: onIt, Subject: annsID, Role: "reader"})
	if got := c.report().GetRevision(); got != 8 {
		t.Fatalf("reported %d", got)
	}
	r.wants(t, codes.PermissionDenied, "at the report")
	c.revision(9, given, checker.Deny{Resource: onIt, Policy: "denyReading"})
	c.report()
	if err := r.Authorize(t.Context(), ann, "things.get", thing); apierr.ReasonOf(err) != apierr.ReasonDeniedByPolicy {
		t.Errorf("a policy: %v", err)
	}
	for what, ask := range map[string]struct {
		p          authn.Principal
		permission string
		on         authz.Resource
		reason     string
	}{
		"a resource of elsewhere":       {ann, "things.get", authz.Resource{Type: "thing", ID: "2"}, apierr.ReasonResourceNotFound},
		"somebody unknown":              {authn.Principal{Type: checker.UserAccount, ID: "bob"}, "things.get", thing, apierr.ReasonSubjectInactive},
		"no permission":                 {ann, "things.eat", thing, apierr.ReasonInvalid},
		"somebody unknown and no right": {authn.Principal{Type: checker.UserAccount, ID: "bob"}, "things.eat", thing, apierr.ReasonSubjectInactive},
		"what is not granted":           {ann, "things.set", thing, apierr.ReasonPermissionDenied},
	} {
		if err := r.Authorize(t.Context(), ask.p, ask.permission, ask.on); apierr.ReasonOf(err) != ask.reason {
			t.Errorf("%s: %v, want %s", what, err, ask.reason)
		}
	}
}

// Before it goes back to a snapshot a replica answers no more, and says so.
func TestItNeverGoesBackWhileItMayAnswer(t *testing.T) {
	r, s, _ := follower(t, 0)
	c := <-s.streams
	c.begin(true)
	c.report()
	c.facts(7, world...)
	c.grant(c.report().GetSequence(), time.Hour, 1)
	soon(t, "the right", r.holds)
	c.begin(true)
	if !c.report().GetReleased() {
		t.Fatal("it does not give its right back")
	}
	r.wants(t, codes.Unavailable, "when it has said so")
	c.end <- nil // within the snapshot
	again := <-s.streams
	if again.start.GetPosition() != nil {
		t.Error("it goes on from facts that it has not got")
	}
}

func TestItGoesOnFromWhereItIs(t *testing.T) {
	r, s, h := follower(t, 0)
	c := <-s.streams
	c.begin(true)
	c.report()
	c.facts(7, world...)
	c.grant(c.report().GetSequence(), time.Minute, 1)
	soon(t, "the right", r.holds)
	c.end <- errors.New("cut off")
	again := <-s.streams
	if got := again.start.GetPosition().GetRevision(); got != 7 {
		t.Fatalf("it goes on from %d", got)
	}
	r.wants(t, codes.OK, "while its right lasts")
	again.begin(false)
	asked := again.report()
	h.advance(2 * time.Minute)
	again.end <- apierr.Edge(apierr.New(codes.OutOfRange, "FOLLOWED_TOO_OLD", "too old"), "").Err()
	r.wants(t, codes.Unavailable, "when it has run out")
	last := <-s.streams
	if last.start.GetPosition() != nil || asked.GetRevision() != 7 {
		t.Errorf("after it was told that the log does not reach back: %v", last.start)
	}
	last.begin(true)
	last.report()
	last.facts(9, world...)
	last.grant(last.report().GetSequence(), time.Minute, 1)
	soon(t, "the right", r.holds)
	r.wants(t, codes.OK, "after it came back")
}

func TestWhoLeavesGivesItsRightBack(t *testing.T) {
	s := &script{t: t, streams: make(chan *conversation, 1)}
	listener, server := bufconn.Listen(1<<20), grpc.NewServer()
	accessv1.RegisterChangeServiceServer(server, s)
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()
	conn, err := grpc.NewClient("passthrough:///script", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return listener.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, stop := context.WithCancel(t.Context())
	r := Start(ctx, Config{Conn: conn, Patience: 10 * time.Second})
	c := <-s.streams
	c.begin(true)
	c.report()
	c.facts(7, world...)
	go c.grant(c.report().GetSequence(), time.Hour, 1)
	if err := r.Authorize(t.Context(), ann, "things.get", thing); err != nil { // which waits
		t.Errorf("with patience: %v", err)
	}
	stop()
	for {
		m, err := c.Recv()
		if errors.Is(err, io.EOF) {
			t.Fatal("it goes without a word")
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.GetReport().GetReleased() {
			break
		}
	}
	if r.holds() {
		t.Error("it may answer after it has said that it does not")
	}
	c.end <- nil
	<-r.Done()
}

// BenchmarkDecide is one answer in the process of who asks, the reading of the clock
// included: of 100,000 resources, allowed and denied.
func BenchmarkDecide(b *testing.B) {
	const resources, users = 100_000, 10_000
	id := func(prefix string, n int) string {
		digits := []byte("00000000000000000")
		for i := len(digits) - 1; n > 0; i, n = i-1, n/10 {
			digits[i] = byte('0' + n%10)
		}
		return prefix + string(digits)
	}
	changes := []checker.Change{checker.Place{Resource: checker.Resource{Type: "org", ID: "o"}}}
	for n := range users {
		changes = append(changes, checker.SetSubject{Subject: checker.Subject{Type: checker.UserAccount, ID: id("usr", n)}, State: checker.Active})
	}
	for n := range resources {
		on := checker.Resource{Type: "thing", ID: id("thg", n)}
		changes = append(changes, checker.Place{Resource: on, Parent: checker.Resource{Type: "org", ID: "o"}},
			checker.Bind{Resource: on, Subject: checker.Subject{Type: checker.UserAccount, ID: id("usr", n%users)}, Role: "reader"})
	}
	g := checker.New(checker.Roles{Permissions: []string{"things.get"}, Roles: map[string][]string{"reader": {"things.get"}}})
	err := g.Load(1, func(yield func(checker.Change, error) bool) {
		for _, c := range changes {
			if !yield(c, nil) {
				return
			}
		}
	})
	if err != nil {
		b.Fatal(err)
	}
	r := &Replica{clock: lease.Boot, changed: make(chan struct{})}
	r.graph.Store(g)
	r.extend(r.clock(), time.Hour, 1)
	things := make([]authz.Resource, 1<<14)
	who := make([]authn.Principal, len(things))
	for i := range things {
		n := i * 7919 % resources
		things[i], who[i] = authz.Resource{Type: "thing", ID: id("thg", n)}, authn.Principal{Type: checker.UserAccount, ID: id("usr", n%users)}
	}
	b.Run("allowed", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			at := i % len(things)
			if err := r.Authorize(context.Background(), who[at], "things.get", things[at]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("denied", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			at := i % len(things)
			if err := r.Authorize(context.Background(), who[(at+1)%len(who)], "things.get", things[at]); err == nil {
				b.Fatal("allowed")
			}
		}
	})
}
