package accessbindings

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// Size of the comparison, for each engine.
const (
	oracleWorlds    = 160
	oracleRounds    = 4  // of further steps, with questions after each
	oracleIdentites = 4  // asked about in a round, each at a time of its own
	oracleQuestions = 40 // of one identity at one time
)

// oracleRoles are the roles of the random worlds: of the real catalogue, wide and
// narrow, of several types.
var oracleRoles = []string{
	"auditor", viewer, editor, admin, cloudOwner, orgOwner, "resource-manager.clouds.member", "resource-manager.auditor",
	"organization-manager.groups.editor", "iam.serviceAccounts.user", "iam.serviceAccounts.tokenCreator", "kms.keys.encrypter", "kms.viewer",
}

// oracleTemplates are the access policies of the random worlds, written down once
// more from rules AP-5, AP-6 and AP-8.
var oracleTemplates = []checkertest.Template{
	{Name: denyAccounts, Permissions: []string{createAccount}, BindOn: checkertest.Levels},
	{Name: denyCredentials, Permissions: []string{
		"iam.accessKeys.create", "iam.ephemeralAccessKeys.create", "iam.apiKeys.create", "iam.authorizedKeys.create", "iam.federatedCredentials.create",
	}, BindOn: checkertest.Levels},
	{Name: denyImpersonate, Permissions: []string{"iam.serviceAccounts.createToken"}, BindOn: checkertest.Levels},
	{Name: denyUsers, Permissions: []string{"organization-manager.users.list"}, BindOn: checkertest.Levels[:1]},
	{Name: keepClouds, Permissions: []string{deleteCloud}, BindOn: checkertest.Levels},
	{Name: keepFolders, Permissions: []string{deleteFolder, deleteCloud}, OnParent: []string{deleteCloud}, BindOn: checkertest.Levels},
}

// stopDenies is what nobody has where the payer is stopped, of the permissions of some
// roles: read off PT-30 once more. Things are not used, but looked at, let go, and access
// to them is managed.
func stopDenies(roles map[string][]string) (denied []string) {
	for _, held := range roles {
		for _, p := range held {
			words := strings.Split(p, ".")
			used := slices.Contains([]string{"kms", "marketplace", "license-manager"}, words[0])
			stays := slices.Contains([]string{"get", "list", "delete", "listAccessBindings", "updateAccessBindings"}, words[len(words)-1])
			further := p == "resource-manager.clouds.cancelDeletion" // DL-11: what goes is not taken back
			if (used && !stays || further) && !slices.Contains(denied, p) {
				denied = append(denied, p)
			}
		}
	}
	slices.Sort(denied) // so that a seed means one world
	return denied
}

// TestOracle compares the answers of AccessService with the second reading of the
// rules in checkertest, on random worlds that are written through the unit, over
// both engines. A difference prints the seed and the world.
func TestOracle(t *testing.T) {
	if testing.Short() {
		t.Skip("100,000 questions per engine")
	}
	seed := seedOf(t)
	forEach(t, func(t *testing.T, w *world) {
		o := &oracle{world: w, start: time.Now(), answers: map[string]int{}}
		for n := range uint64(oracleWorlds) {
			o.run(rand.New(rand.NewPCG(seed, n)), fmt.Sprintf("w%d-", n))
			if t.Failed() {
				t.Fatalf("world %d of seed %d", n, seed)
			}
		}
		o.reopen()
		total := 0
		for _, n := range o.answers {
			total += n
		}
		t.Logf("%d questions, %d of them alone, after %d writes, in %v: %v",
			total, o.single, w.service.committer.graph.Revision(), time.Since(o.start).Round(time.Millisecond), o.answers)
		if total < 100_000 {
			t.Errorf("%d questions, want 100,000", total)
		}
		if o.byRPC < 30 {
			t.Errorf("%d memberships were changed through GroupService, too few to tell", o.byRPC)
		}
		for _, want := range []string{checkertest.Yes, checkertest.NoGrant, checkertest.DeniedByPolicy, checkertest.SubjectInactive, checkertest.ResourceDeleted} {
			if o.answers[want] < 500 {
				t.Errorf("%d questions ended with %s, too few to tell", o.answers[want], want)
			}
		}
	})
}

// seedOf is the seed of a random test, printed, and given again by BINDERY_SEED.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv("BINDERY_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("BINDERY_SEED=%d", seed)
	return seed
}

// oracle plays one generator after the other into a world of the unit. Names get
// a prefix, so that all worlds stand in one store.
type oracle struct {
	*world
	gen      *checkertest.Generator
	rng      *rand.Rand
	prefix   string
	base     time.Time // time 0 of the world
	placed   map[checkertest.Ref]bool
	start    time.Time
	ids      map[string]string           // of the groups that GroupService made, by their id in the world
	byRPC    int                         // memberships changed there
	payers   accessv1.PayerServiceClient // as partner
	tellings int64                       // about payers
	single   int
	answers  map[string]int
}

// begin makes a world of some roles and policies of the catalogue and stops the
// clock at its time 0.
func (o *oracle) begin(rng *rand.Rand, prefix string, roles []string, templates []checkertest.Template) {
	o.t.Helper()
	matrix, _ := testCatalog(o.t).Matrix()
	cfg := checkertest.Config{Roles: map[string][]string{}, Fits: testCatalog(o.t).Assignable, Templates: templates, Doors: true}
	for _, id := range roles {
		cfg.Roles[id] = matrix[id]
	}
	cfg.StopDenies = stopDenies(cfg.Roles)
	o.rng, o.prefix, o.placed, o.ids = rng, prefix, map[checkertest.Ref]bool{}, map[string]string{}
	o.base = time.Now().Truncate(time.Microsecond)
	o.clock.set(o.base)
	o.gen = checkertest.Generate(rng, cfg)
	o.play(found(o.gen.World))
}

func (o *oracle) run(rng *rand.Rand, prefix string) {
	o.t.Helper()
	o.begin(rng, prefix, oracleRoles, oracleTemplates)
	defer o.clock.set(time.Time{})
	for range oracleRounds {
		o.clock.set(o.base)
		for range 5 {
			o.play(o.gen.Step())
		}
		for range oracleIdentites {
			o.ask()
		}
		if o.t.Failed() {
			return
		}
	}
}

// reopen compares what a process that starts now would answer about the last world.
func (o *oracle) reopen() {
	o.t.Helper()
	g, err := o.service.committer.store.load(o.t.Context(), o.service.roles.catalog)
	o.must(err)
	for range 2000 {
		q := o.gen.Query()
		decision := g.Decide(checker.Query{
			Subject: checker.Subject(o.who(q.Subject)), Permission: q.Permission,
			Resource: checker.Resource(o.ref(q.Resource)), Now: o.at(q.Now).UnixMicro(),
		})
		if want := o.gen.World.Answer(q); decision.Allowed != (want == checkertest.Yes) {
			o.t.Errorf("after a restart: %s: got %s, want %s", q, decision.Reason, want)
		}
	}
}

// found are steps that lead to a world by what the services let in: things are
// there before something is said about them, and are removed last.
func found(w *checkertest.World) []checkertest.Step {
	var steps, removals, states []checkertest.Step
	placed := map[checkertest.Ref]bool{"": true}
	for len(placed) <= len(w.Resources) {
		for _, r := range w.Resources {
			if !placed[r.Name] && placed[r.Parent] {
				placed[r.Name] = true
				steps = append(steps, checkertest.Step{Kind: checkertest.Place, Resource: r.Name, Parent: r.Parent})
				if r.Removed {
					removals = append(removals, checkertest.Step{Kind: checkertest.Remove, Resource: r.Name})
				}
			}
		}
	}
	slices.Reverse(removals) // children first
	for _, s := range w.Subjects {
		steps = append(steps, checkertest.Step{Kind: checkertest.Set, Subject: s.Name, State: "active"})
		if s.State != "active" || s.Until != 0 {
			states = append(states, checkertest.Step{Kind: checkertest.Set, Subject: s.Name, State: s.State, Until: s.Until})
		}
	}
	for _, m := range w.Members {
		steps = append(steps, checkertest.Step{Kind: checkertest.Join, Resource: m.Container, Subject: m.Subject})
	}
	for _, b := range w.Bindings {
		steps = append(steps, checkertest.Step{Kind: checkertest.Bind, Resource: b.Resource, Subject: b.Subject, Role: b.Role, Sources: b.Sources})
	}
	for _, p := range w.Policies {
		steps = append(steps, checkertest.Step{Kind: checkertest.Deny, Resource: p.Resource, Policy: p.Name})
	}
	for _, p := range w.Payers {
		steps = append(steps, checkertest.Step{Kind: checkertest.Pay, Resource: p.For, Payer: p.By})
	}
	for _, payer := range w.Stopped {
		steps = append(steps, checkertest.Step{Kind: checkertest.Stop, Payer: payer})
	}
	return slices.Concat(steps, removals, states)
}

// at is a time of the world by the clock: one unit is a second.
func (o *oracle) at(now int64) time.Time { return o.base.Add(time.Duration(now) * time.Second) }

func (o *oracle) ref(r checkertest.Ref) Ref {
	if id := o.ids[r.ID()]; r.Type() == typeGroup && id != "" {
		return Ref{typeGroup, id}
	}
	return Ref{r.Type(), o.id(r)}
}

// id makes the ids of subjects differ by type, since GroupService is told nothing but
// the id; those of resources stay alike.
func (o *oracle) id(r checkertest.Ref) string {
	initials := map[string]string{rules.UserAccount: "u", rules.FederatedUser: "f", rules.ServiceAccount: "s", typeServiceAccount: "s"}
	return o.prefix + initials[r.Type()] + r.ID()
}

// who prefixes the id of a subject, and of the container that a system group is of.
func (o *oracle) who(r checkertest.Ref) Subject {
	if typ, id, ok := rules.Container(r.ID()); ok {
		group, _ := rules.SystemGroup(typ, o.prefix+id)
		return Subject{r.Type(), group}
	}
	if r.Type() == rules.System {
		return Subject{r.Type(), r.ID()}
	}
	if id := o.ids[r.ID()]; r.Type() == rules.Group && id != "" {
		return group(id)
	}
	return Subject{r.Type(), o.id(r)}
}

// play makes the steps real: by the RPC where there is one, and by an intent of
// the test where only a fact is meant (bindings with sources of all kinds, and
// what the services refuse or do more about).
func (o *oracle) play(steps []checkertest.Step) {
	o.t.Helper()
	for _, s := range steps {
		if err := o.step(s); err != nil && !o.outlived(s, err) {
			o.t.Fatalf("%+v: %v; the world:\n%s", s, err, (&checkertest.Scenario{World: *o.gen.World}).YAML())
		}
	}
}

// outlived reports a refusal that says what the world says too: a deleted subject
// gets nothing new, and a service account or group ends with its resource.
func (o *oracle) outlived(s checkertest.Step, err error) bool {
	reason := apierr.ReasonOf(err)
	removed := slices.ContainsFunc(o.gen.World.Resources, func(r checkertest.Resource) bool {
		return r.Removed && r.Name.ID() == s.Subject.ID()
	})
	deleted := slices.ContainsFunc(o.gen.World.Subjects, func(x checkertest.Subject) bool {
		return x.Name == s.Subject && x.State == "deleted"
	})
	return (removed || deleted) && (reason == "SUBJECT_DELETED" || reason == ReasonSubjectNotFound)
}

func (o *oracle) step(s checkertest.Step) error {
	ctx := o.t.Context()
	if isGroup(s) {
		return o.groupStep(s)
	}
	switch s.Kind {
	case checkertest.Place:
		if s.Parent == "" && !o.placed[s.Resource] && s.Resource.Type() == typeOrganization {
			o.placed[s.Resource] = true
			return o.found(s.Resource)
		}
		if o.placed[s.Resource] {
			_, err := o.unit(s.Resource.Type()).MoveResource(ctx,
				&accessv1.MoveResourceRequest{Resource: o.ref(s.Resource).proto(), Parent: o.ref(s.Parent).proto()})
			return err
		}
		o.placed[s.Resource] = true
		req := &accessv1.RegisterResourceRequest{Resource: o.ref(s.Resource).proto()}
		if s.Parent != "" {
			req.Parent = o.ref(s.Parent).proto()
		}
		_, err := o.unit(s.Resource.Type()).RegisterResource(ctx, req)
		return err
	case checkertest.Remove:
		_, err := o.unit(s.Resource.Type()).RemoveResource(ctx, &accessv1.RemoveResourceRequest{Resource: o.ref(s.Resource).proto()})
		if apierr.ReasonOf(err) == "LAST_OWNER" { // an account, which goes all the same
			err = o.raw(subjectChange(robot(o.ref(s.Resource).ID), stateDeleted), removed(o.ref(s.Resource)))
		}
		return err
	case checkertest.Set:
		state := map[string]State{"active": stateActive, "suspended": stateSuspended, "deleted": stateDeleted}[s.State]
		is := standing{State: state}
		if s.Until != 0 {
			is.End = o.at(s.Until).UnixMicro()
		}
		req := &accessv1.SetSubjectRequest{Subject: o.who(s.Subject).proto(), State: is.State, ExpiresAt: stamp(is.End)}
		_, err := o.subjects.SetSubject(ctx, req)
		if apierr.ReasonOf(err) == "LAST_OWNER" { // it goes all the same
			err = o.raw(standingChange(o.who(s.Subject), is))
		}
		return err
	case checkertest.Join:
		return o.members(o.ref(s.Resource), []Subject{o.who(s.Subject)}, nil)
	case checkertest.Leave: // who leaves an organization by the RPC loses more than that (GR-6)
		return o.raw(memberChange(o.ref(s.Resource), o.who(s.Subject), false))
	case checkertest.Bind:
		b := Binding{Pair: Pair{s.Role, o.who(s.Subject)}}
		for _, src := range s.Sources {
			b.Sources = append(b.Sources, o.source(src))
		}
		return o.raw(bindingChange(o.ref(s.Resource), b, 0))
	case checkertest.Unbind:
		return o.raw(bindingChange(o.ref(s.Resource), Binding{Pair: Pair{s.Role, o.who(s.Subject)}}, 0))
	case checkertest.Deny, checkertest.Undeny:
		return o.policy(s)
	case checkertest.Pay, checkertest.Stop, checkertest.Go:
		return o.payer(s)
	default:
		return fmt.Errorf("a step of kind %s", s.Kind)
	}
}

// payer tells who pays, and whether who pays is stopped, as the unit partner.
func (o *oracle) payer(s checkertest.Step) error {
	if o.payers == nil {
		o.payers = accessv1.NewPayerServiceClient(o.Unit("partner", Name))
	}
	o.tellings++
	if s.Kind == checkertest.Pay {
		req := &accessv1.SetPayerRequest{CloudId: o.ref(s.Resource).ID, Version: o.tellings}
		if s.Payer != "" {
			req.BillingAccountId = o.ref(s.Payer).ID
		}
		_, err := o.payers.SetPayer(o.t.Context(), req)
		return err
	}
	_, err := o.payers.SetPayerStopped(o.t.Context(), &accessv1.SetPayerStoppedRequest{
		BillingAccountId: o.ref(s.Payer).ID, Stopped: s.Kind == checkertest.Stop, Version: o.tellings,
	})
	return err
}

// policy binds or unbinds a policy by the RPC, as somebody who is the admin of the
// resource for that moment only, and of whom nobody in the world knows.
func (o *oracle) policy(s checkertest.Step) error {
	on, manager := o.ref(s.Resource), user("manager")
	if err := o.raw(subjectChange(manager, stateActive), bindingChange(on, Binding{Pair: Pair{admin, manager}, Sources: []Source{{}}}, 0)); err != nil {
		return err
	}
	var err error
	if s.Kind == checkertest.Deny {
		_, err = o.bindPolicy(manager, on, s.Policy)
	} else {
		_, err = o.unbindPolicy(manager, on, s.Policy)
	}
	return errors.Join(err, o.raw(bindingChange(on, Binding{Pair: Pair{admin, manager}}, 0)))
}

func (o *oracle) source(s checkertest.Source) Source {
	out := Source{Kind: accessv1.Source_POLICY, ID: s.Kind}
	switch s.Kind {
	case "direct":
		out = Source{Kind: accessv1.Source_DIRECT}
	case "automatic":
		out = Source{Kind: accessv1.Source_AUTOMATIC}
	}
	if s.Until != 0 {
		out.End = o.at(s.Until).UnixMicro()
	}
	return out
}

// facts is an intent that no rule looks at.
type facts struct{ changes []*accessv1.Change }

func (in facts) plan(context.Context, *state) (plan, error) {
	return plan{changes: in.changes, record: &audit.Record{EventSource: "test", EventType: "test"}}, nil
}

func (o *oracle) raw(changes ...*accessv1.Change) error {
	_, err := o.service.committer.submit(o.t.Context(), facts{changes})
	return err
}
