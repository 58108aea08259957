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
	Templates   []Template                           // of access policies; none: no policies
	Tokens      bool                                 // with void tokens
	StopDenies  []string                             // what nobody has where the payer is stopped; none: no payers
	Doors       bool                                 // only facts that a service lets in: no group in itself, nothing new for who is deleted
}

// Template says what a policy of a name denies, and on which types of resources it
// may be.
type Template struct {
	Name        string
	Permissions []string
	OnParent    []string
	BindOn      []string
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
		Templates: []Template{
			{"denyGet", []string{"doc.get"}, nil, Levels}, {"denyUpdate", []string{"doc.update", "doc.unheld"}, nil, Levels},
			{"denyDelete", []string{"doc.delete"}, []string{"doc.delete", "doc.update"}, Levels[1:]}, {"denyNothing", nil, nil, Levels},
		},
		Tokens:     true,
		StopDenies: []string{"doc.update", "doc.unheld"},
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

// account is the type of what pays for clouds.
const account = "billing.account"

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

// Levels are the types of resources that carry access policies (AP-2), from above.
var Levels = []string{"organization-manager.organization", "resource-manager.cloud", "resource-manager.folder"}

var containerTypes = []string{
	"organization-manager.organization", "organization-manager.group",
	"organization-manager.federation", "organization-manager.userpool",
}

// Generate makes a world of a random size, 20 to 80 facts.
func Generate(rng *rand.Rand, cfg Config) *Generator {
	g := &Generator{
		World: &World{Roles: cfg.Roles, Permissions: cfg.Permissions, StopDenies: cfg.StopDenies},
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
	g.settle()
	for range min(2, len(cfg.StopDenies)) {
		g.take(Step{Kind: Place, Resource: g.name(account)})
	}
	for range 20 + rng.IntN(60) {
		g.Step()
	}
	return g
}

// settle makes what chance alone seldom brings together: a service account, and somebody
// in a group that is in another one.
func (g *Generator) settle() {
	for _, typ := range []string{"resource-manager.cloud", "resource-manager.folder", "iam.serviceAccount", "organization-manager.group", "organization-manager.group"} {
		g.place(typ)
	}
	groups := g.live("organization-manager.group")
	g.take(
		Step{Kind: Join, Resource: groups[0], Subject: Ref("group:" + groups[1].ID())},
		Step{Kind: Join, Resource: groups[1], Subject: g.World.Subjects[0].Name},
	)
}

// Step changes the world at random and returns the steps that it took: one, or
// those that remove a subtree, children first.
func (g *Generator) Step() []Step {
	if len(g.cfg.StopDenies) > 0 && g.rng.IntN(12) == 0 {
		return g.pay()
	}
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
	case n < 99 && len(g.cfg.Templates) == 0, n >= 99 && !g.cfg.Tokens:
		return nil
	case n < 98:
		return g.deny()
	case n < 99:
		return g.undeny()
	default:
		return g.take(Step{Kind: Revoke, Token: g.token()})
	}
}

// Query asks something at random, seldom about what does not exist.
func (g *Generator) Query() Query {
	who, _ := pick(g, g.World.Subjects)
	q := Query{Subject: who.Name, Permission: g.asked[g.rng.IntN(len(g.asked))], Resource: g.anyResource(), Now: g.rng.Int64N(horizon)}
	if b, ok := pick(g, g.World.Bindings); ok && g.rng.IntN(3) == 0 { // and few hold anything
		q = g.given(q, b)
	}
	if p, ok := pick(g, g.World.Policies); ok && g.rng.IntN(4) == 0 { // few permissions are denied
		if permission, ok := pick(g, slices.Concat(p.Permissions, p.OnParent)); ok {
			q.Permission = permission
		}
	}
	if p, ok := pick(g, g.World.Payers); ok && g.rng.IntN(6) == 0 { // and few are stopped
		q.Permission = g.cfg.StopDenies[g.rng.IntN(len(g.cfg.StopDenies))]
		if below := g.inside(p.For); g.rng.IntN(2) == 0 {
			q.Resource = below[g.rng.IntN(len(below))]
		}
	}
	if g.cfg.Tokens && g.rng.IntN(20) == 0 {
		q.Token = g.token()
	}
	if g.cfg.Tokens && g.rng.IntN(20) == 0 {
		q.Session = g.token()
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

// given turns a question to what a binding may give, to one of those who have it.
func (g *Generator) given(q Query, b Binding) Query {
	if permission, ok := pick(g, g.World.Roles[b.Role]); ok {
		q.Permission = permission
	}
	q.Resource, _ = pick(g, g.inside(b.Resource))
	holders := slices.DeleteFunc(slices.Clone(g.World.Subjects), func(s Subject) bool { return !g.World.countsAs(s.Name, b.Subject, nil) })
	if who, ok := pick(g, holders); ok {
		q.Subject = who.Name
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
	case n < 12: // these are fewer than users
		for range 10 {
			if s := g.subject(); s.Type() == "group" || s.Type() == "serviceAccount" {
				return s
			}
		}
	}
	return g.subject()
}

func (g *Generator) newResource() []Step {
	types := slices.Sorted(maps.Keys(below))
	return g.place(types[g.rng.IntN(len(types))])
}

// place makes a resource of a type, if there is what it stands below.
func (g *Generator) place(typ string) []Step {
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
	g.rng.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
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
	return g.take(Step{Kind: Set, Subject: s.Name, State: states[g.rng.IntN(len(states))], Until: g.end(s.Name)})
}

// end is when a subject ends to act: seldom, and never for a group.
func (g *Generator) end(s Ref) int64 {
	if s.Type() == "group" || g.rng.IntN(3) > 0 {
		return 0
	}
	return 1 + g.rng.Int64N(horizon)
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
	top, ok := pick(g, slices.DeleteFunc(g.live(), func(r Ref) bool { return r.Type() == account })) // who pays stays
	if !ok || top.Type() == "organization-manager.organization" && g.rng.IntN(4) > 0 {
		return nil
	}
	order := g.inside(top)
	slices.Reverse(order)
	var steps []Step
	for _, r := range order {
		steps = append(steps, Step{Kind: Remove, Resource: r})
	}
	return g.take(steps...)
}

// inside is a resource and all that stands below it, from above.
func (g *Generator) inside(top Ref) []Ref {
	order := []Ref{top}
	for at := 0; at < len(order); at++ {
		for _, r := range g.World.Resources {
			if r.Parent == order[at] && !r.Removed {
				order = append(order, r.Name)
			}
		}
	}
	return order
}

// pay changes who pays for a cloud, or whether a payer is stopped.
func (g *Generator) pay() []Step {
	payer, _ := pick(g, g.live(account))
	cloud, there := pick(g, g.live("resource-manager.cloud"))
	switch n := g.rng.IntN(6); {
	case n < 2 && there:
		return g.take(Step{Kind: Pay, Resource: cloud, Payer: payer})
	case n == 2 && there:
		return g.take(Step{Kind: Pay, Resource: cloud})
	case n < 5:
		return g.take(Step{Kind: Stop, Payer: payer, Permissions: g.cfg.StopDenies})
	default:
		return g.take(Step{Kind: Go, Payer: payer})
	}
}

// deny binds a policy that the resource does not have yet (AP-3).
func (g *Generator) deny() []Step {
	t := g.cfg.Templates[g.rng.IntN(len(g.cfg.Templates))]
	r, ok := pick(g, g.live(t.BindOn...))
	if !ok || slices.ContainsFunc(g.World.Policies, func(p Policy) bool { return p.Resource == r && p.Name == t.Name }) {
		return nil
	}
	return g.take(Step{Kind: Deny, Resource: r, Policy: t.Name, Permissions: t.Permissions, OnParent: t.OnParent})
}

func (g *Generator) undeny() []Step {
	bound := slices.DeleteFunc(slices.Clone(g.World.Policies), func(p Policy) bool { return g.World.removed(p.Resource) })
	p, ok := pick(g, bound)
	if !ok {
		return nil
	}
	return g.take(Step{Kind: Undeny, Resource: p.Resource, Policy: p.Name})
}
