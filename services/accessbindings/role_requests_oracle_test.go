package accessbindings

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/request"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// requestSteps is the length of a random history of role requests, for each engine. One
// that has missed something goes on.
const requestSteps = 400

// filing is a role request as the rules have it.
type filing struct {
	id          string
	who         Subject
	role        string
	on          Ref
	lasts, ends time.Duration // after the beginning of the history
	filed       time.Duration
	state       request.State
}

// requestBook is the second reading of rules RQ: it keeps who filing for what, what was
// given by hand, and nothing else, and says from that who may do what. It shares nothing
// with package request, the engine or the checker.
type requestBook struct {
	now     time.Duration
	roles   map[string][]string // to permissions
	above   map[Ref][]Ref       // a resource and what it lies in
	hand    map[string]bool     // role, resource and subject, given by hand
	away    map[Subject]bool    // suspended
	outside map[Subject]bool    // of the organization
	all     []*filing
}

func handed(role string, on Ref, who Subject) string { return fmt.Sprint(role, on, who) }

// pass lets time go on: what nobody has decided for 14 days is over, and so is a role whose
// time has come (RQ-2, RQ-5).
func (m *requestBook) pass(d time.Duration) {
	m.now += d
	for _, a := range m.all {
		if a.state == request.Pending && m.now >= a.filed+14*24*time.Hour || a.state == request.Approved && m.now >= a.ends {
			a.state = request.Expired
		}
	}
}

// may says whether somebody may do something: by a role on the resource or on what it lies
// in, given by hand or by a request that is approved and not over.
func (m *requestBook) may(who Subject, permission string, on Ref) bool {
	if m.away[who] {
		return false
	}
	for _, at := range m.above[on] {
		for role, permissions := range m.roles {
			if !slices.Contains(permissions, permission) {
				continue
			}
			if m.hand[handed(role, at, who)] || slices.ContainsFunc(m.all, func(a *filing) bool {
				return a.state == request.Approved && a.who == who && a.role == role && a.on == at
			}) {
				return true
			}
		}
	}
	return false
}

// decides says whether somebody is of the side that decides (RQ-4).
func (m *requestBook) decides(who Subject, a *filing) bool {
	return m.may(who, a.on.Type+"s.updateAccessBindings", a.on)
}

// takes says whether an action succeeds, and makes it so (RQ-4, RQ-6).
func (m *requestBook) takes(who Subject, a *filing, action request.Action) bool {
	if m.away[who] {
		return false
	}
	own, decides := who == a.who, m.decides(who, a)
	switch action {
	case request.Approve:
		switch {
		case decides && a.state == request.Approved:
			return true
		case !decides || own || a.state != request.Pending || m.away[a.who] || m.outside[a.who]:
			return false
		}
		a.state, a.ends = request.Approved, m.now+a.lasts
	case request.Reject:
		switch {
		case decides && a.state == request.Rejected:
			return true
		case !decides || own || a.state != request.Pending:
			return false
		}
		a.state = request.Rejected
	case request.Cancel:
		if !own || a.state != request.Pending && a.state != request.Canceled {
			return false
		}
		a.state = request.Canceled
	default: // ends it early
		if !own && !decides || a.state != request.Approved && a.state != request.Revoked {
			return false
		}
		a.state = request.Revoked
	}
	return true
}

// files says whether a request is taken, and takes it (RQ-1, RQ-3).
func (m *requestBook) files(a *filing) bool {
	if m.away[a.who] || m.outside[a.who] || slices.ContainsFunc(m.all, func(o *filing) bool {
		return o.who == a.who && o.role == a.role && o.on == a.on && (o.state == request.Pending || o.state == request.Approved)
	}) {
		return false
	}
	a.filed, a.state = m.now, request.Pending
	m.all = append(m.all, a)
	return true
}

// drops ends the live requests that match, by the unit itself (RQ-7).
func (m *requestBook) drops(matches func(*filing) bool) {
	for _, a := range m.all {
		switch {
		case !matches(a):
		case a.state == request.Pending:
			a.state = request.Canceled
		case a.state == request.Approved:
			a.state = request.Revoked
		}
	}
}

// requestOracle plays a random history into the unit and into the book.
type requestOracle struct {
	*roleWorld
	book   requestBook
	rng    *rand.Rand
	begun  time.Time
	people []Subject // who ask, and decide when they may
	places []Ref
	given  []string       // roles
	seen   map[string]int // what was met, by name
}

func one[T any](o *requestOracle, of []T) T { return of[o.rng.IntN(len(of))] }

// TestRQ_RandomHistoriesEqualTheRules plays role requests, decisions, ends, expiries,
// roles by hand, suspensions and departures at random, and compares every answer, every
// state and every permission of everybody with a second reading of the rules. A
// difference prints the seed.
func TestRQ_RandomHistoriesEqualTheRules(t *testing.T) {
	seed := seedOf(t)
	forEachRoleWorld(t, func(t *testing.T, w *roleWorld) {
		matrix, _ := testCatalog(t).Matrix()
		o := &requestOracle{
			roleWorld: w, rng: rand.New(rand.NewPCG(seed, 0)), begun: time.Now().Truncate(time.Second), seen: map[string]int{},
			people: []Subject{vera, user("walt"), user("xena")}, places: []Ref{cloud1, folder1, folder2}, given: []string{viewer, editor, admin},
			book: requestBook{
				roles: map[string][]string{}, hand: map[string]bool{handed(admin, cloud1, adam): true, handed(cloudOwner, cloud1, carl): true},
				above: map[Ref][]Ref{cloud1: {cloud1}, folder1: {folder1, cloud1}, folder2: {folder2, cloud1}},
				away:  map[Subject]bool{}, outside: map[Subject]bool{},
			},
		}
		for _, role := range append([]string{cloudOwner}, o.given...) {
			o.book.roles[role] = matrix[role]
		}
		for _, who := range o.people[1:] {
			w.know(who)
			w.must(w.members(org1, []Subject{who}, nil))
		}
		w.clock.set(o.begun)
		steps := requestSteps
		if testing.Short() { // under the race detector
			steps /= 8
		}
		for n := 0; n < steps || n < 10*requestSteps && o.missing() != ""; n++ {
			what := o.step()
			if o.compare(what); t.Failed() {
				t.Fatalf("step %d of seed %d: %s", n, seed, what)
			}
		}
		t.Logf("%d requests; met: %v", len(o.book.all), o.seen)
		if what := o.missing(); what != "" {
			t.Errorf("%q was never met", what)
		}
	})
}

// missing is something that a history has to have, and has not yet.
func (o *requestOracle) missing() string {
	for _, want := range []string{"approve true", "approve false", "reject true", "cancel true", "revoke true", "ask false", "EXPIRED", "by a request"} {
		if o.seen[want] == 0 {
			return want
		}
	}
	return ""
}

// step takes one random step, and says what it was.
func (o *requestOracle) step() string {
	o.t.Helper()
	who, on, role := one(o, o.people), one(o, o.places), one(o, o.given)
	switch n := o.rng.IntN(24); {
	case n < 4 && o.present(who):
		a := &filing{who: who, role: role, on: on, lasts: time.Duration(1+o.rng.IntN(90)) * time.Second}
		id, err := o.ask(who, func(r *accessv1.CreateRoleRequestRequest) {
			r.Resource, r.RoleId = on.proto(), role
			r.Term = &accessv1.CreateRoleRequestRequest_Duration{Duration: durationpb.New(a.lasts)}
		})
		a.id = id
		return o.judge(fmt.Sprintf("ask: %s for %s on %s", who.ID, role, on.ID), "ask", err, o.book.files(a))
	case n < 14 && len(o.book.all) > 0:
		return o.acts()
	case n < 16:
		d := time.Duration(1+o.rng.IntN(40)) * time.Second
		if o.rng.IntN(25) == 0 {
			d = 14 * 24 * time.Hour
		}
		o.book.pass(d)
		o.clock.set(o.begun.Add(o.book.now))
		return fmt.Sprintf("%v pass", d)
	case n < 17:
		o.must(o.service.requests.sweep(o.t.Context()))
		return "a sweep"
	case n < 18:
		return o.byHand(who, on, role)
	case n < 19:
		o.book.away[who] = !o.book.away[who]
		o.state(who, map[bool]State{true: stateSuspended, false: stateActive}[o.book.away[who]])
		return fmt.Sprintf("%s is suspended: %v", who.ID, o.book.away[who])
	case n < 20:
		return o.belongs(who)
	default:
		return o.welcome(who)
	}
}

// present says whether somebody may ask, more often than not: those who may not are
// refused often enough.
func (o *requestOracle) present(who Subject) bool {
	return !o.book.away[who] && !o.book.outside[who] || o.rng.IntN(4) == 0
}

// welcome has somebody who is away come back, so that most of them are there most of the time.
func (o *requestOracle) welcome(who Subject) string {
	o.t.Helper()
	switch {
	case o.book.away[who]:
		o.book.away[who] = false
		o.state(who, stateActive)
		return who.ID + " may act again"
	case o.book.outside[who]:
		return o.belongs(who)
	default:
		return "nobody is missing"
	}
}

// acts takes a random action on a request, more often than not one that may succeed.
func (o *requestOracle) acts() string {
	o.t.Helper()
	action := one(o, []request.Action{request.Approve, request.Approve, request.Approve, request.Reject, request.Cancel, request.Revoke, request.Revoke})
	wants := map[request.Action]request.State{request.Revoke: request.Approved}[action]
	some := o.book.all[max(0, len(o.book.all)-10):]
	if o.rng.IntN(3) > 0 {
		var fit []*filing
		for _, a := range some {
			if a.state == wants || wants == "" && a.state == request.Pending {
				fit = append(fit, a)
			}
		}
		if len(fit) > 0 {
			some = fit
		}
	}
	a, by := one(o, some), one(o, append([]Subject{adam, carl, nick}, o.people...))
	if o.rng.IntN(2) > 0 {
		by = map[bool]Subject{true: a.who, false: adam}[action == request.Cancel]
	}
	err := o.take(by, a.id, action)
	return o.judge(fmt.Sprintf("%s by %s of %s's for %s on %s", action, by.ID, a.who.ID, a.role, a.on.ID), string(action), err, o.book.takes(by, a, action))
}

// judge compares how a call ended.
func (o *requestOracle) judge(what, kind string, err error, want bool) string {
	o.t.Helper()
	o.seen[fmt.Sprint(kind, " ", want)]++
	if (err == nil) != want {
		o.t.Errorf("%s: %v, want it to succeed: %v", what, err, want)
	}
	switch apierr.CodeOf(err) {
	case codes.OK, codes.PermissionDenied, codes.FailedPrecondition, codes.AlreadyExists, codes.Unauthenticated:
	default:
		o.t.Errorf("%s: refused with %v", what, err)
	}
	return fmt.Sprintf("%s (%v)", what, err)
}

// byHand gives a role by hand, or takes it away: then what a request gave goes with it.
func (o *requestOracle) byHand(who Subject, on Ref, role string) string {
	o.t.Helper()
	given := func(a *filing) bool {
		return a.state == request.Approved && a.who == who && a.on == on && a.role == role
	}
	key := handed(role, on, who)
	switch {
	case o.book.away[who] || o.book.outside[who]:
		return "nothing by hand"
	case o.rng.IntN(2) == 0:
		o.mustUpdate(carl, on, add(role, who))
		o.book.hand[key] = true
		return "by hand: " + key
	case o.book.hand[key] || slices.ContainsFunc(o.book.all, given):
		o.mustUpdate(carl, on, remove(role, who))
		delete(o.book.hand, key)
		o.book.drops(given)
		o.must(o.service.requests.sweep(o.t.Context()))
		return "taken by hand: " + key
	}
	return "nothing by hand"
}

// belongs has somebody leave the organization, with all that they had there, or come back.
func (o *requestOracle) belongs(who Subject) string {
	o.t.Helper()
	switch {
	case o.book.away[who]:
		return "nobody leaves"
	case o.book.outside[who]:
		o.must(o.members(org1, []Subject{who}, nil))
		o.book.outside[who] = false
		return who.ID + " comes back"
	}
	_, err := o.leave(org1, who)
	o.must(err)
	o.book.outside[who] = true
	for key := range o.book.hand {
		if strings.HasSuffix(key, fmt.Sprint(who)) {
			delete(o.book.hand, key)
		}
	}
	o.book.drops(func(a *filing) bool { return a.who == who })
	o.must(o.service.requests.sweep(o.t.Context()))
	return who.ID + " leaves"
}

// compare compares the states of all requests and what everybody may do.
func (o *requestOracle) compare(after string) {
	o.t.Helper()
	for _, a := range o.book.all[max(0, len(o.book.all)-10):] {
		r := o.read(a.id)
		if got := r.GetState().String(); got != string(a.state) {
			o.t.Errorf("after %s: %s's for %s on %s is %s, want %s", after, a.who.ID, a.role, a.on.ID, got, a.state)
		}
		if end := o.begun.Add(a.ends); a.state == request.Approved && !r.GetExpiresAt().AsTime().Equal(end) {
			o.t.Errorf("after %s: %s's for %s on %s ends %v, want %v", after, a.who.ID, a.role, a.on.ID, r.GetExpiresAt().AsTime(), end)
		}
		if a.state == request.Expired {
			o.seen["EXPIRED"]++
		}
	}
	for _, who := range o.people {
		for _, on := range o.places {
			for _, verb := range []string{"get", "update", "updateAccessBindings"} {
				permission := on.Type + "s." + verb
				want := o.book.may(who, permission, on)
				if got := o.allowed(who, permission, on); got != want {
					o.t.Errorf("after %s: %s has %s on %s: %v, want %v", after, who.ID, permission, on.ID, got, want)
				}
				if want && !o.byHandAlone(who, permission, on) {
					o.seen["by a request"]++
				}
			}
		}
	}
}

// byHandAlone says whether somebody might do something without any request.
func (o *requestOracle) byHandAlone(who Subject, permission string, on Ref) bool {
	alone := o.book
	alone.all = nil
	return alone.may(who, permission, on)
}
