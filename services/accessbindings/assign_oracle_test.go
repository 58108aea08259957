package accessbindings

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"
)

// managingRoles are what the people of these worlds hold; assignedRoles what they
// try to give.
var (
	managingRoles = []string{
		admin, editor, viewer, cloudOwner, orgOwner, "resource-manager.admin", "organization-manager.admin", "iam.admin", "iam.serviceAccounts.admin",
	}
	assignedRoles = append(slices.Clone(managingRoles), "resource-manager.clouds.member", "iam.userAccounts.refreshTokenViewer",
		"billing.usagerecords.admin", "organization-manager.groups.admin", "billing.accounts.customer", "marketplace.publishers.owner",
		"billing.accounts.owner", "kms.viewer")
	strict          = checkertest.Template{Name: catalog.DenyGrantAboveOwn, BindOn: checkertest.Levels}
	assignTemplates = []checkertest.Template{strict, oracleTemplates[0], oracleTemplates[5]}
	assignedOn      = []string{typeOrganization, "resource-manager.cloud", typeFolder, typeServiceAccount}
)

// TestAssignOracle has people of random worlds give and take roles, and compares
// who is let with the second reading of rules AS, PG and SU-9, strict granting included.
func TestAssignOracle(t *testing.T) {
	const most, tries = 600, 60
	worlds := uint64(120)
	if testing.Short() { // under the race detector, which finds nothing in the hundredth world that was not in the first
		worlds = 20
	}
	seed := seedOf(t)
	forEach(t, func(t *testing.T, w *world) {
		a := &assigner{oracle: oracle{world: w}, ends: map[string]int{}}
		for n := uint64(0); n < worlds || n < most && len(a.lacking()) > 0; n++ {
			a.begin(rand.New(rand.NewPCG(seed, n)), fmt.Sprintf("a%d-", n), managingRoles, assignTemplates)
			for _, role := range assignedRoles { // what they hold matters where granting is strict
				r, _ := testCatalog(t).Role(role)
				a.gen.World.Roles[role] = r.Permissions
			}
			if n%2 == 0 {
				a.strictly()
			}
			for range tries {
				a.try()
			}
			w.clock.set(time.Time{})
			if t.Failed() {
				t.Fatalf("world %d of seed %d", n, seed)
			}
		}
		t.Logf("%v", a.ends)
		if few := a.lacking(); len(few) > 0 {
			t.Errorf("too few tries to tell ended with %q", few)
		}
	})
}

// lacking are the ends that too few tries came to.
func (a *assigner) lacking() []string {
	ends := []string{"", "PERMISSION_DENIED", "OWNER_NOT_ASSIGNABLE", "ROLE_DOES_NOT_FIT", reasonAbove}
	return slices.DeleteFunc(ends, func(end string) bool { return a.ends[end] >= 20 })
}

// assigner tries assignments on the world of an oracle, which follows them.
type assigner struct {
	oracle
	ends map[string]int // by the reason of the refusal, "" for none
}

// strictly makes granting strict in a whole organization.
func (a *assigner) strictly() {
	org := a.gen.World.Resources[0].Name
	step := checkertest.Step{Kind: checkertest.Deny, Resource: org, Policy: catalog.DenyGrantAboveOwn}
	bound := slices.ContainsFunc(a.gen.World.Policies, func(p checkertest.Policy) bool { return p.Resource == org && p.Name == step.Policy })
	if org.Type() == typeOrganization && a.stands(org) && !bound {
		a.gen.World.Take(step)
		a.play([]checkertest.Step{step})
	}
}

func (a *assigner) try() {
	a.t.Helper()
	as, ok := a.assignment()
	if !ok {
		return
	}
	want := a.gen.World.MayAssign(as) && (!as.Give || a.service.roles.catalog.Assignable(as.Role, as.Resource.Type()))
	last := want && !as.Give && a.lastOwner(as)
	d := remove(as.Role, a.who(as.To))
	if as.Give {
		d = add(as.Role, a.who(as.To))
	}
	_, err := a.update(a.who(as.By), a.ref(as.Resource), d)
	reason := apierr.ReasonOf(err)
	a.ends[reason]++
	switch {
	case last && reason == "LAST_OWNER":
	case (err == nil) != (want && !last):
		a.t.Errorf("%+v: got %v, want allowed %v; the world:\n%s", as, err, want, (&checkertest.Scenario{World: *a.gen.World}).YAML())
	case err == nil:
		a.follow(as)
	}
}

// assignment makes up one that would change something.
func (a *assigner) assignment() (as checkertest.Assignment, ok bool) {
	w := a.gen.World
	as.By = w.Subjects[a.rng.IntN(len(w.Subjects))].Name
	as.Resource = w.Resources[a.rng.IntN(len(w.Resources))].Name
	if len(w.Bindings) > 0 && a.rng.IntN(4) > 0 { // most try where they hold something
		b := w.Bindings[a.rng.IntN(len(w.Bindings))]
		if b.Subject.Type() != rules.System {
			as.By, as.Resource = b.Subject, b.Resource
		}
	}
	if as.By.Type() == rules.Group || !a.known(as.By) || !slices.ContainsFunc(w.Subjects, func(s checkertest.Subject) bool { return s.Name == as.By && s.State == "active" }) {
		return as, false
	}
	if as.Give = len(w.Bindings) == 0 || a.rng.IntN(3) > 0; !as.Give {
		b := w.Bindings[a.rng.IntN(len(w.Bindings))]
		as.Role, as.To, as.Resource = b.Role, b.Subject, b.Resource
		return as, a.there(as.Resource) && len(a.left(b)) < len(b.Sources) && a.known(as.To)
	}
	as.Role = assignedRoles[a.rng.IntN(len(assignedRoles))]
	as.To = w.Subjects[a.rng.IntN(len(w.Subjects))].Name
	switch a.rng.IntN(8) {
	case 0:
		as.To = "system:allAuthenticatedUsers"
	case 1:
		as.To = "system:group:organization:x1:users"
	}
	bound := slices.ContainsFunc(w.Bindings, func(b checkertest.Binding) bool {
		return b.Resource == as.Resource && b.Role == as.Role && b.Subject == as.To
	})
	return as, !bound && a.there(as.Resource) && a.known(as.To) && len(a.homes(as.To)) <= 1
}

// homes are the organizations of the service accounts in a group. RH-6 leaves it one at
// most; in these worlds members also come without being asked.
func (a *assigner) homes(to checkertest.Ref) map[checkertest.Ref]bool {
	all := make(map[checkertest.Ref]bool)
	for _, account := range a.gen.World.AccountsIn(to) {
		all[a.gen.World.Home(account)] = true
	}
	return all
}

// there reports whether a resource is in the tree and of a type to assign on.
func (a *assigner) there(r checkertest.Ref) bool {
	return slices.Contains(assignedOn, r.Type()) && a.stands(r)
}

func (a *assigner) stands(r checkertest.Ref) bool {
	return slices.ContainsFunc(a.gen.World.Resources, func(x checkertest.Resource) bool {
		return x.Name == r && !x.Removed
	})
}

// known reports whether a subject can be given something.
func (a *assigner) known(s checkertest.Ref) bool {
	if typ, id, ok := rules.Container(s.ID()); ok {
		return a.stands(checkertest.Ref(typ + ":" + id))
	}
	gone := slices.ContainsFunc(a.gen.World.Resources, func(x checkertest.Resource) bool {
		return x.Removed && (x.Name == checkertest.Ref(typeServiceAccount+":"+s.ID()) && s.Type() == rules.ServiceAccount ||
			x.Name == checkertest.Ref(typeGroup+":"+s.ID()) && s.Type() == rules.Group)
	})
	return s.Type() == rules.System || !gone && slices.ContainsFunc(a.gen.World.Subjects, func(x checkertest.Subject) bool {
		return x.Name == s && x.State != "deleted"
	})
}

// left are the sources that a removal by hand leaves.
func (a *assigner) left(b checkertest.Binding) []checkertest.Source {
	return slices.DeleteFunc(slices.Clone(b.Sources), func(s checkertest.Source) bool { return s.Kind == "direct" || s.Kind == "automatic" })
}

func endless(sources []checkertest.Source) bool {
	return slices.ContainsFunc(sources, func(s checkertest.Source) bool { return s.Until == 0 })
}

// lastOwner reports whether the removal leaves no owner who stays (OW-2).
func (a *assigner) lastOwner(as checkertest.Assignment) bool {
	if as.Role != cloudOwner && as.Role != orgOwner {
		return false
	}
	before, after := 0, 0
	for _, b := range a.gen.World.Bindings {
		if b.Resource != as.Resource || b.Role != as.Role || !endless(b.Sources) || !a.known(b.Subject) || !a.lasts(b.Subject) || !keepsAlone(b) {
			continue
		}
		before++
		if b.Subject != as.To || endless(a.left(b)) {
			after++
		}
	}
	return before > 0 && after == 0
}

// lasts reports whether a subject acts, and has no end.
func (a *assigner) lasts(s checkertest.Ref) bool {
	return slices.ContainsFunc(a.gen.World.Subjects, func(x checkertest.Subject) bool {
		return x.Name == s && x.State == "active" && x.Until == 0
	})
}

// keepsAlone is OW-1 once more: a user may be the only owner of anything, a service
// account of a cloud, a group of nothing.
func keepsAlone(b checkertest.Binding) bool {
	switch b.Subject.Type() {
	case rules.UserAccount, rules.FederatedUser:
		return true
	case rules.ServiceAccount:
		return b.Role == cloudOwner
	default:
		return false
	}
}

// follow has the world take what was done.
func (a *assigner) follow(as checkertest.Assignment) {
	step := checkertest.Step{Kind: checkertest.Bind, Resource: as.Resource, Role: as.Role, Subject: as.To, Sources: []checkertest.Source{{Kind: "direct"}}}
	if !as.Give {
		at := slices.IndexFunc(a.gen.World.Bindings, func(b checkertest.Binding) bool {
			return b.Resource == as.Resource && b.Role == as.Role && b.Subject == as.To
		})
		if step.Sources = a.left(a.gen.World.Bindings[at]); len(step.Sources) == 0 {
			step.Kind = checkertest.Unbind
		}
	}
	a.gen.World.Take(step)
}
