package checker_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
)

// eachWorld runs a law on random worlds.
func eachWorld(t *testing.T, worlds uint64, law func(*testing.T, *checkertest.Generator, *checker.Graph)) {
	t.Helper()
	seed := seed()
	for n := range worlds {
		gen := checkertest.Generate(rand.New(rand.NewPCG(seed, n)), checkertest.Simple())
		g := checker.New(roles(gen.World))
		apply(t, g, gen.World.Steps())
		law(t, gen, g)
		if t.Failed() {
			t.Fatalf("world %d of seed %d:\n%s", n, seed, (&checkertest.Scenario{World: *gen.World}).YAML())
		}
	}
}

// ask asks random questions and returns the answers.
func ask(gen *checkertest.Generator, g *checker.Graph, questions int) map[checkertest.Query]bool {
	asked := map[checkertest.Query]bool{}
	for range questions {
		q := gen.Query()
		asked[q] = g.Decide(query(q)).Allowed
	}
	return asked
}

// TestLaw_MoreBindingsNeverRefuse: adding a binding takes no permission away (RH-4).
func TestLaw_MoreBindingsNeverRefuse(t *testing.T) {
	eachWorld(t, 100, func(t *testing.T, gen *checkertest.Generator, g *checker.Graph) {
		asked := ask(gen, g, 100)
		apply(t, g, []checkertest.Step{{
			Kind: checkertest.Bind, Resource: gen.World.Resources[0].Name, Role: "editor", Subject: gen.Query().Subject,
			Sources: []checkertest.Source{{Kind: "direct"}},
		}})
		for q, allowed := range asked {
			if allowed && !g.Decide(query(q)).Allowed {
				t.Errorf("%s was allowed before a binding was added", q)
			}
		}
	})
}

// TestLaw_NoBindingNoAllow: nothing but a binding grants (RH-5, RH-8).
func TestLaw_NoBindingNoAllow(t *testing.T) {
	eachWorld(t, 100, func(t *testing.T, gen *checkertest.Generator, g *checker.Graph) {
		for _, b := range gen.World.Bindings {
			apply(t, g, []checkertest.Step{{Kind: checkertest.Unbind, Resource: b.Resource, Role: b.Role, Subject: b.Subject}})
		}
		for q, allowed := range ask(gen, g, 100) {
			if allowed {
				t.Errorf("%s is allowed in a world without bindings", q)
			}
		}
	})
}

// TestLaw_PoliciesOnlyRefuse: binding a policy permits nothing, and without any the
// roles alone decide (AP-1).
func TestLaw_PoliciesOnlyRefuse(t *testing.T) {
	eachWorld(t, 100, func(t *testing.T, gen *checkertest.Generator, g *checker.Graph) {
		asked := ask(gen, g, 100)
		on := gen.World.Resources[0].Name
		apply(t, g, []checkertest.Step{{
			Kind: checkertest.Deny, Resource: on, Policy: "another", Permissions: []string{"doc.get", "doc.delete"}, OnParent: []string{"doc.update"},
		}})
		for q, allowed := range asked {
			if !allowed && g.Decide(query(q)).Allowed {
				t.Errorf("%s is allowed since a policy was bound", q)
			}
		}
		apply(t, g, []checkertest.Step{{Kind: checkertest.Undeny, Resource: on, Policy: "another"}})
		for _, p := range gen.World.Policies {
			apply(t, g, []checkertest.Step{{Kind: checkertest.Undeny, Resource: p.Resource, Policy: p.Name}})
		}
		for _, payer := range gen.World.Stopped { // a stopped payer is as good as a policy
			apply(t, g, []checkertest.Step{{Kind: checkertest.Go, Payer: payer}})
		}
		for q := range asked {
			granted := len(gen.World.Grants(q)) > 0
			if d := g.Decide(query(q)); d.Reason == checker.DeniedByPolicy || d.Reason == checker.Granted && !granted || d.Reason == checker.NoGrant && granted {
				t.Errorf("%s: %s without a policy, granted by roles: %t", q, d.Reason, granted)
			}
		}
	})
}

// TestLaw_IdsDoNotMatter: answers do not hang on how things are called.
func TestLaw_IdsDoNotMatter(t *testing.T) {
	eachWorld(t, 100, func(t *testing.T, gen *checkertest.Generator, g *checker.Graph) {
		other := checker.New(roles(gen.World))
		var renamed []checker.Change
		for _, s := range gen.World.Steps() {
			renamed = append(renamed, change(checkertest.Step{
				Kind: s.Kind, Resource: rename(s.Resource), Parent: rename(s.Parent), Subject: rename(s.Subject), State: s.State, Until: s.Until,
				Role: s.Role, Sources: s.Sources, Policy: s.Policy, Permissions: s.Permissions, OnParent: s.OnParent, Token: s.Token,
				Payer: rename(s.Payer),
			}))
		}
		if err := other.Load(1, stream(renamed)); err != nil {
			t.Fatal(err)
		}
		for q, allowed := range ask(gen, g, 100) {
			r := q
			r.Subject, r.Resource = rename(q.Subject), rename(q.Resource)
			if got := other.Decide(query(r)).Allowed; got != allowed {
				t.Errorf("%s: %t under these names, %t under others", q, allowed, got)
			}
		}
	})
}

// rename gives a resource or subject another id; that of a system group names its
// container.
func rename(r checkertest.Ref) checkertest.Ref {
	switch {
	case r == "" || r.ID() == checker.AllUsers || r.ID() == checker.AllAuthenticatedUsers:
		return r
	case r.Type() == checker.System: // group:organization:<id>:users
		words := strings.Split(r.ID(), ":")
		words[2] = "z" + words[2] + "z"
		return checkertest.Ref("system:" + strings.Join(words, ":"))
	default:
		return checkertest.Ref(r.Type() + ":z" + r.ID() + "z")
	}
}
