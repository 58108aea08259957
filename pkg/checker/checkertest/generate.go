package checkertest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Config says what random worlds are made of.
type Config struct {
	Roles       map[string][]string
	Permissions []string                             // beside those of the roles
	Fits        func(role, resourceType string) bool // where a role may be bound; nil: anywhere
	Policies    bool                                 // with access policies and void tokens
	Doors       bool                                 // only facts that a service lets in: no group in itself, nothing new for who is deleted
}

// Simple is a Config of a few roles, one without permissions, and of a permission
// that no role holds.
func Simple() Config {
	return Config{
		Roles: map[string][]string{
			"none": {}, "viewer": {"doc.get"}, "editor": {"doc.get", "doc.update"}, "owner": {"doc.get", "doc.update", "doc.delete"},
			"deleter": {"doc.delete"},
		},
		Permissions: []string{"doc.unheld"},
		Policies:    true,
	}
}

// Generator makes a random world, steps that change it, and questions about it:
// the same ones from the same source of randomness.
type Generator struct {
	World *World
	rng   *rand.Rand
	cfg   Config
	roles []string // ordered, so that a seed means one world
	asked []string // permissions that questions name
	last  map[string]int
}

// Times of a world lie below this; questions are asked at all of them.
const horizon = 10

// unknown is a subject that nobody makes known. It may have been given things.
const unknown Ref = "userAccount:nobody"

// below says what is placed below what; group, federation and user pool hold
// subjects, a service account is one.
var below = map[string]string{
	"resource-manager.cloud":          "organization-manager.organization",
	"resource-manager.folder":         "resource-manager.cloud",
	"iam.serviceAccount":              "resource-manager.folder",
	"kms.key":                         "resource-manager.folder",
	"organization-manager.group":      "organization-manager.organization",
	"organization-manager.federation": "organization-manager.organization",
	"organization-manager.userpool":   "organization-manager.organization",
}

var containerTypes = []string{
	"organization-manager.organization", "organization-manager.group",
	"organization-manager.federation", "organization-manager.userpool",
}

// Generate makes a world of a random size, 20 to 80 facts.
func Generate(rng *rand.Rand, cfg Config) *Generator {
	g := &Generator{
		World: &World{Roles: cfg.Roles, Permissions: cfg.Permissions},
		rng:   rng, cfg: cfg, roles: slices.Sorted(maps.Keys(cfg.Roles)), last: map[string]int{},
	}
	seen := map[string]bool{}
	for _, role := range g.roles {
		for _, p := range cfg.Roles[role] {
			seen[p] = true
		}
	}
	g.asked = append(slices.Sorted(maps.Keys(seen)), cfg.Permissions...)
	for range 1 + rng.IntN(2) {
		g.take(Step{Kind: Place, Resource: g.name("organization-manager.organization")})
	}
	for range 3 + rng.IntN(5) {
		g.newSubject()
	}
	for range 20 + rng.IntN(60) {
		g.Step()
	}
	return g
}

// Step changes the world at random and returns the steps that it took: one, or
// those that remove a subtree, children first.
func (g *Generator) Step() []Step {
	switch n := g.rng.IntN(100); {
	case n < 18:
		return g.newResource()
	case n < 26:
		return g.newSubject()
	case n < 54:
		return g.bind()
	case n < 60:
		return g.unbind()
	case n < 78:
		return g.join()
	case n < 83:
		return g.leave()
	case n < 89:
		return g.setState()
	case n < 92:
		return g.move()
	case n < 94:
		return g.remove()
	case !g.cfg.Policies:
		return nil
	case n < 97:
		return g.deny()
	case n < 98:
		return g.undeny()
	default:
		return g.take(Step{Kind: Revoke, Token: g.token()})
	}
}

// Query asks something at random, seldom about what does not exist.
func (g *Generator) Query() Query {
	who, _ := pick(g, g.World.Subjects)
	q := Query{Subject: who.Name, Permission: g.asked[g.rng.IntN(len(g.asked))], Resource: g.anyResource(), Now: g.rng.Int64N(horizon)}
	if g.cfg.Policies && g.rng.IntN(20) == 0 {
		q.Token = g.token()
	}
	switch g.rng.IntN(150) {
	case 0:
		q.Subject = unknown
	case 1:
		q.Resource = "resource-manager.folder:nothing"
	case 2:
		q.Permission = "doc.unknown"
	}
	return q
}

func (g *Generator) take(steps ...Step) []Step {
	for _, s := range steps {
		g.World.Take(s)
	}
	return steps
}

// name makes a new name. Ids repeat among types on purpose: they are unique
// within one type only.
func (g *Generator) name(typ string) Ref {
	g.last[typ]++
	return Ref(fmt.Sprintf("%s:x%d", typ, g.last[typ]))
}

func (g *Generator) token() string { return fmt.Sprintf("token%d", g.rng.IntN(4)) }

func pick[T any](g *Generator, from []T) (one T, ok bool) {
	if len(from) == 0 {
		return one, false
	}
	return from[g.rng.IntN(len(from))], true
}

// live returns the resources of one of the types that are not removed; of all
// types when none is given.
func (g *Generator) live(types ...string) []Ref {
	var found []Ref
	for _, r := range g.World.Resources {
		if !r.Removed && (len(types) == 0 || slices.Contains(types, r.Name.Type())) {
			found = append(found, r.Name)
		}
	}
	return found
}

// anyResource may be a removed one.
func (g *Generator) anyResource() Ref { r, _ := pick(g, g.World.Resources); return r.Name }

// subject may be one that is suspended or, but for Doors, deleted or unknown.
func (g *Generator) subject() Ref {
	left := slices.Clone(g.World.Subjects)
	switch {
	case g.cfg.Doors:
		left = slices.DeleteFunc(left, func(s Subject) bool { return s.State == "deleted" })
	case g.rng.IntN(30) == 0:
		return unknown
	}
	if s, ok := pick(g, left); ok {
		return s.Name
	}
	return g.newSubject()[0].Subject
}

// age is the number in an id: the higher, the younger.
func (g *Generator) age(id string) (n int) {
	n, _ = strconv.Atoi(strings.TrimPrefix(id, "x"))
	return n
}

// holder is whom a role is bound to: a subject, a public group or a system group.
func (g *Generator) holder() Ref {
	switch n := g.rng.IntN(24); {
	case n == 0:
		return "system:allUsers"
	case n == 1:
		return "system:allAuthenticatedUsers"
	case n < 6:
		words := map[string]string{
			"organization-manager.organization": "organization", "organization-manager.federation": "federation",
			"organization-manager.userpool": "userpool",
		}
		if r, ok := pick(g, g.live(containerTypes[0], containerTypes[2], containerTypes[3])); ok {
			return Ref("system:group:" + words[r.Type()] + ":" + r.ID() + ":users")
		}
	}
	return g.subject()
}

func (g *Generator) newResource() []Step {
	types := slices.Sorted(maps.Keys(below))
	typ := types[g.rng.IntN(len(types))]
	parent, ok := pick(g, g.live(below[typ]))
	if !ok {
		return nil
	}
	r := g.name(typ)
	steps := []Step{{Kind: Place, Resource: r, Parent: parent}}
	switch typ { // groups and service accounts are subjects as well
	case "organization-manager.group":
		steps = append(steps, Step{Kind: Set, Subject: Ref("group:" + r.ID()), State: "active"})
	case "iam.serviceAccount":
		steps = append(steps, Step{Kind: Set, Subject: Ref("serviceAccount:" + r.ID()), State: "active"})
	}
	return g.take(steps...)
}

func (g *Generator) newSubject() []Step {
	types := []string{"userAccount", "userAccount", "federatedUser"}
	return g.take(Step{Kind: Set, Subject: g.name(types[g.rng.IntN(len(types))]), State: "active"})
}

func (g *Generator) bind() []Step {
	r, ok := pick(g, g.live())
	role := g.roles[g.rng.IntN(len(g.roles))]
	if !ok || g.cfg.Fits != nil && !g.cfg.Fits(role, r.Type()) {
		return nil
	}
	kinds := []string{"direct", "automatic", "policy1", "policy2"}
	var sources []Source
	for _, kind := range kinds[:1+g.rng.IntN(len(kinds))] {
		s := Source{Kind: kind}
		if g.rng.IntN(2) == 0 {
			s.Until = 1 + g.rng.Int64N(horizon)
		}
		if sources = append(sources, s); g.rng.IntN(2) == 0 {
			break
		}
	}
	return g.take(Step{Kind: Bind, Resource: r, Role: role, Subject: g.holder(), Sources: sources})
}

func (g *Generator) unbind() []Step {
	b, ok := pick(g, g.World.Bindings)
	if !ok {
		return nil
	}
	return g.take(Step{Kind: Unbind, Resource: b.Resource, Role: b.Role, Subject: b.Subject})
}

func (g *Generator) join() []Step {
	container, ok := pick(g, g.live(containerTypes...))
	if !ok {
		return nil
	}
	who := g.subject()
	if g.rng.IntN(4) == 0 { // groups in groups are seldom otherwise
		inner, ok := pick(g, g.live("organization-manager.group"))
		outer, ok2 := pick(g, g.live("organization-manager.group"))
		if ok && ok2 {
			container, who = outer, Ref("group:"+inner.ID())
		}
	}
	if g.cfg.Doors && who.Type() == "group" && (container.Type() != "organization-manager.group" || g.age(container.ID()) >= g.age(who.ID())) {
		return nil
	}
	return g.take(Step{Kind: Join, Resource: container, Subject: who})
}

func (g *Generator) leave() []Step {
	m, ok := pick(g, g.World.Members)
	if !ok {
		return nil
	}
	return g.take(Step{Kind: Leave, Resource: m.Container, Subject: m.Subject})
}

func (g *Generator) setState() []Step {
	s, ok := pick(g, g.World.Subjects)
	if !ok || s.State == "deleted" {
		return nil
	}
	states := []string{"active", "active", "active", "suspended", "suspended", "deleted"}
	return g.take(Step{Kind: Set, Subject: s.Name, State: states[g.rng.IntN(len(states))]})
}

// move puts a cloud below another organization (CR-7).
func (g *Generator) move() []Step {
	cloud, ok := pick(g, g.live("resource-manager.cloud"))
	to, ok2 := pick(g, g.live("organization-manager.organization"))
	if !ok || !ok2 {
		return nil
	}
	return g.take(Step{Kind: Place, Resource: cloud, Parent: to})
}

// remove removes a subtree, children first; seldom a whole organization.
func (g *Generator) remove() []Step {
	top, ok := pick(g, g.live())
	if !ok || top.Type() == "organization-manager.organization" && g.rng.IntN(4) > 0 {
		return nil
	}
	order := []Ref{top}
	for at := 0; at < len(order); at++ {
		for _, r := range g.World.Resources {
			if r.Parent == order[at] && !r.Removed {
				order = append(order, r.Name)
			}
		}
	}
	slices.Reverse(order)
	var steps []Step
	for _, r := range order {
		steps = append(steps, Step{Kind: Remove, Resource: r})
	}
	return g.take(steps...)
}

func (g *Generator) deny() []Step {
	r, ok := pick(g, g.live("organization-manager.organization", "resource-manager.cloud", "resource-manager.folder")) // AP-2
	if !ok {
		return nil
	}
	permission := g.asked[g.rng.IntN(len(g.asked))]
	return g.take(Step{Kind: Deny, Resource: r, Policy: fmt.Sprintf("policy%d", g.rng.IntN(2)), Permissions: []string{permission}})
}

func (g *Generator) undeny() []Step {
	p, ok := pick(g, g.World.Policies)
	if !ok {
		return nil
	}
	return g.take(Step{Kind: Undeny, Resource: p.Resource, Policy: p.Name})
}
