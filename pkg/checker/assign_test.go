package checker_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/pkg/checker/checkertest"
)

// TestAS1_AS8_CatalogueMeansTheRules compares who may assign what by the sentences of
// the rules with what the permissions of the catalogue come to: the permission to
// update access bindings, the owners' permission, where a role fits and who may
// not hold it. The rules by name, the catalogue by permission.
func TestAS1_AS8_CatalogueMeansTheRules(t *testing.T) {
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	all, _ := c.Matrix()
	chosen := map[string][]string{}
	for _, id := range []string{
		"viewer", "editor", "admin", "resource-manager.editor", "resource-manager.admin", "resource-manager.clouds.owner",
		"resource-manager.clouds.member", "organization-manager.editor", "organization-manager.admin",
		"organization-manager.organizations.owner", "organization-manager.groups.admin", "iam.editor", "iam.admin",
		"iam.serviceAccounts.admin", "iam.userAccounts.refreshTokenViewer", "kms.admin", "billing.accounts.owner",
		"billing.accounts.admin", "billing.usagerecords.admin",
	} {
		if chosen[id] = all[id]; len(all[id]) == 0 {
			t.Fatalf("no role %s", id)
		}
	}
	seed := seed()
	types := []string{"organization-manager.organization", "resource-manager.cloud", "resource-manager.folder", "iam.serviceAccount"}
	given, refused := 0, 0
	for n := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, n))
		gen := checkertest.Generate(rng, checkertest.Config{Roles: chosen, Fits: c.Assignable, Doors: true})
		g := checker.New(roles(gen.World))
		apply(t, g, gen.World.Steps())
		for range 200 {
			q := gen.Query()
			if !slices.Contains(types, q.Resource.Type()) {
				continue
			}
			a := checkertest.Assignment{By: q.Subject, Give: rng.IntN(3) > 0, Role: oneRole(rng, gen.World), To: gen.Query().Subject, Resource: q.Resource, Now: q.Now}
			want, got := gen.World.MayAssign(a), mayAssign(c, g, gen.World, a)
			if want != got {
				t.Fatalf("world %d of seed %d: %+v: by the rules %t, by the catalogue %t\n%s", n, seed, a, want, got,
					(&checkertest.Scenario{World: *gen.World}).YAML())
			}
			if got {
				given++
			} else {
				refused++
			}
		}
	}
	t.Logf("%d allowed, %d refused", given, refused)
	if given < 200 || refused < 200 {
		t.Errorf("%d allowed, %d refused: too few to tell", given, refused)
	}
}

func oneRole(rng *rand.Rand, w *checkertest.World) string {
	ids := make([]string, 0, len(w.Roles))
	for id := range w.Roles {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids[rng.IntN(len(ids))]
}

// mayAssign is what the facts of the catalogue come to. Who is in a group is not one
// of them: that is the world's.
func mayAssign(c *catalog.Catalog, g *checker.Graph, w *checkertest.World, a checkertest.Assignment) bool {
	holds := func(permission string) bool {
		return g.Decide(checker.Query{Subject: subject(a.By), Permission: permission, Resource: resource(a.Resource), Now: a.Now}).Allowed
	}
	role, _ := c.Role(a.Role)
	manage, ok := c.PermissionFor(a.Resource.Type(), "updateAccessBindings")
	switch {
	case !ok || role.ByPlatform || !holds(manage) || role.AssignPermission != "" && !holds(role.AssignPermission):
		return false
	case !a.Give:
		return true
	case !c.Assignable(a.Role, a.Resource.Type()):
		return false
	}
	switch a.To.Type() {
	case checker.System:
		return !slices.Contains(role.NotForSubjects, catalog.SystemGroups)
	case checker.Group: // SU-9 for those who get the role by it
		abroad := func(account checkertest.Ref) bool { return !atHome(g, account, a.Resource) }
		return !slices.Contains(role.NotForSubjects, catalog.Groups) && !slices.ContainsFunc(w.AccountsIn(a.To), abroad)
	case checker.ServiceAccount: // SU-9
		return atHome(g, a.To, a.Resource)
	default:
		return true
	}
}

// atHome reports whether a service account and a resource are in one organization.
func atHome(g *checker.Graph, account, on checkertest.Ref) bool {
	home := g.View().Path(checker.Resource{Type: "iam.serviceAccount", ID: account.ID()})
	there := g.View().Path(resource(on))
	return len(home) > 0 && len(there) > 0 && home[len(home)-1] == there[len(there)-1]
}
