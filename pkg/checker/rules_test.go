package checker_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/bindery-iam/bindery/pkg/checker"
)

// A small world: acme owns prod and test, prod has the folders web and data, web
// has the key; other owns theirs. Everybody is known and active, nobody holds
// anything.
var (
	acme   = checker.Resource{Type: "organization-manager.organization", ID: "acme"}
	other  = checker.Resource{Type: "organization-manager.organization", ID: "other"}
	prod   = checker.Resource{Type: "resource-manager.cloud", ID: "prod"}
	test   = checker.Resource{Type: "resource-manager.cloud", ID: "test"}
	theirs = checker.Resource{Type: "resource-manager.cloud", ID: "theirs"}
	web    = checker.Resource{Type: "resource-manager.folder", ID: "web"}
	data   = checker.Resource{Type: "resource-manager.folder", ID: "data"}
	key    = checker.Resource{Type: "kms.key", ID: "key"}
	fed    = checker.Resource{Type: "organization-manager.federation", ID: "fed"}
	pool   = checker.Resource{Type: "organization-manager.userpool", ID: "pool"}
	teamAt = checker.Resource{Type: "organization-manager.group", ID: "team"}
	allAt  = checker.Resource{Type: "organization-manager.group", ID: "all"}

	ann  = checker.Subject{Type: checker.UserAccount, ID: "ann"}
	bob  = checker.Subject{Type: checker.UserAccount, ID: "bob"}
	fay  = checker.Subject{Type: checker.FederatedUser, ID: "fay"}
	bot  = checker.Subject{Type: checker.ServiceAccount, ID: "bot"}
	team = checker.Subject{Type: checker.Group, ID: "team"}
	all  = checker.Subject{Type: checker.Group, ID: "all"}

	acmeUsers = checker.Subject{Type: checker.System, ID: "group:organization:acme:users"}
	fedUsers  = checker.Subject{Type: checker.System, ID: "group:federation:fed:users"}
	poolUsers = checker.Subject{Type: checker.System, ID: "group:userpool:pool:users"}
	anybody   = checker.Subject{Type: checker.System, ID: checker.AllUsers}
	everybody = checker.Subject{Type: checker.System, ID: checker.AllAuthenticatedUsers}
)

const (
	get    = "doc.get"
	update = "doc.update"
	remove = "doc.delete"
)

func smallWorld(t *testing.T, more ...checker.Change) *checker.Graph {
	t.Helper()
	g := checker.New(checker.Roles{
		Permissions: []string{"doc.unheld"},
		Roles:       map[string][]string{"viewer": {get}, "editor": {get, update}, "owner": {get, update, remove}},
	})
	facts := []checker.Change{
		checker.Place{Resource: acme}, checker.Place{Resource: other},
		checker.Place{Resource: prod, Parent: acme}, checker.Place{Resource: test, Parent: acme},
		checker.Place{Resource: theirs, Parent: other},
		checker.Place{Resource: web, Parent: prod}, checker.Place{Resource: data, Parent: prod},
		checker.Place{Resource: key, Parent: web}, checker.Place{Resource: fed, Parent: acme},
		checker.Place{Resource: pool, Parent: acme}, checker.Place{Resource: teamAt, Parent: acme}, checker.Place{Resource: allAt, Parent: acme},
	}
	for _, s := range []checker.Subject{ann, bob, fay, bot, team, all} {
		facts = append(facts, checker.SetSubject{Subject: s, State: checker.Active})
	}
	if err := g.Apply(1, append(facts, more...)...); err != nil {
		t.Fatal(err)
	}
	return g
}

func bind(s checker.Subject, role string, r checker.Resource) checker.Change {
	return checker.Bind{Resource: r, Subject: s, Role: role}
}

func want(t *testing.T, g *checker.Graph, s checker.Subject, permission string, r checker.Resource, reason checker.Reason) {
	t.Helper()
	got := g.Decide(checker.Query{Subject: s, Permission: permission, Resource: r})
	if got.Reason != reason || got.Allowed != (reason == checker.Granted) {
		t.Errorf("%s:%s %s %s:%s is %+v, want %s", s.Type, s.ID, permission, r.Type, r.ID, got, reason)
	}
}

func next(t *testing.T, g *checker.Graph, changes ...checker.Change) {
	t.Helper()
	if err := g.Apply(g.Revision()+1, changes...); err != nil {
		t.Fatal(err)
	}
}

func TestRH3_RoleCountsOnEveryDescendant(t *testing.T) {
	g := smallWorld(t, bind(ann, "editor", acme), bind(bob, "editor", prod))
	for _, r := range []checker.Resource{acme, prod, test, web, data, key, fed, pool, teamAt} {
		want(t, g, ann, update, r, checker.Granted)
	}
	want(t, g, bob, update, key, checker.Granted)
	want(t, g, bob, update, test, checker.NoGrant) // beside
	want(t, g, bob, update, acme, checker.NoGrant) // above
}

func TestRH4_EffectiveGrantIsTheUnion(t *testing.T) {
	g := smallWorld(t, bind(ann, "owner", acme), bind(ann, "viewer", web), bind(bob, "viewer", prod), bind(bob, "editor", web))
	want(t, g, ann, remove, web, checker.Granted) // a child takes nothing away
	want(t, g, bob, get, web, checker.Granted)
	want(t, g, bob, update, web, checker.Granted)
	want(t, g, bob, update, data, checker.NoGrant)
}

func TestRH5_NewMemberHasNoAccess(t *testing.T) {
	g := smallWorld(t, checker.Join{Container: acme, Subject: ann})
	want(t, g, ann, get, acme, checker.NoGrant)
	want(t, g, ann, get, prod, checker.NoGrant)
}

func TestRH6_OrganizationsAreIsolated(t *testing.T) {
	g := smallWorld(t, bind(ann, "owner", acme), checker.Join{Container: acme, Subject: ann}, bind(acmeUsers, "editor", acme))
	want(t, g, ann, get, other, checker.NoGrant)
	want(t, g, ann, get, theirs, checker.NoGrant)
	next(t, g, bind(everybody, "viewer", theirs))
	want(t, g, ann, get, theirs, checker.Granted)
}

func TestRH7_CloudMovesBetweenOrganizations(t *testing.T) {
	g := smallWorld(t, bind(ann, "editor", acme), bind(bob, "editor", other), bind(fay, "viewer", web))
	next(t, g, checker.Place{Resource: prod, Parent: other})
	want(t, g, ann, get, key, checker.NoGrant)
	want(t, g, bob, update, key, checker.Granted)
	want(t, g, fay, get, key, checker.Granted) // its own bindings go along
	if d := cmp.Diff([]checker.Resource{key, web, prod, other}, g.View().Path(key)); d != "" {
		t.Errorf("path after the move (-want +got):\n%s", d)
	}
}

func TestRH8_NoGrantMeansDenied(t *testing.T) {
	g := smallWorld(t, bind(ann, "viewer", web))
	want(t, g, ann, update, web, checker.NoGrant)
	want(t, g, ann, "doc.unheld", web, checker.NoGrant)
	want(t, g, ann, "doc.unknown", web, checker.PermissionUnknown)
	want(t, g, ann, get, checker.Resource{Type: "resource-manager.folder", ID: "nothing"}, checker.ResourceUnknown)
	want(t, g, ann, get, checker.Resource{}, checker.ResourceUnknown)
	want(t, g, checker.Subject{Type: checker.UserAccount, ID: "nobody"}, get, web, checker.SubjectUnknown)
	want(t, g, checker.Subject{}, get, web, checker.SubjectUnknown)
}

func TestRH9_TypeWithoutBindingsIsCheckedOnItsAncestor(t *testing.T) {
	disk := checker.Resource{Type: "compute.disk", ID: "disk"}
	g := smallWorld(t, checker.Place{Resource: disk, Parent: web}, bind(ann, "viewer", prod))
	want(t, g, ann, get, disk, checker.Granted)
	want(t, g, bob, get, disk, checker.NoGrant)
}

func TestSU1_OnlyUsersAndServiceAccountsAct(t *testing.T) {
	g := smallWorld(t, bind(team, "viewer", web), bind(everybody, "viewer", web))
	for _, s := range []checker.Subject{ann, fay, bot} {
		want(t, g, s, get, web, checker.Granted)
	}
	for _, s := range []checker.Subject{team, everybody, anybody, acmeUsers} {
		want(t, g, s, get, web, checker.SubjectUnknown)
	}
}

func TestSU7_SystemGroupFollowsMembership(t *testing.T) {
	for container, group := range map[checker.Resource]checker.Subject{acme: acmeUsers, fed: fedUsers, pool: poolUsers} {
		g := smallWorld(t, bind(group, "viewer", prod))
		for _, s := range []checker.Subject{ann, fay} {
			want(t, g, s, get, web, checker.NoGrant)
			next(t, g, checker.Join{Container: container, Subject: s})
			want(t, g, s, get, web, checker.Granted)
			next(t, g, checker.Leave{Container: container, Subject: s})
			want(t, g, s, get, web, checker.NoGrant)
		}
	}
}

func TestSU8_SystemGroupsDoNotContainServiceAccounts(t *testing.T) {
	g := smallWorld(t,
		checker.Join{Container: acme, Subject: bot}, checker.Join{Container: fed, Subject: bot}, checker.Join{Container: pool, Subject: bot},
		bind(acmeUsers, "viewer", web), bind(fedUsers, "viewer", web), bind(poolUsers, "viewer", web))
	want(t, g, bot, get, web, checker.NoGrant)
	next(t, g, bind(everybody, "viewer", web)) // public groups do
	want(t, g, bot, get, web, checker.Granted)
}

func TestPG1_AllAuthenticatedUsersIsEveryRegisteredSubject(t *testing.T) {
	g := smallWorld(t, bind(everybody, "viewer", prod))
	for _, s := range []checker.Subject{ann, bob, fay, bot} {
		want(t, g, s, get, key, checker.Granted)
	}
	want(t, g, checker.Subject{Type: checker.UserAccount, ID: "nobody"}, get, key, checker.SubjectUnknown)
}

func TestPG2_AllUsersIsTheSame(t *testing.T) {
	g := smallWorld(t, bind(anybody, "viewer", prod))
	for _, s := range []checker.Subject{ann, bob, fay, bot} {
		want(t, g, s, get, key, checker.Granted)
	}
	want(t, g, checker.Subject{}, get, key, checker.SubjectUnknown)
}

func TestGR1_GroupsInGroupsPassOnWhatTheyHave(t *testing.T) {
	g := smallWorld(t, bind(all, "viewer", prod), checker.Join{Container: allAt, Subject: team}, checker.Join{Container: teamAt, Subject: ann})
	want(t, g, ann, get, web, checker.Granted)
	next(t, g, checker.Join{Container: teamAt, Subject: all}) // in a circle
	want(t, g, ann, get, web, checker.Granted)
	next(t, g, checker.SetSubject{Subject: team, State: checker.Suspended})
	want(t, g, ann, get, web, checker.NoGrant)
	next(t, g, checker.SetSubject{Subject: team, State: checker.Active}, checker.Leave{Container: allAt, Subject: team})
	want(t, g, ann, get, web, checker.NoGrant)
}

func TestGR3_MembershipGivesEveryRoleOfTheGroup(t *testing.T) {
	g := smallWorld(t, bind(team, "viewer", prod), bind(team, "editor", web))
	for _, s := range []checker.Subject{ann, fay, bot} { // GR-2
		next(t, g, checker.Join{Container: teamAt, Subject: s})
		want(t, g, s, get, data, checker.Granted)
		want(t, g, s, update, web, checker.Granted)
	}
	want(t, g, bob, get, data, checker.NoGrant)
}

func TestGR5_RemovedGroupHasNothing(t *testing.T) {
	g := smallWorld(t, bind(team, "viewer", theirs), checker.Join{Container: teamAt, Subject: ann})
	want(t, g, ann, get, theirs, checker.Granted)
	next(t, g, checker.Remove{Resource: teamAt})
	want(t, g, ann, get, theirs, checker.NoGrant)
}

func TestGR5_RemovedGroupPassesNothingOn(t *testing.T) {
	innerAt, inner := checker.Resource{Type: teamAt.Type, ID: "inner"}, checker.Subject{Type: checker.Group, ID: "inner"}
	g := smallWorld(t, bind(all, "viewer", theirs), bind(inner, "viewer", prod), checker.SetSubject{Subject: inner, State: checker.Active},
		checker.Join{Container: allAt, Subject: team}, checker.Join{Container: teamAt, Subject: inner}, checker.Join{Container: innerAt, Subject: ann})
	want(t, g, ann, get, theirs, checker.Granted)
	next(t, g, checker.Remove{Resource: teamAt}) // the one in the middle
	want(t, g, ann, get, theirs, checker.NoGrant)
	want(t, g, ann, get, prod, checker.Granted)
}

func TestSK1_SuspendedServiceAccountMayNothing(t *testing.T) {
	botAt := checker.Resource{Type: "iam.serviceAccount", ID: "bot"}
	g := smallWorld(t, checker.Place{Resource: botAt, Parent: web}, bind(bot, "viewer", data))
	want(t, g, bot, get, data, checker.Granted)
	next(t, g, checker.SetSubject{Subject: bot, State: checker.Suspended})
	want(t, g, bot, get, data, checker.SubjectInactive)
	next(t, g, checker.SetSubject{Subject: bot, State: checker.Active})
	want(t, g, bot, get, data, checker.Granted)
	next(t, g, checker.Remove{Resource: botAt})
	want(t, g, bot, get, data, checker.SubjectInactive)
	if got := g.View().State(bot); got != checker.Deleted {
		t.Errorf("State = %d, want Deleted", got)
	}
}

func TestAP1_RoleFirstThenPolicies(t *testing.T) {
	keep := checker.Deny{Resource: prod, Policy: "keep", Permissions: []string{remove}}
	g := smallWorld(t, bind(ann, "owner", acme), bind(bob, "editor", acme), keep)
	want(t, g, ann, remove, web, checker.DeniedByPolicy) // AP-2, AP-10
	want(t, g, ann, remove, test, checker.Granted)
	want(t, g, ann, update, web, checker.Granted)
	want(t, g, bob, remove, web, checker.NoGrant)
	next(t, g, checker.Undeny{Resource: prod, Policy: "keep"})
	want(t, g, ann, remove, web, checker.Granted)
}

func TestAP3_OneBindingOfAPolicyOnAResource(t *testing.T) {
	g := smallWorld(t, bind(ann, "owner", acme),
		checker.Deny{Resource: prod, Policy: "a", Permissions: []string{remove}}, checker.Deny{Resource: prod, Policy: "b", Permissions: []string{get}},
		checker.Deny{Resource: prod, Policy: "a", Permissions: []string{update, "doc.unknown"}})
	want(t, g, ann, remove, web, checker.Granted)
	want(t, g, ann, update, web, checker.DeniedByPolicy)
	next(t, g, checker.Undeny{Resource: prod, Policy: "a"})
	want(t, g, ann, update, web, checker.Granted)
	want(t, g, ann, get, web, checker.DeniedByPolicy)
}

func TestAP2_PoliciesAreInheritedDown(t *testing.T) {
	g := smallWorld(t, bind(ann, "owner", acme), bind(ann, "owner", other))
	for _, on := range []checker.Resource{acme, prod, web, key} {
		next(t, g, checker.Deny{Resource: on, Policy: "keep", Permissions: []string{remove}})
		want(t, g, ann, remove, key, checker.DeniedByPolicy)
		want(t, g, ann, remove, theirs, checker.Granted)
		next(t, g, checker.Undeny{Resource: on, Policy: "keep"})
		want(t, g, ann, remove, key, checker.Granted)
	}
	next(t, g, checker.Deny{Resource: data, Policy: "keep", Permissions: []string{remove}}) // beside the path
	want(t, g, ann, remove, key, checker.Granted)
}

// A policy on a folder protects the cloud that the folder is in, and nothing else.
func TestAP8_PolicyOnAChildProtectsItsParent(t *testing.T) {
	keep := func(on checker.Resource) checker.Deny {
		return checker.Deny{Resource: on, Policy: "keep", Permissions: []string{update}, OnParent: []string{remove}}
	}
	g := smallWorld(t, bind(ann, "owner", acme), bind(ann, "owner", other), keep(web), keep(data))
	want(t, g, ann, remove, prod, checker.DeniedByPolicy)
	want(t, g, ann, update, web, checker.DeniedByPolicy)
	for _, free := range []checker.Resource{acme, test, web, data, key} {
		want(t, g, ann, remove, free, checker.Granted)
	}
	if got, d := g.View().Explain(checker.Query{Subject: ann, Permission: remove, Resource: prod}).Denials,
		[]checker.Denial{{Policy: "keep", Resource: web}, {Policy: "keep", Resource: data}}; !cmp.Equal(got, d) {
		t.Errorf("explained by %v, want %v", got, d)
	}

	next(t, g, checker.Undeny{Resource: web, Policy: "keep"})
	want(t, g, ann, remove, prod, checker.DeniedByPolicy) // by the other folder
	next(t, g, checker.Place{Resource: data, Parent: theirs})
	want(t, g, ann, remove, prod, checker.Granted)
	want(t, g, ann, remove, theirs, checker.DeniedByPolicy)
	next(t, g, keep(data), checker.Deny{Resource: theirs, Policy: "other", Permissions: []string{get}})
	next(t, g, checker.Remove{Resource: data})
	want(t, g, ann, remove, theirs, checker.Granted)
	want(t, g, ann, get, theirs, checker.DeniedByPolicy)

	late := checker.Resource{Type: web.Type, ID: "late"}
	loaded := smallWorld(t, checker.Deny{Resource: late, Policy: "keep", OnParent: []string{remove}},
		checker.Place{Resource: late, Parent: test}, bind(ann, "owner", acme)) // in another order
	want(t, loaded, ann, remove, test, checker.DeniedByPolicy)
	want(t, loaded, ann, remove, late, checker.Granted)
}

func TestAP10_OwnersAreDeniedToo(t *testing.T) {
	g := smallWorld(t, bind(ann, "owner", acme), bind(ann, "owner", web), bind(acmeUsers, "owner", key),
		checker.Deny{Resource: acme, Policy: "frozen", Permissions: []string{get, update, remove}})
	for _, permission := range []string{get, update, remove} {
		want(t, g, ann, permission, key, checker.DeniedByPolicy)
		want(t, g, ann, permission, acme, checker.DeniedByPolicy)
	}
}

func TestAS16_UnknownRoleGrantsNothing(t *testing.T) {
	g := smallWorld(t, bind(ann, "withdrawn", acme))
	want(t, g, ann, get, web, checker.NoGrant)
	next(t, g, checker.Unbind{Resource: acme, Subject: ann, Role: "withdrawn"})
	want(t, g, ann, get, web, checker.NoGrant)
}

// An account is refused from its end on, and acts until then (SK-1); what it holds
// comes back when the end is taken away.
func TestSK1_EndOfAnAccount(t *testing.T) {
	g := smallWorld(t, bind(bot, "viewer", web))
	ask := checker.Query{Subject: bot, Permission: get, Resource: web}
	for _, tt := range []struct {
		name string
		set  checker.SetSubject
		now  int64
		want checker.Reason
		may  bool
	}{
		{"no end", checker.SetSubject{Subject: bot, State: checker.Active}, 1 << 60, checker.Granted, true},
		{"before it", checker.SetSubject{Subject: bot, State: checker.Active, Until: 10}, 9, checker.Granted, true},
		{"at it", checker.SetSubject{Subject: bot, State: checker.Active, Until: 10}, 10, checker.SubjectInactive, false},
		{"after it", checker.SetSubject{Subject: bot, State: checker.Active, Until: 10}, 11, checker.SubjectInactive, false},
		{"put off", checker.SetSubject{Subject: bot, State: checker.Active, Until: 20}, 11, checker.Granted, true},
		{"suspended before it", checker.SetSubject{Subject: bot, State: checker.Suspended, Until: 20}, 11, checker.SubjectInactive, false},
		{"taken away", checker.SetSubject{Subject: bot, State: checker.Active}, 21, checker.Granted, true},
	} {
		next(t, g, tt.set)
		ask.Now = tt.now
		if got := g.Decide(ask).Reason; got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
		if got := g.View().MayAct(bot, tt.now); got != tt.may {
			t.Errorf("%s: may act %t, want %t", tt.name, got, tt.may)
		}
	}
}
