package marketplacerequests

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/request"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	marketplacev1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/marketplace/v1"
)

// historySteps is the length of a random history, for each engine.
const historySteps = 300

// shelf is the second reading of rules MR: which products are offered how, who asked for
// them, and what became of that. It shares nothing with package request, with the grid or
// with the checker.
type shelf struct {
	open, archived map[string]bool // products
	away           map[string]bool // people who are suspended
	decides        map[string]bool // people who hold the role of the publisher's side
	all            []*wish
}

// wish is one request.
type wish struct {
	id, who, product string
	state            request.State
}

// may says who installs what: everybody what is for all, and else exactly those of whom
// a request is approved (MR-1, MR-2, MR-10, MR-20).
func (m *shelf) may(who, product string) bool {
	return !m.away[who] && !m.archived[product] && (m.open[product] || slices.Contains(m.users(product), who))
}

// users are the people with an approved request, newest first.
func (m *shelf) users(product string) (ids []string) {
	for _, w := range slices.Backward(m.all) {
		if w.product == product && w.state == request.Approved {
			ids = append(ids, w.who)
		}
	}
	return ids
}

// files says whether a request is taken, and takes it (MR-11, MR-19, MR-20).
func (m *shelf) files(w *wish) bool {
	if m.away[w.who] || m.archived[w.product] || m.open[w.product] {
		return false
	}
	for _, o := range m.all {
		if o.who == w.who && o.product == w.product && (o.state == request.Pending || o.state == request.Approved) {
			return false
		}
	}
	w.state = request.Pending
	m.all = append(m.all, w)
	return true
}

// takes says whether an action succeeds, and makes it so (MR-6, MR-8, MR-9, MR-23, MR-25);
// nobody is the platform.
func (m *shelf) takes(who string, w *wish, action request.Action) bool {
	own := who == w.who
	var by bool // of the side whose action it is
	var from, to request.State
	switch action {
	case request.Approve:
		by, from, to = m.decides[who] && (!own || w.state != request.Pending), request.Pending, request.Approved
	case request.Reject:
		by, from, to = m.decides[who] && (!own || w.state != request.Pending), request.Pending, request.Rejected
	case request.Cancel:
		by, from, to = own, request.Pending, request.Canceled
	case request.Plead:
		by, from, to = m.decides[who], request.Approved, request.Approved
	default:
		by, from, to = who == "", request.Approved, request.Revoked
	}
	if m.away[who] || !by || w.state != from && w.state != to {
		return false
	}
	w.state = to
	return true
}

// ends ends the live requests that match: the pending ones, and the approved ones too if
// asked (MR-19, MR-20, MR-22).
func (m *shelf) ends(approvedToo bool, matches func(*wish) bool) {
	for _, w := range m.all {
		switch {
		case !matches(w):
		case w.state == request.Pending:
			w.state = request.Canceled
		case w.state == request.Approved && approvedToo:
			w.state = request.Revoked
		}
	}
}

// marketOracle plays a random history into the unit and onto the shelf.
type marketOracle struct {
	*world
	shelf  shelf
	rng    *rand.Rand
	people []customer // who ask; the first one is of the publisher's side too
	things []string
	seen   map[string]int // what was met, by name
}

func one[T any](o *marketOracle, of []T) T { return of[o.rng.IntN(len(of))] }

// TestMR_RandomHistoriesEqualTheRules plays requests, decisions, revocations, changes of
// access, archiving, suspensions and deletions at random, and compares every answer, every
// state, the users of every product and the check of everybody with a second reading of
// the rules. A difference prints the seed.
func TestMR_RandomHistoriesEqualTheRules(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("BINDERY_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("BINDERY_SEED=%d", seed)
	forEach(t, func(t *testing.T, w *world) {
		o := &marketOracle{
			world: w, rng: rand.New(rand.NewPCG(seed, 0)), seen: map[string]int{},
			shelf: shelf{open: map[string]bool{}, archived: map[string]bool{}, away: map[string]bool{}, decides: map[string]bool{w.pia.id: true}},
		}
		host := w.customer("host") // in whose folder all install
		o.people = []customer{host}
		for i := range 3 {
			guest := w.person(fmt.Sprint("guest", i))
			w.give(host.person, typeFolder, host.folder, "viewer", guest)
			o.people = append(o.people, customer{guest, host.folder})
		}
		o.shelf.decides[o.people[0].id] = true
		w.give(w.olga, typePublisher, w.publisher, rolePublisher, o.people[0].person)
		for range 3 {
			o.things = append(o.things, w.product(onRequest))
		}
		for n := 0; n < historySteps || n < 10*historySteps && o.missing() != ""; n++ {
			what := o.step(n)
			if o.compare(what); t.Failed() {
				t.Fatalf("step %d of seed %d: %s", n, seed, what)
			}
		}
		t.Logf("%d requests; met: %v", len(o.shelf.all), o.seen)
		if what := o.missing(); what != "" {
			t.Errorf("%q was never met", what)
		}
	})
}

// missing is something that a history has to have, and has not yet.
func (o *marketOracle) missing() string {
	for _, want := range []string{"approve true", "approve false", "reject true", "cancel true", "revoke true", "plead true", "ask false", "by a request", "denied"} {
		if o.seen[want] == 0 {
			return want
		}
	}
	return ""
}

// step takes one random step, and says what it was.
func (o *marketOracle) step(n int) string {
	o.t.Helper()
	who, product := one(o, o.people), one(o, o.things)
	switch dice := o.rng.IntN(20); {
	case n == historySteps/2:
		return o.archives(product)
	case n == historySteps*3/4:
		return o.deletes(o.people[len(o.people)-1])
	case dice < 6:
		id, err := o.ask(who, product)
		return o.judge(fmt.Sprintf("ask: %s for %s", who.login, product), "ask", err, o.shelf.files(&wish{id: id, who: who.id, product: product}))
	case dice < 16 && len(o.shelf.all) > 0:
		return o.acts()
	case dice < 18 && !o.shelf.archived[product]:
		o.shelf.open[product] = !o.shelf.open[product]
		o.setAccess(product, map[bool]marketplacev1.Product_Access{true: public, false: onRequest}[o.shelf.open[product]])
		if o.shelf.open[product] {
			o.shelf.ends(false, func(w *wish) bool { return w.product == product })
		}
		return fmt.Sprintf("%s is for all: %v", product, o.shelf.open[product])
	case dice == 18 && who.id == o.people[0].id:
		return "the owner of the organization stays" // OW-3
	case dice == 18:
		o.shelf.away[who.id] = !o.shelf.away[who.id]
		var err error
		if o.shelf.away[who.id] {
			_, err = o.operator.SuspendUser(o.t.Context(), &identityv1.SuspendUserRequest{Login: who.login})
		} else {
			_, err = o.operator.ReactivateUser(o.t.Context(), &identityv1.ReactivateUserRequest{Login: who.login})
		}
		o.must(err)
		return fmt.Sprintf("%s is suspended: %v", who.login, o.shelf.away[who.id])
	default:
		o.must(o.service.endDeparted(o.t.Context()))
		return "a look at who is gone"
	}
}

// acts takes a random action on a request, more often than not one that may succeed.
func (o *marketOracle) acts() string {
	o.t.Helper()
	action := one(o, []request.Action{request.Approve, request.Approve, request.Approve, request.Reject, request.Cancel, request.Plead, request.Revoke})
	from := map[request.Action]request.State{request.Plead: request.Approved, request.Revoke: request.Approved}[action]
	some := o.shelf.all[max(0, len(o.shelf.all)-10):]
	if o.rng.IntN(3) > 0 {
		var fit []*wish
		for _, w := range some {
			if w.state == from || from == "" && w.state == request.Pending {
				fit = append(fit, w)
			}
		}
		if len(fit) > 0 {
			some = fit
		}
	}
	w := one(o, some)
	by := one(o, []person{o.pia, o.pia, o.olga, o.people[0].person, one(o, o.people).person})
	for _, p := range o.people { // who asked
		if p.id == w.who && (action == request.Cancel || o.rng.IntN(4) == 0) {
			by = p.person
		}
	}
	var err error
	switch action {
	case request.Approve:
		err = o.approve(by, w.id)
	case request.Reject:
		err = o.reject(by, w.id)
	case request.Cancel:
		err = o.cancel(by, w.id)
	case request.Plead:
		err = o.plead(by, w.id)
	default:
		by, err = person{}, o.revoke(w.id)
	}
	return o.judge(fmt.Sprintf("%s by %q of %s's for %s", action, by.login, w.who, w.product), string(action), err, o.shelf.takes(by.id, w, action))
}

func (o *marketOracle) archives(product string) string {
	o.t.Helper()
	o.must(o.archive(product))
	o.shelf.archived[product], o.shelf.open[product] = true, false
	o.shelf.ends(true, func(w *wish) bool { return w.product == product })
	return product + " is archived"
}

func (o *marketOracle) deletes(who customer) string {
	o.t.Helper()
	_, err := o.operator.DeleteUser(o.t.Context(), &identityv1.DeleteUserRequest{Login: who.login})
	o.must(err)
	o.must(o.service.endDeparted(o.t.Context()))
	o.people = slices.DeleteFunc(o.people, func(p customer) bool { return p.id == who.id })
	o.shelf.ends(true, func(w *wish) bool { return w.who == who.id })
	return who.login + " is deleted"
}

// judge compares how a call ended.
func (o *marketOracle) judge(what, kind string, err error, want bool) string {
	o.t.Helper()
	o.seen[fmt.Sprint(kind, " ", want)]++
	if (err == nil) != want {
		o.t.Errorf("%s: %v, want it to succeed: %v", what, err, want)
	}
	return fmt.Sprintf("%s (%v)", what, err)
}

// compare compares the states of all requests, the users of all products, and who passes
// the check.
func (o *marketOracle) compare(after string) {
	o.t.Helper()
	for _, w := range o.shelf.all {
		if got := o.state(w.id); got != string(w.state) {
			o.t.Errorf("after %s: %s's for %s is %s, want %s", after, w.who, w.product, got, w.state)
		}
	}
	for _, product := range o.things {
		if got, want := o.users(product), strings.Join(o.shelf.users(product), " "); got != want {
			o.t.Errorf("after %s: the users of %s are %q, want %q", after, product, got, want)
		}
		for _, p := range o.people {
			want := o.shelf.may(p.id, product)
			_, err := o.products.CheckAccess(o.as(p.person), &marketplacev1.CheckAccessRequest{ProductId: product})
			if (err == nil) != want {
				o.t.Errorf("after %s: %s may install %s: %v, want %v", after, p.login, product, err, want)
			}
			if want && !o.shelf.open[product] {
				o.seen["by a request"]++
			} else if !want {
				o.seen["denied"]++
			}
		}
	}
}
