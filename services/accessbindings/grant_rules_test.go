package accessbindings

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
)

// TestSC13_SC14_RefusedPolicies are the policies that nobody can make.
func TestSC13_SC14_RefusedPolicies(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		staff := w.staff()
		w.mustGrant(olga, newPolicy("taken", vera, onPlaces([]Ref{folder1}, useProjects)))
		w.register(Ref{typeCloud, "foreign"}, org2, nil)
		w.know(user("fred"))
		good := func() *accessv1.CreateGrantPolicyRequest {
			return newPolicy("p", staff, onPlaces([]Ref{folder1}, useProjects))
		}
		conditional := onPlaces([]Ref{folder1}, useProjects)
		conditional.Condition = "request.time < x"
		for _, test := range []struct {
			name   string
			change func(*accessv1.CreateGrantPolicyRequest)
			code   codes.Code
			reason string
		}{
			{"no rules", func(r *accessv1.CreateGrantPolicyRequest) { r.Rules = nil }, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"no principal", func(r *accessv1.CreateGrantPolicyRequest) { r.Principal = nil }, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"no scope", func(r *accessv1.CreateGrantPolicyRequest) { r.Rules[0].Scope = nil }, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"an empty scope", func(r *accessv1.CreateGrantPolicyRequest) { r.Rules[0] = onPlaces(nil, useProjects) }, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"no sets", func(r *accessv1.CreateGrantPolicyRequest) { r.Rules[0].PermissionSets = nil }, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"a long name", func(r *accessv1.CreateGrantPolicyRequest) { r.Name = strings.Repeat("n", 65) }, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"a long description", func(r *accessv1.CreateGrantPolicyRequest) { r.Description = strings.Repeat("d", 201) }, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"a tag twice", func(r *accessv1.CreateGrantPolicyRequest) { r.Tags = []string{"a", "a"} }, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"eleven tags", func(r *accessv1.CreateGrantPolicyRequest) { r.Tags = strings.Split("abcdefghijk", "") }, codes.InvalidArgument, "VALIDATION_FAILED"},
			{"a condition", func(r *accessv1.CreateGrantPolicyRequest) { r.Rules[0] = conditional }, codes.InvalidArgument, "CONDITIONS_UNSUPPORTED"},
			{"an unknown set", func(r *accessv1.CreateGrantPolicyRequest) { r.Rules[0].PermissionSets[0] = "Everything" }, codes.NotFound, "PERMISSION_SET_NOT_FOUND"},
			{"sets of both kinds", func(r *accessv1.CreateGrantPolicyRequest) {
				r.Rules[0].PermissionSets = []string{useProjects, openPortal}
			}, codes.InvalidArgument, "PERMISSION_SET_MISPLACED"},
			{"a set of places on the organization", func(r *accessv1.CreateGrantPolicyRequest) { r.Rules[0] = onOrganization(manageAll) }, codes.InvalidArgument, "PERMISSION_SET_MISPLACED"},
			{"an unknown folder", func(r *accessv1.CreateGrantPolicyRequest) {
				r.Rules[0] = onPlaces([]Ref{{typeFolder, "none"}}, useProjects)
			}, codes.NotFound, "RESOURCE_NOT_FOUND"},
			{"a foreign cloud", func(r *accessv1.CreateGrantPolicyRequest) {
				r.Rules[0] = onPlaces([]Ref{{typeCloud, "foreign"}}, useProjects)
			}, codes.NotFound, "RESOURCE_NOT_FOUND"},
			{"a taken name", func(r *accessv1.CreateGrantPolicyRequest) { r.Name = "taken" }, codes.AlreadyExists, "GRANT_POLICY_NAME_TAKEN"},
			{"an unknown principal", func(r *accessv1.CreateGrantPolicyRequest) {
				r.Principal = &accessv1.CreateGrantPolicyRequest_Subject{Subject: user("nobody").proto()}
			}, codes.NotFound, "SUBJECT_NOT_FOUND"},
			{"a foreign principal", func(r *accessv1.CreateGrantPolicyRequest) {
				r.Principal = &accessv1.CreateGrantPolicyRequest_Subject{Subject: user("fred").proto()}
			}, codes.FailedPrecondition, "PRINCIPAL_FOREIGN"},
			{"everybody", func(r *accessv1.CreateGrantPolicyRequest) {
				r.Principal = &accessv1.CreateGrantPolicyRequest_Subject{Subject: &accessv1.Subject{Type: rules.System, Id: "allUsers"}}
			}, codes.FailedPrecondition, "PRINCIPAL_FOREIGN"},
			{"all users of another organization", func(r *accessv1.CreateGrantPolicyRequest) {
				r.Principal = &accessv1.CreateGrantPolicyRequest_Subject{Subject: &accessv1.Subject{Type: rules.System, Id: "group:organization:org2:users"}}
			}, codes.FailedPrecondition, "PRINCIPAL_FOREIGN"},
		} {
			t.Run(test.name, func(t *testing.T) {
				req := good()
				test.change(req)
				_, err := w.grants().CreateGrantPolicy(w.as(olga), req)
				refused(t, err, test.code, test.reason)
			})
		}
		all := good()
		all.Principal = &accessv1.CreateGrantPolicyRequest_Subject{Subject: &accessv1.Subject{Type: rules.System, Id: "group:organization:org1:users"}}
		w.mustGrant(olga, all)
		if !w.allowed(nick, getFolder, folder1) {
			t.Error("a user of the organization lacks what the policy gives to all of them (SC-12)")
		}
		_, err := w.grants().UpdateGrantPolicy(w.as(olga), &accessv1.UpdateGrantPolicyRequest{
			PolicyId: w.mustGrant(olga, newPolicy("q", vera, onPlaces([]Ref{folder1}, useProjects))).GetId(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"principal"}},
		})
		refused(t, err, codes.InvalidArgument, "VALIDATION_FAILED")
	})
}

// TestSC15_WhatAPolicyGivesPassesTheRulesOfGranting: who may give by a policy may give
// by hand, and the other way round.
func TestSC15_WhatAPolicyGivesPassesTheRulesOfGranting(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.staff()
		req := newPolicy("p", vera, onPlaces([]Ref{folder1}, manageAll))
		for _, who := range []Subject{nick, carl, adam} { // adam and carl administer the cloud, and policies are the organization's
			_, err := w.grants().CreateGrantPolicy(w.as(who), req)
			refused(t, err, codes.PermissionDenied, "PERMISSION_DENIED")
		}
		w.mustUpdate(olga, org1, add("organization-manager.admin", nick))
		w.mustBind(olga, cloud1, catalog.DenyGrantAboveOwn)
		_, err := w.grants().CreateGrantPolicy(w.as(nick), req)
		refused(t, err, codes.PermissionDenied, "GRANT_ABOVE_OWN")
		p := w.mustGrant(olga, req)
		w.must(w.setRules(nick, p.GetId(), onPlaces([]Ref{folder1}, manageAll))) // what stays as it is needs nothing
		_, err = w.grants().UpdateGrantPolicy(w.as(nick), &accessv1.UpdateGrantPolicyRequest{
			PolicyId: p.GetId(), Principal: &accessv1.UpdateGrantPolicyRequest_Subject{Subject: nick.proto()},
		})
		refused(t, err, codes.PermissionDenied, "GRANT_ABOVE_OWN")
		w.mustUpdate(olga, org1, remove("organization-manager.admin", nick))
		refused(t, w.deleteGrant(nick, p.GetId()), codes.PermissionDenied, "PERMISSION_DENIED")
	})
}

// TestSC13_LimitsOfPolicies: how many there may be, how much one gives, and the bindings
// of the organization (AB-13).
func TestSC13_LimitsOfPolicies(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.staff()
		pairs := func() int64 {
			n, err := w.service.committer.store.countAssignments(t.Context(), w.db, org1.ID)
			w.must(err)
			return n
		}
		before := pairs()
		w.mustGrant(olga, newPolicy("one", vera, onPlaces([]Ref{folder1, folder2}, useProjects)))
		w.mustGrant(olga, newPolicy("two", vera, onPlaces([]Ref{folder1}, useProjects, manageAll)))
		if got := pairs() - before; got != 3 {
			t.Errorf("%d more pairs, want 3", got)
		}
		w.manager.set(catalog.QuotaAccessBindings, org1.ID, pairs())
		w.clock.advance(2 * time.Minute) // one that was lowered counts within a minute
		_, err := w.grants().CreateGrantPolicy(w.as(olga), newPolicy("three", vera, onPlaces([]Ref{folder2}, manageAll)))
		refused(t, err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
		w.mustGrant(olga, newPolicy("three", vera, onPlaces([]Ref{folder2}, useProjects))) // no more pairs
		w.manager.set(catalog.QuotaAccessBindings, org1.ID, 100_000)
		w.manager.set(catalog.QuotaGrantPolicies, org1.ID, 3)
		w.clock.advance(2 * time.Minute)
		_, err = w.grants().CreateGrantPolicy(w.as(olga), newPolicy("four", vera, onPlaces([]Ref{folder2}, useProjects)))
		refused(t, err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
	})
}

// manyPolicies is the intent that makes policies which all give one pair, in one write.
type manyPolicies struct {
	policies []GrantPolicy
	record   *audit.Record
}

func (in *manyPolicies) plan(_ context.Context, on *state) (plan, error) {
	p := plan{record: in.record}
	b := Binding{Pair: Pair{viewer, vera}}
	for _, one := range in.policies {
		one.CreatedAt, one.UpdatedAt = on.now, on.now
		p.changes = append(p.changes, grantPolicyChange(one))
		b.Sources = append(b.Sources, one.source())
	}
	p.changes = append(p.changes, bindingChange(folder1, b, on.now))
	return p, nil
}

// TestSC20_AThousandPoliciesOnOnePair gives one pair by as many policies as there may be.
// All but a few are made in one write: each write of a pair stores all its sources.
func TestSC20_AThousandPoliciesOnOnePair(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.staff()
		in := &manyPolicies{record: recordOf(t.Context(), eventSource, "CreateManyPolicies")}
		for i := range 995 {
			in.policies = append(in.policies, GrantPolicy{
				ID: id.New(id.GrantPolicy), OrganizationID: org1.ID, Name: fmt.Sprintf("m%d", i), Principal: vera,
				Rules: []GrantRule{{Sets: []string{useProjects}, Places: []Ref{folder1}}},
			})
		}
		_, err := w.service.committer.submit(t.Context(), in)
		w.must(err)
		var ids []string
		for i := range 5 {
			ids = append(ids, w.mustGrant(olga, newPolicy(fmt.Sprintf("p%d", i), vera, onPlaces([]Ref{folder1}, useProjects))).GetId())
		}
		_, err = w.grants().CreateGrantPolicy(w.as(olga), newPolicy("one more", vera, onPlaces([]Ref{folder1}, useProjects)))
		refused(t, err, codes.ResourceExhausted, "QUOTA_EXCEEDED")
		if got := w.sources(folder1, false); len(got) != 1 || strings.Count(got[0], " policy") != 1000 {
			t.Fatalf("%d pairs", len(got))
		}
		w.must(w.deleteGrant(olga, ids[0]))
		w.must(w.deleteGrant(olga, in.policies[0].ID))
		if got := w.sources(folder1, false); len(got) != 1 || strings.Count(got[0], " policy") != 998 || !w.allowed(vera, getFolder, folder1) {
			t.Error("the pair ended with two of a thousand sources")
		}
		w.state(vera, stateDeleted)
		if p := w.readGrant(in.policies[994].ID); !p.GetNoPrincipal() {
			t.Errorf("the principal is deleted and still %v", p.GetSubject())
		}
	})
}

// TestSC20_SourcesAgainstAModel does random things with policies and bindings by hand and
// compares the sources of every pair with what a plain reading of the policies says,
// after each of them and after a restart.
func TestSC20_SourcesAgainstAModel(t *testing.T) {
	seed := seedOf(t)
	forEach(t, func(t *testing.T, w *world) {
		m := &grantModel{world: w, rng: rand.New(rand.NewPCG(seed, 1)), hand: map[string]bool{}, policies: map[string]*modelPolicy{}}
		m.people = []Subject{vera, nick, w.staff(), user("fred")}
		w.know(user("fred"))
		w.must(w.members(org1, []Subject{user("fred")}, nil))
		for n := range 120 {
			m.step(n)
			m.compare()
			if t.Failed() {
				t.Fatalf("step %d of seed %d", n, seed)
			}
		}
		g, err := w.service.committer.store.load(t.Context(), w.service.roles.catalog)
		w.must(err)
		if loaded, live := g.Revision(), w.service.committer.graph.Revision(); loaded != live {
			t.Errorf("loaded %d, live %d", loaded, live)
		}
	})
}

// grantModel is what the policies and people say, kept beside the unit.
type grantModel struct {
	*world
	rng      *rand.Rand
	people   []Subject
	hand     map[string]bool // "resource role subject"
	policies map[string]*modelPolicy
}

type modelPolicy struct {
	who   Subject
	rules map[Ref][]string // sets by place
}

var modelPlaces = []Ref{org1, cloud1, folder1, folder2}

func (m *grantModel) randomRules() (map[Ref][]string, []*accessv1.GrantRule) {
	said := map[Ref][]string{}
	var sent []*accessv1.GrantRule
	for range 1 + m.rng.IntN(3) {
		if m.rng.IntN(3) == 0 {
			set := []string{seeProjects, "IAMReadOnly", openPortal}[m.rng.IntN(3)]
			said[org1] = append(said[org1], set)
			sent = append(sent, onOrganization(set))
			continue
		}
		place, set := modelPlaces[1+m.rng.IntN(3)], []string{useProjects, manageAll}[m.rng.IntN(2)]
		said[place] = append(said[place], set)
		sent = append(sent, onPlaces([]Ref{place}, set))
	}
	return said, sent
}

func (m *grantModel) anyPolicy() string {
	ids := make([]string, 0, len(m.policies))
	for id := range m.policies {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	if len(ids) == 0 {
		return ""
	}
	return ids[m.rng.IntN(len(ids))]
}

func (m *grantModel) step(n int) {
	m.t.Helper()
	id, who := m.anyPolicy(), m.people[m.rng.IntN(len(m.people))]
	switch kind := m.rng.IntN(6); {
	case kind == 0 || id == "":
		said, sent := m.randomRules()
		p := m.mustGrant(olga, newPolicy(fmt.Sprintf("p%d", n), who, sent...))
		m.policies[p.GetId()] = &modelPolicy{who, said}
	case kind == 1:
		said, sent := m.randomRules()
		m.must(m.setRules(olga, id, sent...))
		m.policies[id].rules = said
	case kind == 2:
		_, err := m.grants().UpdateGrantPolicy(m.as(olga), &accessv1.UpdateGrantPolicyRequest{
			PolicyId: id, Principal: &accessv1.UpdateGrantPolicyRequest_Subject{Subject: who.proto()},
		})
		m.must(err)
		m.policies[id].who = who
	case kind == 3:
		m.must(m.deleteGrant(olga, id))
		delete(m.policies, id)
	case kind == 4:
		place, role := modelPlaces[m.rng.IntN(4)], []string{viewer, editor, "resource-manager.viewer"}[m.rng.IntN(3)]
		key := place.ID + " " + role + " " + who.ID
		if m.hand[key] {
			m.mustUpdate(olga, place, remove(role, who))
		} else {
			m.mustUpdate(olga, place, add(role, who))
		}
		m.hand[key] = !m.hand[key]
	case m.rng.IntN(4) == 0 && who.Type == rules.UserAccount: // leaves and comes back
		m.must(m.members(org1, nil, []Subject{who}))
		m.must(m.members(org1, []Subject{who}, nil))
		for key := range m.hand {
			if strings.HasSuffix(key, " "+who.ID) {
				m.hand[key] = false
			}
		}
		for _, p := range m.policies {
			if p.who == who {
				p.who = Subject{}
			}
		}
	}
}

// compare reads the sources of every pair of the people and holds them to the model.
func (m *grantModel) compare() {
	m.t.Helper()
	want := map[string][]string{}
	for key, there := range m.hand {
		if there {
			want[key] = append(want[key], "direct")
		}
	}
	for id, p := range m.policies {
		for place, sets := range p.rules {
			for _, set := range sets {
				s, _ := testCatalog(m.t).PermissionSet(set)
				for _, role := range s.Roles {
					key := place.ID + " " + role + " " + p.who.ID
					if source := "policy" + id; p.who != (Subject{}) && !slices.Contains(want[key], source) {
						want[key] = append(want[key], source)
					}
				}
			}
		}
	}
	for _, place := range modelPlaces {
		got := map[string][]string{}
		for _, line := range m.sources(place, false) {
			f := strings.Fields(line)
			if slices.ContainsFunc(m.people, func(s Subject) bool { return s.ID == f[1] }) {
				got[place.ID+" "+f[0]+" "+f[1]] = f[2:]
			}
		}
		for key, sources := range want {
			if strings.HasPrefix(key, place.ID+" ") {
				slices.Sort(sources)
				if have := slices.Sorted(slices.Values(got[key])); !slices.Equal(have, sources) {
					m.t.Errorf("%s: sources %v, want %v", key, have, sources)
				}
				delete(got, key)
			}
		}
		for key := range got {
			m.t.Errorf("%s is in force, and nothing gives it", key)
		}
	}
}

// TestSC20_AMovedCloudLeavesThePolicies: what the policies of the old organization gave on
// a cloud ends when it goes to another one (CR-7).
func TestSC20_AMovedCloudLeavesThePolicies(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		w.staff()
		p := w.mustGrant(olga, newPolicy("p", vera, onPlaces([]Ref{cloud1, folder1}, useProjects)))
		w.mustUpdate(olga, folder1, add(viewer, nick))
		_, err := w.resources.MoveResource(t.Context(), &accessv1.MoveResourceRequest{Resource: cloud1.proto(), Parent: org2.proto()})
		w.must(err)
		if w.allowed(vera, getFolder, folder1) || !w.allowed(nick, getFolder, folder1) {
			t.Error("bindings of a policy moved along, or those by hand did not")
		}
		if at := w.readGrant(p.GetId()).GetRules()[0].GetPlaces(); len(at.GetCloudIds())+len(at.GetFolderIds()) != 0 {
			t.Errorf("the policy reaches into another organization: %v", at)
		}
	})
}
