package request_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/page"
	. "github.com/bindery-iam/bindery/pkg/request"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/pkg/thread"
)

var grid = Grid{
	Requester: {Post: {Pending}, Cancel: {Pending}, Revoke: {Approved}},
	Decider:   {Post: {Pending}, Approve: {Pending}, Reject: {Pending}, Plead: {Approved}},
	Platform:  {Post: States, Revoke: {Approved}},
}

// world is what requests are for: who was let in, by which request.
type world struct {
	t       *testing.T
	db      *sqldb.DB
	jobs    *jobs.Queue
	engine  *Engine
	mu      sync.Mutex
	now     time.Time
	granted map[string]bool
	ended   map[string]bool // by id, for good
	refuse  error           // what Grant answers
	hold    chan struct{}   // Grant waits for it when set
	settled []string
}

func forEach(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	sqldbtest.ForEach(t, "desk", []sqldb.Migrations{Migrations("desk"), thread.Migrations("desk"), jobs.Migrations("desk")}, func(t *testing.T, db *sqldb.DB) {
		w := &world{t: t, db: db, now: time.UnixMicro(1e15), granted: map[string]bool{}, ended: map[string]bool{}}
		w.jobs = jobs.New(jobs.Config{DB: db, Unit: "desk", Log: zap.NewNop()})
		w.engine = New(Config{DB: db, Unit: "desk", Jobs: w.jobs, Grid: grid, Consequence: w, Now: w.clock})
		f(t, w)
	})
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) Grant(_ context.Context, r Request) error {
	if w.hold != nil {
		<-w.hold
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ended[r.ID] {
		return apierr.Precondition("ENDED", "ended")
	}
	if w.refuse == nil {
		w.granted[r.ID] = true
	}
	return w.refuse
}

func (w *world) Withdraw(_ context.Context, r Request) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.granted, r.ID)
	w.ended[r.ID] = true
	return nil
}

func (w *world) Settled(_ context.Context, _ *sql.Tx, _ *sqldb.Batch, r Request, op string, cause error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.settled = append(w.settled, fmt.Sprintf("%s %s %s %v", r.ID, r.State, op, cause != nil))
	return nil
}

func (w *world) tx(fn func(context.Context, *sql.Tx) error) error {
	return sqldb.InTx(w.t.Context(), w.db, fn)
}

func (w *world) create(r Request) error {
	if r.Thing == (Ref{}) {
		r.Thing = Ref{"room", "one"}
	}
	if r.Requester == (Ref{}) {
		r.Requester = Ref{"user", "ann"}
	}
	return w.tx(func(ctx context.Context, tx *sql.Tx) error {
		_, err := w.engine.Create(ctx, tx, r)
		return err
	})
}

// act takes an action and makes it true.
func (w *world) act(requestID string, side Side, a Action, by string) (changed bool, err error) {
	var ticket *jobs.Ticket
	err = w.tx(func(ctx context.Context, tx *sql.Tx) error {
		var r Request
		r, changed, err = w.engine.Act(ctx, tx, requestID, Act{Action: a, Side: side, By: Ref{Type: "user", ID: by}, Text: "because"})
		if err != nil || !changed || r.Settled {
			return err
		}
		t, err := w.engine.Settle(ctx, tx, requestID, string(a))
		ticket = &t
		return err
	})
	if err == nil && ticket != nil {
		err = w.jobs.Do(w.t.Context(), *ticket)
	}
	return changed, err
}

func (w *world) must(changed bool, err error) func(want bool) {
	return func(want bool) {
		w.t.Helper()
		if err != nil || changed != want {
			w.t.Fatalf("changed %v, %v; want %v", changed, err, want)
		}
	}
}

func (w *world) state(requestID string) State {
	w.t.Helper()
	r, err := w.engine.Store.Get(w.t.Context(), w.db, requestID)
	if err != nil {
		w.t.Fatal(err)
	}
	return r.At(w.clock()).State
}

func TestDecisionsTakeEffect(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		if err := w.create(Request{ID: "r1", Reason: "to work", Body: []byte("mine")}); err != nil {
			t.Fatal(err)
		}
		if err := w.create(Request{ID: "r2"}); apierr.ReasonOf(err) != ReasonExists {
			t.Errorf("a second live request: %v", err)
		}
		w.must(w.act("r1", Decider, Approve, "bob"))(true)
		w.must(w.act("r1", Decider, Approve, "bob"))(false) // again
		w.must(w.act("r1", Decider, Approve, "eve"))(false) // another one, too late to count
		if !w.granted["r1"] {
			t.Error("approved, and not let in")
		}
		if _, err := w.act("r1", Decider, Reject, "bob"); apierr.ReasonOf(err) != ReasonState {
			t.Errorf("reject what is approved: %v", err)
		}
		w.must(w.act("r1", Decider, Plead, "bob"))(true)
		w.must(w.act("r1", Platform, Revoke, ""))(true)
		w.must(w.act("r1", Platform, Revoke, ""))(false)
		if w.granted["r1"] {
			t.Error("revoked, and still in")
		}
		if _, err := w.act("r1", Decider, Approve, "bob"); apierr.ReasonOf(err) != ReasonState {
			t.Errorf("approve what is revoked: %v", err)
		}
		if err := w.create(Request{ID: "r3"}); err != nil { // the only way back
			t.Fatal(err)
		}
		w.must(w.act("r3", Requester, Cancel, "ann"))(true)
		r, err := w.engine.Store.Get(t.Context(), w.db, "r1")
		if err != nil || r.State != Revoked || r.DecidedBy != (Ref{Type: "user", ID: "bob"}) || r.PleaBy != "bob" || r.Plea != "because" || r.EndReason != "because" || string(r.Body) != "mine" || !r.Settled {
			t.Errorf("%+v %v", r, err)
		}
		if want := []string{"r1 APPROVED approve false", "r1 REVOKED revoke false"}; !slices.Equal(w.settled, want) {
			t.Errorf("settled %v, want %v", w.settled, want)
		}
	})
}

func TestNobodyDecidesTheirOwn(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		if err := w.create(Request{ID: "r1"}); err != nil {
			t.Fatal(err)
		}
		for _, a := range []Action{Approve, Reject} {
			if _, err := w.act("r1", Decider, a, "ann"); apierr.ReasonOf(err) != ReasonOwn {
				t.Errorf("%s by the requester: %v", a, err)
			}
		}
		if got := w.state("r1"); got != Pending {
			t.Errorf("it is %s", got)
		}
	})
}

func TestStepsNeedTheirApprovals(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		if err := w.create(Request{ID: "r1", Steps: []Step{{Name: "team", Need: 2}, {Name: "security", Need: 1}}}); err != nil {
			t.Fatal(err)
		}
		for i, by := range []string{"bob", "bob", "eve", "eve", "zoe"} { // nobody counts twice, at whichever step
			w.must(w.act("r1", Decider, Approve, by))(i == 4)
			if want := i == 4; (w.state("r1") == Approved) != want || w.granted["r1"] != want {
				t.Errorf("after the approval %d it is %s", i, w.state("r1"))
			}
		}
	})
}

// Of approving and rejecting at once one wins and the other meets its outcome; a
// requester never has two live requests, however many are filed at once.
func TestConcurrentActions(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for round := range 10 {
			var mu sync.Mutex
			created := []string{}
			var all sync.WaitGroup
			for i := range 8 {
				all.Go(func() {
					id := fmt.Sprintf("r%d-%d", round, i)
					err := w.create(Request{ID: id})
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil:
						created = append(created, id)
					case apierr.ReasonOf(err) != ReasonExists:
						t.Error(err)
					}
				})
			}
			all.Wait()
			if len(created) != 1 {
				t.Fatalf("%d live requests", len(created))
			}
			won := map[Action]int{}
			for i := range 8 {
				a := []Action{Approve, Reject}[i%2]
				all.Go(func() {
					changed, err := w.act(created[0], Decider, a, fmt.Sprint("decider", i))
					mu.Lock()
					defer mu.Unlock()
					switch {
					case err == nil && changed:
						won[a]++
					case err != nil && apierr.ReasonOf(err) != ReasonState:
						t.Error(err)
					}
				})
			}
			all.Wait()
			if won[Approve]+won[Reject] != 1 {
				t.Fatalf("winners %v", won)
			}
			if (won[Approve] == 1) != (w.state(created[0]) == Approved) || w.granted[created[0]] != (won[Approve] == 1) {
				t.Fatalf("%v won, and it is %s, granted %v", won, w.state(created[0]), w.granted)
			}
			if won[Approve] == 1 {
				w.must(w.act(created[0], Platform, Revoke, ""))(true)
			}
		}
	})
}

// A grant that stalls and goes on after the revocation lets nobody in.
func TestLateGrantLetsNobodyIn(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		if err := w.create(Request{ID: "r1"}); err != nil {
			t.Fatal(err)
		}
		w.hold = make(chan struct{})
		var approving sync.WaitGroup
		approving.Go(func() { _, _ = w.act("r1", Decider, Approve, "bob") })
		for end := time.Now().Add(20 * time.Second); w.state("r1") != Approved; time.Sleep(time.Millisecond) { // decided beside the test
			if time.Now().After(end) {
				t.Fatal("not approved within 20 s")
			}
		}
		w.must(w.act("r1", Platform, Revoke, ""))(true)
		close(w.hold)
		approving.Wait()
		if w.granted["r1"] || w.state("r1") != Revoked {
			t.Errorf("it is %s, granted %v", w.state("r1"), w.granted)
		}
		if !slices.Contains(w.settled, "r1 REVOKED approve false") { // beside what became of the revocation, in any order
			t.Errorf("what was settled: %q", w.settled)
		}
	})
}

func TestWhatCannotBeGrantedIsRevoked(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		for _, id := range []string{"r1", "r2"} {
			if err := w.create(Request{ID: id, Thing: Ref{"room", id}}); err != nil {
				t.Fatal(err)
			}
		}
		w.refuse = errors.New("away")
		if _, err := w.act("r1", Decider, Approve, "bob"); err == nil || w.state("r1") != Approved {
			t.Errorf("a world that is away: %v, %s", err, w.state("r1"))
		}
		w.refuse = apierr.NotFound("GONE", "the room is gone")
		w.must(w.act("r2", Decider, Approve, "bob"))(true)
		r, err := w.engine.Store.Get(t.Context(), w.db, "r2")
		if err != nil || r.State != Revoked || r.EndReason != "GONE" || !r.Settled {
			t.Errorf("%+v %v", r, err)
		}
		if want := []string{"r2 REVOKED approve true"}; !slices.Equal(w.settled, want) {
			t.Errorf("settled %v, want %v", w.settled, want)
		}
	})
}

func TestTimesOfRequests(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		rooms := map[string]Request{
			"never decided": {PendingUntil: w.now.Add(time.Hour)}, "for an hour": {Lasts: time.Hour}, "for good": {},
		}
		for id, r := range rooms {
			r.ID, r.Thing = id, Ref{"room", id}
			if err := w.create(r); err != nil {
				t.Fatal(err)
			}
		}
		w.must(w.act("for an hour", Decider, Approve, "bob"))(true)
		w.must(w.act("for good", Decider, Approve, "bob"))(true)
		list := func(s State) int {
			t.Helper()
			all, err := w.engine.Store.List(t.Context(), w.db, Query{State: s, Now: w.clock()}, page.Position{}, 10)
			if err != nil {
				t.Fatal(err)
			}
			return len(all)
		}
		if list(Pending) != 1 || list(Approved) != 2 || list(Expired) != 0 {
			t.Error("lists before the end are wrong")
		}
		w.pass(time.Hour)
		if list(Pending) != 0 || list(Approved) != 1 || list(Expired) != 2 {
			t.Error("lists after the end are wrong")
		}
		if _, err := w.act("never decided", Decider, Approve, "bob"); apierr.ReasonOf(err) != ReasonState {
			t.Errorf("approve what expired: %v", err)
		}
		var ended []string
		if err := w.engine.Sweep(t.Context(), func(_ context.Context, _ *sql.Tx, r Request) error {
			ended = append(ended, r.ID)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		slices.Sort(ended)
		if want := []string{"for an hour", "never decided"}; !slices.Equal(ended, want) {
			t.Errorf("ended %v, want %v", ended, want)
		}
		// A live request whose time is over makes room before the sweep, too.
		if err := w.create(Request{ID: "next", Thing: Ref{"room", "x"}, PendingUntil: w.now.Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		w.pass(2 * time.Hour)
		if err := w.create(Request{ID: "another", Thing: Ref{"room", "x"}}); err != nil {
			t.Errorf("after the end of the one before: %v", err)
		}
	})
}

func TestLists(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		var want []string
		for i := range 7 {
			id := fmt.Sprint("r", i)
			if err := w.create(Request{ID: id, Requester: Ref{"user", fmt.Sprint("u", i)}}); err != nil {
				t.Fatal(err)
			}
			want = append(want, id)
			if i%2 == 0 {
				w.pass(time.Second)
			}
		}
		for _, oldest := range []bool{true, false} {
			var got []string
			for after := (page.Position{}); ; {
				some, err := w.engine.Store.List(t.Context(), w.db, Query{Thing: Ref{"room", "one"}, State: Pending, Now: w.clock(), Oldest: oldest}, after, 3)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range some {
					got, after = append(got, r.ID), r.Position()
				}
				if len(some) < 3 {
					break
				}
			}
			if !oldest {
				slices.Reverse(got)
			}
			if !slices.Equal(got, want) {
				t.Errorf("oldest first %v: %v, want %v", oldest, got, want)
			}
		}
		for query, n := range map[Query]int{
			{Requester: Ref{"user", "u3"}}: 1, {Thing: Ref{"room", "two"}}: 0, {Pleaded: true}: 0, {State: Rejected}: 0,
		} {
			if got, err := w.engine.Store.List(t.Context(), w.db, query, page.Position{}, 10); err != nil || len(got) != n {
				t.Errorf("%+v: %d, %v; want %d", query, len(got), err, n)
			}
		}
	})
}

func TestMessagesFollowTheGrid(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		if err := w.create(Request{ID: "r1"}); err != nil {
			t.Fatal(err)
		}
		say := func(side Side) error {
			return w.tx(func(ctx context.Context, tx *sql.Tx) error {
				_, _, err := w.engine.Post(ctx, tx, "r1", side, thread.Author{Type: "user", ID: "x"}, "text")
				return err
			})
		}
		for _, side := range []Side{Requester, Decider, Platform} {
			if err := say(side); err != nil {
				t.Errorf("%s while pending: %v", side, err)
			}
		}
		w.must(w.act("r1", Decider, Reject, "bob"))(true)
		for side, reason := range map[Side]string{Requester: ReasonState, Decider: ReasonState, Platform: ""} {
			if err := say(side); (err == nil) != (reason == "") || err != nil && apierr.ReasonOf(err) != reason {
				t.Errorf("%s after the decision: %v, want %q", side, err, reason)
			}
		}
	})
}
