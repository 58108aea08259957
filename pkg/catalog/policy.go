package catalog

import (
	"maps"
	"slices"
	"strings"
)

// DenyGrantAboveOwn is the access policy of strict granting: what it denies is no
// permission but giving a role that holds more than whoever gives it (AS-3, C-4).
const DenyGrantAboveOwn = "bindery.denyGrantAboveOwn"

// Policy is a template of access policies: what is denied wherever it is bound,
// whatever roles say (AP-1, AP-5).
type Policy struct {
	ID          string
	Name        string
	Description string
	BindOn      []string // types of resources that may carry it (AP-6, AP-7)
	Denies      []string // permissions, denied on the resource and below it (AP-2)

	// DeniesOnParent are permissions that are denied on the parent of the resource
	// as well, on nothing else (AP-8).
	DeniesOnParent []string

	Parameters []string // names that the parameters of a binding may have
}

// Policy returns a template by its id.
func (c *Catalog) Policy(id string) (Policy, bool) {
	p, ok := c.policies[id]
	return p, ok
}

// Policies returns all templates, ordered by id.
func (c *Catalog) Policies() []Policy { return c.sortedPolicies }

// PayerStopped is what a suspended billing account takes away from the clouds that it
// pays for (PT-27, PT-30). It is no template: nobody binds it.
const PayerStopped = "billing.payerStopped"

// stop says what that is, as data of policies.yaml.
type stop struct {
	Services []string `yaml:"services"` // whose resources are used: those of the data plane
	Except   []string `yaml:"except"`   // verbs that go on: looking, letting go and ending access
	Further  []string `yaml:"further"`  // permissions of other services (DL-11)
}

// Enforced returns a template, or what is enforced like one, by its id.
func (c *Catalog) Enforced(id string) (Policy, bool) {
	if id == PayerStopped {
		return c.payerStopped, true
	}
	return c.Policy(id)
}

// AllEnforced returns all templates and what is enforced like them.
func (c *Catalog) AllEnforced() []Policy {
	return append(slices.Clone(c.sortedPolicies), c.payerStopped)
}

// stops takes what a suspended account takes away: every permission of the services of
// the data plane but those whose verb is excepted, and what is named beside them.
func (b *builder) stops(s stop) {
	b.catalog.payerStopped = Policy{ID: PayerStopped}
	for _, id := range s.Further {
		if _, known := b.catalog.permissions[id]; !known {
			b.problem("a suspended account takes %s away, which is no permission", id)
		}
		b.catalog.payerStopped.Denies = append(b.catalog.payerStopped.Denies, id)
	}
	for id := range maps.Keys(b.catalog.permissions) {
		verb := id[strings.LastIndexByte(id, '.')+1:]
		if slices.Contains(s.Services, service(id)) && !slices.Contains(s.Except, verb) {
			b.catalog.payerStopped.Denies = append(b.catalog.payerStopped.Denies, id)
		}
	}
	slices.Sort(b.catalog.payerStopped.Denies)
	if len(s.Services) > 0 && len(b.catalog.payerStopped.Denies) == 0 {
		b.problem("a suspended account takes nothing away")
	}
}

// policiesFile is policies.yaml; its own comment says what the fields mean.
type policiesFile struct {
	Version  int           `yaml:"version"`
	Policies []policyEntry `yaml:"policies"`
	Stopped  stop          `yaml:"payer_stopped"`
}

type policyEntry struct {
	ID             string   `yaml:"id"`
	Name           string   `yaml:"name"`
	Description    string   `yaml:"description"`
	BindOn         []string `yaml:"bind_on"`
	Denies         []string `yaml:"denies"`
	DeniesOnParent []string `yaml:"denies_on_parent"`
	Parameters     []string `yaml:"parameters"`
	Ours           bool     `yaml:"ours"`
}

// undeniable are the ends of permissions that no template may deny: who may manage
// policies can always take one away again.
var undeniable = []string{".updateAccessPolicyBindings", ".listAccessPolicyBindings"}

// maxPolicyID is the longest id of a template that a binding can name.
const maxPolicyID = 64

// policies takes the templates and checks them against permissions and types.
func (b *builder) policies(f *policiesFile) {
	for _, e := range f.Policies {
		if _, twice := b.catalog.policies[e.ID]; twice {
			b.problem("access policy %s: listed twice", e.ID)
		}
		b.policy(e)
		b.catalog.policies[e.ID] = Policy{
			ID: e.ID, Name: e.Name, Description: e.Description, BindOn: e.BindOn, Denies: e.Denies, DeniesOnParent: e.DeniesOnParent,
			Parameters: e.Parameters,
		}
	}
	b.stops(f.Stopped)
	for _, id := range slices.Sorted(maps.Keys(b.catalog.policies)) {
		b.catalog.sortedPolicies = append(b.catalog.sortedPolicies, b.catalog.policies[id])
	}
}

func (b *builder) policy(e policyEntry) {
	if strings.Count(e.ID, ".") != 1 || len(e.ID) > maxPolicyID {
		b.problem("access policy %q: the form is <service>.<what>, at most %d bytes", e.ID, maxPolicyID)
	}
	if e.Name == "" || e.Description == "" {
		b.problem("access policy %s: needs a name and a description", e.ID)
	}
	if len(e.BindOn) == 0 {
		b.problem("access policy %s: can be bound on nothing", e.ID)
	}
	for _, t := range e.BindOn {
		if !b.catalog.KnownPermission(t + "s" + undeniable[0]) {
			b.problem("access policy %s: nobody can bind it on %s, which has no permission for that", e.ID, t)
		}
	}
	if len(e.Denies) == 0 && e.ID != DenyGrantAboveOwn {
		b.problem("access policy %s: denies nothing", e.ID)
	}
	for _, p := range slices.Concat(e.Denies, e.DeniesOnParent) {
		if !b.catalog.KnownPermission(p) {
			b.problem("access policy %s: permission %s is not catalogued", e.ID, p)
		}
		if slices.ContainsFunc(undeniable, func(end string) bool { return strings.HasSuffix(p, end) }) {
			b.problem("access policy %s: denies %s, and could then not be taken away", e.ID, p)
		}
	}
}
