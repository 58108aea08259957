package checkertest

import (
	"slices"
	"strings"
)

// Ref names a resource or a subject as <type>:<id>; "" names none.
type Ref string

// Type is the part before the first colon.
func (r Ref) Type() string { typ, _, _ := strings.Cut(string(r), ":"); return typ }

// ID is the part after the first colon.
func (r Ref) ID() string { _, id, _ := strings.Cut(string(r), ":"); return id }

// World is all facts that decide, as lists.
type World struct {
	Roles       map[string][]string `yaml:"roles"`                 // role → permissions, inclusions expanded
	Permissions []string            `yaml:"permissions,omitempty"` // that exist beside those of the roles
	Resources   []Resource          `yaml:"resources"`
	Subjects    []Subject           `yaml:"subjects"`
	Members     []Member            `yaml:"members,omitempty"`
	Bindings    []Binding           `yaml:"bindings,omitempty"`
	Policies    []Policy            `yaml:"policies,omitempty"`
	Revoked     []string            `yaml:"revoked,omitempty"` // tokens that are void
	Payers      []Payer             `yaml:"payers,omitempty"`
	Stopped     []Ref               `yaml:"stopped,omitempty"`     // payers that are
	StopDenies  []string            `yaml:"stop_denies,omitempty"` // permissions that nobody has on what they pay for
}

// Resource is a resource in the tree. A removed one stays in the list.
type Resource struct {
	Name    Ref  `yaml:"name"`
	Parent  Ref  `yaml:"parent,omitempty"`
	Removed bool `yaml:"removed,omitempty"`
}

// Subject is a subject with its state: active, suspended or deleted. Until is when
// it ends to act, 0 for never.
type Subject struct {
	Name  Ref    `yaml:"name"`
	State string `yaml:"state"`
	Until int64  `yaml:"until,omitempty"`
}

// Member is one direct membership.
type Member struct {
	Container Ref `yaml:"container"`
	Subject   Ref `yaml:"subject"`
}

// Binding is one role for one subject on one resource, with what keeps it alive.
type Binding struct {
	Resource Ref      `yaml:"resource"`
	Role     string   `yaml:"role"`
	Subject  Ref      `yaml:"subject"`
	Sources  []Source `yaml:"sources"`
}

// Source is one reason for a binding. Until is when it ends, 0 for never.
type Source struct {
	Kind  string `yaml:"kind"` // direct, automatic, or the id of a policy
	Until int64  `yaml:"until,omitempty"`
}

// Policy is an access policy on a resource: the permissions that it denies there
// and below, and those that it denies on the parent of the resource alone.
type Policy struct {
	Resource    Ref      `yaml:"resource"`
	Name        string   `yaml:"name"`
	Permissions []string `yaml:"permissions"`
	OnParent    []string `yaml:"on_parent,omitempty"`
}

// Payer says who pays for a resource.
type Payer struct {
	For Ref `yaml:"for"`
	By  Ref `yaml:"by"`
}

// Step is one change of a world. Which fields count is said at its kind.
type Step struct {
	Kind        Kind     `yaml:"kind"`
	Resource    Ref      `yaml:"resource,omitempty"`
	Parent      Ref      `yaml:"parent,omitempty"`
	Subject     Ref      `yaml:"subject,omitempty"`
	State       string   `yaml:"state,omitempty"`
	Until       int64    `yaml:"until,omitempty"`
	Role        string   `yaml:"role,omitempty"`
	Sources     []Source `yaml:"sources,omitempty"`
	Policy      string   `yaml:"policy,omitempty"`
	Permissions []string `yaml:"permissions,omitempty"`
	OnParent    []string `yaml:"on_parent,omitempty"`
	Token       string   `yaml:"token,omitempty"`
	Payer       Ref      `yaml:"payer,omitempty"`
}

// Kind is what a step does.
type Kind string

// Kinds of steps.
const (
	Place  Kind = "place"  // Resource below Parent, now
	Remove Kind = "remove" // Resource; it has nothing below it
	Bind   Kind = "bind"   // Role for Subject on Resource, alive by Sources alone
	Unbind Kind = "unbind" // the same pair, gone
	Set    Kind = "set"    // Subject has State, and acts Until then
	Join   Kind = "join"   // Subject is in Resource
	Leave  Kind = "leave"  // Subject is not
	Revoke Kind = "revoke" // Token
	Deny   Kind = "deny"   // Policy with Permissions and OnParent on Resource
	Undeny Kind = "undeny" // Policy on Resource, gone
	Pay    Kind = "pay"    // Payer pays for Resource from now on, nobody when it is ""
	Stop   Kind = "stop"   // Payer; Permissions are those that this takes away
	Go     Kind = "go"     // Payer is not stopped
)

// Take changes the world by a step.
func (w *World) Take(s Step) {
	switch s.Kind {
	case Place:
		w.Resources = slices.DeleteFunc(w.Resources, func(r Resource) bool { return r.Name == s.Resource })
		w.Resources = append(w.Resources, Resource{Name: s.Resource, Parent: s.Parent})
	case Remove:
		for i := range w.Resources {
			if w.Resources[i].Name == s.Resource {
				w.Resources[i].Removed = true
			}
		}
	case Bind:
		w.unbind(s)
		w.Bindings = append(w.Bindings, Binding{s.Resource, s.Role, s.Subject, s.Sources})
	case Unbind:
		w.unbind(s)
	case Set:
		w.Subjects = slices.DeleteFunc(w.Subjects, func(x Subject) bool { return x.Name == s.Subject })
		w.Subjects = append(w.Subjects, Subject{s.Subject, s.State, s.Until})
	case Join:
		w.leave(s)
		w.Members = append(w.Members, Member{s.Resource, s.Subject})
	case Leave:
		w.leave(s)
	case Revoke:
		w.Revoked = append(w.Revoked, s.Token)
	case Deny:
		w.undeny(s)
		w.Policies = append(w.Policies, Policy{s.Resource, s.Policy, s.Permissions, s.OnParent})
	case Undeny:
		w.undeny(s)
	case Pay:
		w.Payers = slices.DeleteFunc(w.Payers, func(p Payer) bool { return p.For == s.Resource })
		if s.Payer != "" {
			w.Payers = append(w.Payers, Payer{s.Resource, s.Payer})
		}
	case Stop:
		w.Stopped = append(slices.DeleteFunc(w.Stopped, func(p Ref) bool { return p == s.Payer }), s.Payer)
	case Go:
		w.Stopped = slices.DeleteFunc(w.Stopped, func(p Ref) bool { return p == s.Payer })
	}
}

func (w *World) unbind(s Step) {
	w.Bindings = slices.DeleteFunc(w.Bindings, func(b Binding) bool {
		return b.Resource == s.Resource && b.Role == s.Role && b.Subject == s.Subject
	})
}

func (w *World) leave(s Step) {
	w.Members = slices.DeleteFunc(w.Members, func(m Member) bool { return m.Container == s.Resource && m.Subject == s.Subject })
}

func (w *World) undeny(s Step) {
	w.Policies = slices.DeleteFunc(w.Policies, func(p Policy) bool { return p.Resource == s.Resource && p.Name == s.Policy })
}

// Steps are the steps that lead from a world with no facts to this one.
func (w *World) Steps() []Step {
	var steps []Step
	for _, s := range w.Subjects {
		steps = append(steps, Step{Kind: Set, Subject: s.Name, State: s.State, Until: s.Until})
	}
	for _, r := range w.Resources {
		if !r.Removed {
			steps = append(steps, Step{Kind: Place, Resource: r.Name, Parent: r.Parent})
		} else {
			steps = append(steps, Step{Kind: Remove, Resource: r.Name})
		}
	}
	for _, m := range w.Members {
		steps = append(steps, Step{Kind: Join, Resource: m.Container, Subject: m.Subject})
	}
	for _, b := range w.Bindings {
		steps = append(steps, Step{Kind: Bind, Resource: b.Resource, Subject: b.Subject, Role: b.Role, Sources: b.Sources})
	}
	for _, p := range w.Policies {
		steps = append(steps, Step{Kind: Deny, Resource: p.Resource, Policy: p.Name, Permissions: p.Permissions, OnParent: p.OnParent})
	}
	for _, p := range w.Payers {
		steps = append(steps, Step{Kind: Pay, Resource: p.For, Payer: p.By})
	}
	for _, payer := range w.Stopped {
		steps = append(steps, Step{Kind: Stop, Payer: payer, Permissions: w.StopDenies})
	}
	for _, token := range w.Revoked {
		steps = append(steps, Step{Kind: Revoke, Token: token})
	}
	return steps
}
