package checker_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/checker"
)

func TestApply_Revisions(t *testing.T) {
	g := smallWorld(t)
	if err := g.Apply(3, bind(ann, "viewer", web)); !errors.Is(err, checker.ErrGap) {
		t.Errorf("Apply of revision 3 to 1: %v, want ErrGap", err)
	}
	want(t, g, ann, get, web, checker.NoGrant)
	next(t, g, bind(ann, "viewer", web))
	if err := g.Apply(2, checker.Unbind{Resource: web, Subject: ann, Role: "viewer"}); err != nil {
		t.Errorf("Apply of a revision that is there: %v, want nil", err)
	}
	want(t, g, ann, get, web, checker.Granted)
	if got := g.Revision(); got != 2 {
		t.Errorf("Revision = %d, want 2", got)
	}
	if got := g.Decide(checker.Query{}).Revision; got != 2 {
		t.Errorf("Decision.Revision = %d, want 2", got)
	}
}

func TestApply_RefusesWhatContradicts(t *testing.T) {
	gone := checker.Resource{Type: "resource-manager.folder", ID: "gone"}
	for name, change := range map[string]checker.Change{
		"a place below itself":         checker.Place{Resource: acme, Parent: key},
		"a place in itself":            checker.Place{Resource: web, Parent: web},
		"a removed resource":           checker.Place{Resource: gone, Parent: prod},
		"below a removed one":          checker.Place{Resource: data, Parent: gone},
		"removal from under others":    checker.Remove{Resource: prod},
		"the return of one deleted":    checker.SetSubject{Subject: bob, State: checker.Active},
		"the suspension of one erased": checker.SetSubject{Subject: bob, State: checker.Suspended},
	} {
		t.Run(name, func(t *testing.T) {
			g := smallWorld(t, checker.Remove{Resource: gone}, checker.SetSubject{Subject: bob, State: checker.Deleted})
			before := g.View()
			if err := g.Apply(2, bind(ann, "owner", acme), change); !errors.Is(err, checker.ErrRefused) {
				t.Fatalf("Apply: %v, want ErrRefused", err)
			}
			if g.View() != before { // nothing of the revision, its first change included
				t.Error("a refused revision changed the graph")
			}
			want(t, g, ann, get, web, checker.NoGrant)
			next(t, g, bind(ann, "owner", acme))
			want(t, g, ann, get, web, checker.Granted)
		})
	}
}

// TestApply_Idempotent: every fact may be told again.
func TestApply_Idempotent(t *testing.T) {
	g := smallWorld(t)
	facts := []checker.Change{
		checker.Place{Resource: web, Parent: prod}, bind(ann, "viewer", web), checker.Join{Container: teamAt, Subject: bob},
		checker.Join{Container: allAt, Subject: team}, bind(all, "viewer", data), checker.Remove{Resource: key},
		checker.Revoke{Token: checker.TokenID{1}, Until: 5}, checker.Deny{Resource: data, Policy: "p", Permissions: []string{update}},
		checker.SetSubject{Subject: fay, State: checker.Deleted}, checker.Unbind{Resource: web, Subject: bob, Role: "viewer"},
		checker.Leave{Container: acme, Subject: bob}, checker.Leave{Container: prod, Subject: bob}, checker.Join{Container: prod, Subject: bob},
		bind(ann, "owner", key), checker.Deny{Resource: key, Policy: "p", Permissions: []string{get}},
	}
	for range 3 {
		next(t, g, facts...)
		want(t, g, ann, get, web, checker.Granted)
		want(t, g, bob, get, data, checker.Granted)
		want(t, g, ann, get, key, checker.ResourceDeleted)
		want(t, g, fay, get, data, checker.SubjectInactive)
		if !g.View().TokenRevoked(checker.TokenID{1}) {
			t.Error("the token is good again")
		}
	}
	next(t, g, checker.Remove{Resource: web}) // its child is gone: once is enough
	want(t, g, ann, get, web, checker.ResourceDeleted)
}

func TestLoad_ReplacesEverything(t *testing.T) {
	g := smallWorld(t, bind(ann, "viewer", web))
	before := g.View()
	facts := []checker.Change{bind(bob, "viewer", prod), checker.SetSubject{Subject: bob, State: checker.Active}, checker.Place{Resource: prod}}
	if err := g.Load(40, stream(facts)); err != nil {
		t.Fatal(err)
	}
	want(t, g, bob, get, prod, checker.Granted)
	want(t, g, ann, get, prod, checker.SubjectUnknown)
	want(t, g, bob, get, web, checker.ResourceUnknown)
	if d := before.Decide(checker.Query{Subject: ann, Permission: get, Resource: web}); !d.Allowed {
		t.Errorf("the view of before answers %s", d.Reason)
	}
	next(t, g, checker.Place{Resource: web, Parent: prod})
	if got := g.Revision(); got != 41 {
		t.Errorf("Revision = %d, want 41", got)
	}
}

func TestLoad_FailsWhole(t *testing.T) {
	g := smallWorld(t, bind(ann, "viewer", web))
	broken := errors.New("connection lost")
	err := g.Load(9, func(yield func(checker.Change, error) bool) {
		_ = yield(checker.Place{Resource: prod}, nil) && yield(nil, broken)
	})
	if !errors.Is(err, broken) {
		t.Errorf("Load: %v, want the error of the sequence", err)
	}
	if err := g.Load(9, stream([]checker.Change{checker.Place{Resource: web, Parent: web}})); !errors.Is(err, checker.ErrRefused) {
		t.Errorf("Load of a contradiction: %v, want ErrRefused", err)
	}
	want(t, g, ann, get, web, checker.Granted)
	if got := g.Revision(); got != 1 {
		t.Errorf("Revision = %d, want 1", got)
	}
}

func TestForget_DropsEndedTokens(t *testing.T) {
	ended, lasting, endless := checker.TokenID{1}, checker.TokenID{2}, checker.TokenID{3}
	g := smallWorld(t, bind(ann, "viewer", web),
		checker.Revoke{Token: ended, Until: 5}, checker.Revoke{Token: lasting, Until: 6}, checker.Revoke{Token: endless})
	before := g.View()
	g.Forget(5)
	for id, revoked := range map[checker.TokenID]bool{ended: false, lasting: true, endless: true, {}: false} {
		if got := g.View().TokenRevoked(id); got != revoked {
			t.Errorf("token %d revoked: %t, want %t", id[0], got, revoked)
		}
		q := checker.Query{Subject: ann, Permission: get, Resource: web, Token: id}
		if got := g.Decide(q).Reason == checker.TokenRevoked; got != revoked {
			t.Errorf("token %d refused: %t, want %t", id[0], got, revoked)
		}
		q.Token, q.Session = checker.TokenID{9}, id
		if got := g.Decide(q).Reason == checker.TokenRevoked; got != revoked {
			t.Errorf("token of session %d refused: %t, want %t", id[0], got, revoked)
		}
	}
	if !before.TokenRevoked(ended) || g.Revision() != 1 {
		t.Error("Forget changed a view or the revision")
	}
}

func TestView_Readers(t *testing.T) {
	gone := checker.Resource{Type: "resource-manager.folder", ID: "gone"}
	orphan := checker.Resource{Type: "resource-manager.folder", ID: "orphan"}
	v := smallWorld(t,
		checker.Remove{Resource: gone}, checker.Place{Resource: orphan, Parent: checker.Resource{Type: "resource-manager.cloud", ID: "nowhere"}},
		checker.SetSubject{Subject: bob, State: checker.Suspended}, checker.Join{Container: acme, Subject: ann},
		checker.Join{Container: allAt, Subject: team}, checker.Join{Container: teamAt, Subject: ann}).View()

	for r, path := range map[checker.Resource][]checker.Resource{
		key: {key, web, prod, acme}, acme: {acme}, gone: nil, orphan: nil, {}: nil,
	} {
		if d := cmp.Diff(path, v.Path(r)); d != "" {
			t.Errorf("Path(%v) (-want +got):\n%s", r, d)
		}
	}
	for r, removed := range map[checker.Resource]bool{gone: true, web: false, orphan: false, {Type: "a", ID: "b"}: false} {
		if got := v.Removed(r); got != removed {
			t.Errorf("Removed(%v) = %t", r, got)
		}
	}
	for s, state := range map[checker.Subject]checker.State{
		ann: checker.Active, bob: checker.Suspended, everybody: checker.Unknown, {Type: checker.UserAccount, ID: "nobody"}: checker.Unknown,
	} {
		if got := v.State(s); got != state {
			t.Errorf("State(%v) = %d, want %d", s, got, state)
		}
	}
	got := v.Identities(ann)
	slices.SortFunc(got[1:], func(a, b checker.Subject) int { return slices.Compare([]string{a.Type, a.ID}, []string{b.Type, b.ID}) })
	if d := cmp.Diff([]checker.Subject{ann, all, team, everybody, anybody, acmeUsers}, got); d != "" {
		t.Errorf("Identities (-want +got):\n%s", d)
	}
	if got := v.Identities(bob); got != nil {
		t.Errorf("Identities of a suspended subject: %v", got)
	}
	if !v.KnownPermission("doc.unheld") || v.KnownPermission("doc.unknown") {
		t.Error("KnownPermission")
	}
	if v.Revision() != 1 {
		t.Errorf("Revision = %d", v.Revision())
	}
}

func TestNew_IsEmpty(t *testing.T) {
	g := checker.New(checker.Roles{Roles: map[string][]string{"viewer": {get}}})
	want(t, g, ann, get, web, checker.SubjectUnknown)
	if v := g.View(); v.State(ann) != checker.Unknown || v.Removed(web) || v.Path(web) != nil || v.Identities(ann) != nil || v.Revision() != 0 {
		t.Error("an empty graph knows something")
	}
}

// TestLoad_ChildrenFirst: parents may come after what is below them.
func TestLoad_ChildrenFirst(t *testing.T) {
	const depth = 200
	folder := func(n int) checker.Resource {
		return checker.Resource{Type: "resource-manager.folder", ID: strconv.Itoa(n)}
	}
	facts := []checker.Change{checker.SetSubject{Subject: ann, State: checker.Active}, bind(ann, "viewer", folder(depth))}
	for n := range depth {
		facts = append(facts, checker.Place{Resource: folder(n), Parent: folder(n + 1)})
	}
	g := smallWorld(t)
	if err := g.Load(1, stream(facts)); err != nil {
		t.Fatal(err)
	}
	want(t, g, ann, get, folder(0), checker.ResourceUnknown)
	next(t, g, checker.Place{Resource: folder(depth)})
	want(t, g, ann, get, folder(0), checker.Granted)
	if err := g.Apply(3, checker.Place{Resource: folder(depth), Parent: folder(0)}); !errors.Is(err, checker.ErrRefused) {
		t.Errorf("Apply of a circle: %v, want ErrRefused", err)
	}
}

func TestExplain_ShowsTheWay(t *testing.T) {
	g := smallWorld(t,
		checker.Join{Container: allAt, Subject: team}, checker.Join{Container: teamAt, Subject: ann},
		bind(ann, "viewer", web), bind(everybody, "viewer", web), checker.Bind{Resource: acme, Subject: all, Role: "editor", Until: 9},
		checker.Deny{Resource: prod, Policy: "frozen", Permissions: []string{get}})
	got := g.View().Explain(checker.Query{Subject: ann, Permission: get, Resource: web, Now: 8})
	want := checker.Explanation{
		Decision: checker.Decision{Reason: checker.DeniedByPolicy, Revision: 1},
		Path:     []checker.Resource{web, prod, acme},
		Grants: []checker.Grant{
			{Role: "viewer", Resource: web, By: []checker.Subject{ann, everybody}},
			{Role: "viewer", Resource: web, By: []checker.Subject{ann}},
			{Role: "editor", Resource: acme, Until: 9, By: []checker.Subject{ann, team, all}},
		},
		Denials: []checker.Denial{{Policy: "frozen", Resource: prod}},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Explain (-want +got):\n%s", d)
	}
	if s := got.Reason.String(); s != "DENIED_BY_POLICY" {
		t.Errorf("Reason = %s", s)
	}
}

// TestManyBindings keeps a model beside a resource whose bindings come and go in
// thousands, and checks that views which are past do not change.
func TestManyBindings(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(), 0))
	g := smallWorld(t)
	user := func(n int) checker.Subject { return checker.Subject{Type: checker.UserAccount, ID: strconv.Itoa(n)} }
	const users, perRevision = 3000, 50
	bound := map[int]bool{}
	check := func(v *checker.View, bound map[int]bool) {
		t.Helper()
		for n := range users {
			q := checker.Query{Subject: user(n), Permission: get, Resource: web}
			if d := v.Decide(q); d.Allowed != bound[n] {
				t.Fatalf("revision %d: user %d: %s, bound %t", v.Revision(), n, d.Reason, bound[n])
			}
			if e := v.Explain(q); bound[n] && len(e.Grants) != 1 || e.Allowed != bound[n] {
				t.Fatalf("revision %d: user %d: explained by %v", v.Revision(), n, e.Grants)
			}
		}
	}
	for revision := range 200 {
		pastView, pastBound := g.View(), map[int]bool{}
		for n := range bound {
			pastBound[n] = true
		}
		var changes []checker.Change
		for range perRevision {
			n := rng.IntN(users)
			changes = append(changes, checker.SetSubject{Subject: user(n), State: checker.Active})
			if rng.IntN(3) > 0 {
				changes, bound[n] = append(changes, bind(user(n), "viewer", web)), true
			} else {
				changes = append(changes, checker.Unbind{Resource: web, Subject: user(n), Role: "viewer"})
				delete(bound, n)
			}
		}
		next(t, g, changes...)
		if revision%20 == 0 {
			check(g.View(), bound)
			check(pastView, pastBound)
		}
	}
}

// TestManyIdentities: a subject in a thousand groups, on resources with few and
// with many bindings, so that the walk goes by either.
func TestManyIdentities(t *testing.T) {
	g := smallWorld(t)
	group := func(n int) checker.Subject { return checker.Subject{Type: checker.Group, ID: strconv.Itoa(n)} }
	changes := []checker.Change{bind(group(777), "viewer", web)}
	for n := range 1000 {
		changes = append(changes, checker.SetSubject{Subject: group(n), State: checker.Active},
			checker.Join{Container: checker.Resource{Type: "organization-manager.group", ID: strconv.Itoa(n)}, Subject: ann})
	}
	for n := range 5000 {
		changes = append(changes, bind(group(n+2000), "viewer", data), bind(group(n+2000), "owner", data))
		if n < 300 {
			changes = append(changes, bind(group(n+2000), "viewer", test))
		}
	}
	changes = append(changes, bind(group(5), "viewer", data), bind(group(5), "editor", data), bind(group(6), "viewer", test))
	next(t, g, changes...)
	want(t, g, ann, get, web, checker.Granted)
	want(t, g, ann, update, web, checker.NoGrant)
	want(t, g, ann, update, data, checker.Granted)
	want(t, g, ann, remove, data, checker.NoGrant)
	want(t, g, ann, get, test, checker.Granted)
	want(t, g, ann, update, test, checker.NoGrant)
	if e := g.View().Explain(checker.Query{Subject: ann, Permission: get, Resource: data}); len(e.Grants) != 2 {
		t.Errorf("explained by %v, want the two roles of group 5", e.Grants)
	}
}

// TestConcurrentReaders: readers beside a writer see whole revisions only. In each
// revision ann is in the group or the group has the role, never both; bob has the
// role above or below, always one. A reader that mixes two revisions, or sees
// half of one, finds ann allowed or bob refused.
func TestConcurrentReaders(t *testing.T) {
	g := smallWorld(t, bind(team, "viewer", web), bind(bob, "viewer", acme))
	var acknowledged atomic.Int64
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 3 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				least := acknowledged.Load()
				if d := g.Decide(checker.Query{Subject: ann, Permission: get, Resource: key}); d.Allowed {
					t.Errorf("revision %d allows ann", d.Revision)
				}
				d := g.Decide(checker.Query{Subject: bob, Permission: get, Resource: key})
				if !d.Allowed {
					t.Errorf("revision %d refuses bob: %s", d.Revision, d.Reason)
				}
				if d.Revision < least {
					t.Errorf("revision %d after %d was acknowledged", d.Revision, least)
				}
			}
		})
	}
	viewer := checker.Unbind{Resource: web, Subject: team, Role: "viewer"}
	for n := range 2000 {
		fresh := checker.Resource{Type: "resource-manager.folder", ID: fmt.Sprint("new", n)}
		changes := []checker.Change{
			checker.Join{Container: teamAt, Subject: ann}, bind(bob, "viewer", prod),
			viewer, checker.Unbind{Resource: acme, Subject: bob, Role: "viewer"}, checker.Place{Resource: fresh, Parent: prod},
		}
		if n%2 == 1 {
			changes = []checker.Change{
				bind(team, "viewer", web), checker.Unbind{Resource: prod, Subject: bob, Role: "viewer"},
				checker.Leave{Container: teamAt, Subject: ann}, bind(bob, "viewer", acme), checker.Revoke{Token: checker.TokenID{byte(n)}, Until: int64(n)},
			}
		}
		next(t, g, changes...)
		acknowledged.Store(g.Revision())
		if n%100 == 0 {
			g.Forget(int64(n))
		}
	}
	close(done)
	readers.Wait()
}
