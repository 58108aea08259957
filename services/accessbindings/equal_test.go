package accessbindings

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// equalComparisons are made on each engine, unless BINDERY_EQUAL says how many: then
// more is asked of each world, which costs more to make than to ask.
const (
	equalComparisons = 10_000
	equalQuestions   = 4 // after each round of steps
	equalManyMore    = 16
)

// answerer answers questions of one kind about a world, now: whether each of them is a
// yes.
type answerer struct {
	name string
	ask  func(e *equal, q checkertest.Query) // compares by e.compare
}

// answerers are all who answer.
var answerers = []answerer{
	{"check", (*equal).check},
	{"check by token", (*equal).checkByToken},
	{"bulk check", (*equal).bulk},
	{"bulk check by token", (*equal).bulkByToken},
	{"local replica", (*equal).replica},
	{"test permissions", (*equal).test},
	{"explain", (*equal).explain},
	{"list subjects", (*equal).listSubjects},
	{"list resources", (*equal).listResources},
}

// TestEX10_EveryAnswerEqual compares the check and the bulk check (of a subject, and by its
// token, which is the fast path), a replica elsewhere, which, why, who and what with the
// second reading of the rules, on random worlds and at random revisions of their past, over
// both engines, while others write all the time. The worlds have groups in groups, system
// and public groups, service accounts, access policies, bindings that end and those that
// policies give, and clouds whose payers are stopped: each of them is seen to matter.
func TestEX10_EveryAnswerEqual(t *testing.T) {
	if testing.Short() {
		t.Skip("many questions")
	}
	want := equalComparisons
	questions := equalQuestions
	if n, err := strconv.Atoi(os.Getenv("BINDERY_EQUAL")); err == nil {
		want, questions = n, equalManyMore
	}
	seed := seedOf(t)
	sqldbtest.ForEach(t, Name, migrationsOf(), func(t *testing.T, db *sqldb.DB) {
		w := serveWith(t, db, func(ctx context.Context, base server.Base) (*Service, error) {
			s, err := New(ctx, base)
			if err == nil {
				s.every = 24 * time.Hour // the clock goes back here, and what was swept at a later time would be missed
			}
			return s, err
		})
		w.populate()
		e := &equal{oracle: &oracle{world: w, start: time.Now(), answers: map[string]int{}}, questions: questions, counts: map[string]int{}, rests: map[string]int{}}
		e.elsewhere = w.follow("", Subject{})
		stop := e.churn()
		defer stop()
		for n := uint64(0); (e.total < want || e.total < 20*want && len(e.lacking()) > 0) && !t.Failed(); n++ {
			e.run(rand.New(rand.NewPCG(seed, n)), fmt.Sprintf("e%d-", n))
			if t.Failed() {
				t.Fatalf("world %d of seed %d", n, seed)
			}
		}
		stop()
		t.Logf("%d comparisons, %d of them yes, 0 differences, %d revisions of which others made %d, in %v: %v",
			e.total, e.yes, w.head(), e.others.Load(), time.Since(e.start).Round(time.Second), e.counts)
		for _, a := range slices.Concat(answerers, []answerer{{name: "list subjects in the past"}, {name: "explain in the past"}}) {
			if e.counts[a.name] < want/1000 {
				t.Errorf("%s: %d comparisons, too few to tell", a.name, e.counts[a.name])
			}
		}
		t.Logf("answers that rest on what: %v", e.rests)
		if none := e.lacking(); len(none) > 0 {
			t.Errorf("too few answers to tell rest on %v", none)
		}
		if e.yes < want/50 || e.others.Load() < 20 {
			t.Errorf("%d answers are yes, others made %d revisions: too few to tell", e.yes, e.others.Load())
		}
	})
}

// equal asks everybody the same.
type equal struct {
	*oracle
	questions int // after each round of steps
	counts    map[string]int
	total     int
	yes       int
	past      []then
	tokens    map[checkertest.Ref]string
	elsewhere *elsewhere
	rests     map[string]int
	others    atomic.Int64 // revisions that others made
}

// then is a world as it was at a revision.
type then struct {
	revision int64
	world    checkertest.World
}

func (e *equal) compare(name string, q checkertest.Query, in *checkertest.World, got bool) {
	e.t.Helper()
	want := in.Answer(q)
	e.counts[name]++
	e.total++
	if want == checkertest.Yes {
		e.yes++
	}
	e.rest(q, in, want)
	if got != (want == checkertest.Yes) {
		e.t.Errorf("%s: %s: got %t, want %s; the world:\n%s", name, q, got, want, (&checkertest.Scenario{World: *in}).YAML())
	}
}

// run plays a world and asks along its way.
func (e *equal) run(rng *rand.Rand, prefix string) {
	e.t.Helper()
	e.begin(rng, prefix, oracleRoles, oracleTemplates)
	defer e.clock.set(time.Time{})
	e.past, e.tokens = nil, map[checkertest.Ref]string{}
	for range oracleRounds {
		e.clock.set(e.base)
		for range 3 {
			e.play(e.gen.Step())
			e.note()
		}
		for range e.questions {
			q := e.question()
			e.clock.set(e.at(q.Now))
			for _, a := range answerers {
				a.ask(e, q)
			}
			e.back(q)
			if e.t.Failed() {
				return
			}
		}
	}
}

func (e *equal) note() {
	w := *e.gen.World
	for _, clone := range []func(){
		func() { w.Resources = slices.Clone(w.Resources) }, func() { w.Subjects = slices.Clone(w.Subjects) },
		func() { w.Members = slices.Clone(w.Members) }, func() { w.Bindings = slices.Clone(w.Bindings) },
		func() { w.Policies = slices.Clone(w.Policies) }, func() { w.Payers = slices.Clone(w.Payers) },
		func() { w.Stopped = slices.Clone(w.Stopped) },
	} {
		clone()
	}
	e.past = append(e.past, then{e.service.committer.graph.Revision(), w})
}

// question is one about somebody who acts and a permission of the catalogue.
func (e *equal) question() checkertest.Query {
	for {
		q := e.gen.Query()
		q.Token, q.Session = "", ""
		acts := slices.Contains([]string{rules.UserAccount, rules.FederatedUser, rules.ServiceAccount}, q.Subject.Type())
		if acts && e.gen.World.Answer(q) != checkertest.PermissionUnknown {
			return q
		}
	}
}

// permissions are some that the roles of the worlds hold, with that of a question.
func (e *equal) permissions(q checkertest.Query) []string {
	all := []string{q.Permission}
	for range 30 {
		if p := e.question().Permission; !slices.Contains(all, p) {
			all = append(all, p)
		}
	}
	return all
}

func (e *equal) stands(r checkertest.Ref) bool {
	q := checkertest.Query{Resource: r, Subject: "userAccount:nobody", Permission: getFolder}
	for r != "" {
		at := slices.IndexFunc(e.gen.World.Resources, func(x checkertest.Resource) bool { return x.Name == r })
		if at < 0 || e.gen.World.Resources[at].Removed {
			return false
		}
		r = e.gen.World.Resources[at].Parent
	}
	return q.Resource != ""
}

// as is a call by a subject, past the door: who may not act is not asked for there.
func (e *equal) as(s checkertest.Ref) context.Context {
	who := e.who(s)
	return authn.NewContext(e.t.Context(), authn.Principal{Type: who.Type, ID: who.ID})
}

func (e *equal) check(q checkertest.Query) {
	_, err := e.authorize(e.who(q.Subject), q.Permission, e.ref(q.Resource))
	if err != nil && apierr.CodeOf(apierr.FromRPC(err)) != codes.PermissionDenied {
		e.t.Errorf("check: %s: %v", q, err)
	}
	e.compare("check", q, e.gen.World, err == nil)
}

// token is one of the subject of a question, the same all the time.
func (e *equal) token(q checkertest.Query) string {
	if e.tokens[q.Subject] == "" {
		e.tokens[q.Subject] = e.issue(e.who(q.Subject))
	}
	return e.tokens[q.Subject]
}

// checkByToken: who may not act is not even known by a token.
func (e *equal) checkByToken(q checkertest.Query) {
	_, err := e.authorizeBy(e.token(q), q.Permission, e.ref(q.Resource))
	if code := apierr.CodeOf(apierr.FromRPC(err)); err != nil && code != codes.PermissionDenied && code != codes.Unauthenticated {
		e.t.Errorf("check by token: %s: %v", q, err)
	}
	e.compare("check by token", q, e.gen.World, err == nil)
}

func (e *equal) bulkByToken(q checkertest.Query) {
	e.bulkBy("bulk check by token", e.world.check, q, &accessservicev2.BulkAuthorizeRequest{
		Identity: &accessservicev2.BulkAuthorizeRequest_IamToken{IamToken: e.token(q)},
	})
}

// replica asks a process elsewhere, which decides by itself.
func (e *equal) replica(q checkertest.Query) {
	e.compare("local replica", q, e.gen.World, e.told(e.elsewhere, q) == checkertest.Yes)
}

func (e *equal) bulk(q checkertest.Query) {
	e.bulkBy("bulk check", e.asker, q, &accessservicev2.BulkAuthorizeRequest{
		Identity: &accessservicev2.BulkAuthorizeRequest_Subject{Subject: wireSubject(e.who(q.Subject))},
	})
}

func (e *equal) bulkBy(name string, asker accessservicev2.AccessServiceClient, q checkertest.Query, req *accessservicev2.BulkAuthorizeRequest) {
	e.t.Helper()
	permissions := e.permissions(q)
	req.Authorizations = &accessservicev2.BulkAuthorizeRequest_ActionMatrix_{ActionMatrix: &accessservicev2.BulkAuthorizeRequest_ActionMatrix{
		Permissions: permissions, ResourcePaths: []*accessservicev2.ResourcePath{{Path: wire(e.ref(q.Resource))}},
	}}
	resp, err := asker.BulkAuthorize(e.t.Context(), req)
	e.must(err)
	if resp.GetUnauthenticatedError() != nil { // who may not act is not even known by a token
		e.compare(name, q, e.gen.World, false)
		return
	}
	for i, item := range resp.GetResults().GetItems() {
		q.Permission = permissions[i]
		if denial := item.GetPermissionDeniedError(); denial != nil && denial.GetDetails()[0].UnmarshalTo(new(errdetails.ErrorInfo)) != nil {
			e.t.Errorf("%s: %s: %v", name, q, denial)
		}
		e.compare(name, q, e.gen.World, item.GetPermissionDeniedError() == nil)
	}
}

func (e *equal) test(q checkertest.Query) {
	permissions := e.permissions(q)
	resp, err := e.service.questions.TestPermissions(e.as(q.Subject), &accessv1.TestPermissionsRequest{
		Resource: e.ref(q.Resource).proto(), Permissions: permissions,
	})
	if apierr.ReasonOf(err) == apierr.ReasonResourceNotFound && !e.stands(q.Resource) {
		return
	}
	e.must(err)
	for _, q.Permission = range permissions {
		e.compare("test permissions", q, e.gen.World, slices.Contains(resp.GetPermissions(), q.Permission))
	}
}

// explain asks as the subject itself: why it may needs a permission, and lacking that is
// told only to who may.
func (e *equal) explain(q checkertest.Query) {
	e.why("explain", q, e.gen.World, nil)
}

func (e *equal) why(name string, q checkertest.Query, in *checkertest.World, at *accessv1.Moment) {
	e.t.Helper()
	resp, err := e.service.questions.Explain(e.as(q.Subject), &accessv1.ExplainRequest{
		Resource: e.ref(q.Resource).proto(), Permission: q.Permission, At: at,
	})
	allowed := resp.GetAllowed() || apierr.CodeOf(err) == codes.PermissionDenied && infoOf(err)["permission"] == permissionExplain
	if apierr.CodeOf(err) == codes.NotFound && !e.stands(q.Resource) {
		return // of what is gone only refusals are explained
	}
	if err != nil && !allowed {
		e.t.Errorf("%s: %s: %v", name, q, err)
	}
	if want := in.Answer(q); err == nil && resp.GetReason().String() != want {
		e.t.Errorf("%s: %s: explained by %s, want %s; the world:\n%s", name, q, resp.GetReason(), want, (&checkertest.Scenario{World: *in}).YAML())
	}
	e.compare(name, q, in, allowed)
}

func (e *equal) listSubjects(q checkertest.Query) {
	e.whoCan("list subjects", q, e.gen.World, nil)
}

// whoCan asks in pages, from a list that is kept or from the history.
func (e *equal) whoCan(name string, q checkertest.Query, in *checkertest.World, at *accessv1.Moment) {
	e.t.Helper()
	var found []Subject
	req := &accessv1.ListSubjectsRequest{Resource: e.ref(q.Resource).proto(), Permission: q.Permission, At: at, PageSize: int64(1 + e.rng.IntN(4))}
	for {
		resp, err := e.service.questions.ListSubjects(e.t.Context(), req)
		e.must(err)
		for _, s := range resp.GetSubjects() {
			found = append(found, subjectOf(s.GetSubject()))
			if len(s.GetGrants()) == 0 {
				e.t.Errorf("%s: %s: %v has it by nothing", name, q, s)
			}
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
		if e.rng.IntN(2) == 0 {
			e.service.questions.lists.kept = nil
		}
	}
	known := 0
	for _, s := range in.Subjects {
		q.Subject = s.Name
		if s.Name.Type() == rules.Group {
			continue
		}
		is := slices.Contains(found, e.who(s.Name))
		if is {
			known++
		}
		e.compare(name, q, in, is)
	}
	for _, s := range found { // others may have it by a public group, or as keepers of organizations
		if len(s.ID) > len(e.prefix) && s.ID[:len(e.prefix)] == e.prefix {
			known--
		}
	}
	if known != 0 {
		e.t.Errorf("%s: %s: %v, and some of them the world does not know", name, q, found)
	}
}

func (e *equal) listResources(q checkertest.Query) {
	found := make(map[Ref]bool)
	req := &accessv1.ListResourcesRequest{Permission: q.Permission, PageSize: int64(1 + e.rng.IntN(4))}
	for {
		resp, err := e.service.questions.ListResources(e.as(q.Subject), req)
		e.must(err)
		for _, r := range resp.GetResources() {
			found[refOf(r)] = true
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			break
		}
		if e.rng.IntN(2) == 0 {
			e.service.questions.lists.kept = nil
		}
	}
	for _, r := range e.gen.World.Resources {
		q.Resource = r.Name
		e.compare("list resources", q, e.gen.World, found[e.ref(r.Name)])
		delete(found, e.ref(r.Name))
	}
	for r := range found { // those of other worlds, by a public group
		if len(r.ID) > len(e.prefix) && r.ID[:len(e.prefix)] == e.prefix {
			e.t.Errorf("list resources: %s: %v, which the world does not know", q, r)
		}
	}
}

// back asks about a revision in the past of the world.
func (e *equal) back(q checkertest.Query) {
	p := e.past[e.rng.IntN(len(e.past))]
	made, err := e.service.history.made(e.t.Context(), p.revision) // by others, it may be, at another time
	e.must(err)
	q.Now = int64(math.Floor(sqldb.Time(made).Sub(e.base).Seconds()))
	at := atRevision(p.revision)
	e.whoCan("list subjects in the past", q, &p.world, at)
	e.why("explain in the past", q, &p.world, at)
}

// churn has others write, about what no world knows, until it is stopped.
func (e *equal) churn() (stop func()) {
	ctx, cancel := context.WithCancel(e.t.Context())
	var running sync.WaitGroup
	for n := range 2 {
		on, who := Ref{typeOrganization, fmt.Sprintf("churn%d", n)}, user(fmt.Sprintf("churner%d", n))
		e.must(e.raw(&accessv1.Change{Fact: &accessv1.Change_ResourcePlaced{ResourcePlaced: &accessv1.ResourcePlaced{Resource: on.proto()}}},
			subjectChange(who, stateActive)))
		running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				b := Binding{Pair: Pair{viewer, who}}
				if i%2 == 0 {
					b.Sources = []Source{{Kind: accessv1.Source_DIRECT}}
				}
				if _, err := e.service.committer.submit(ctx, facts{[]*accessv1.Change{bindingChange(on, b, 0)}}); err == nil {
					e.others.Add(1)
				}
				pause(ctx, 20*time.Millisecond)
			}
		})
	}
	return func() { cancel(); running.Wait() }
}
