package tickets_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/bindery-iam/bindery/pkg/catalog"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	supportv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/support/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// givenRoles are the roles of the random histories, by what they are given on: those that
// open tickets, and those that do not.
var givenRoles = map[string][]string{
	"resource-manager.cloud": {"resource-manager.clouds.member", "viewer", "editor", "resource-manager.viewer", "kms.viewer"},
	"organization-manager.organization": {
		"organization-manager.auditor", "viewer", "editor", "resource-manager.viewer", "organization-manager.viewer",
	},
}

// desk is the second reading of ST-1: who holds which role where, what was filed where,
// and that a cloud lies in its organization.
type desk struct {
	roles map[string][]string        // to permissions
	above map[string]string          // a cloud's organization
	held  map[string]map[string]bool // by place: role and person
	filed map[string]string          // tickets, to where
}

func (d *desk) may(who, permission, place string) bool {
	for at := place; at != ""; at = d.above[at] {
		for held := range d.held[at] {
			role, of, _ := strings.Cut(held, " ")
			if of == who && slices.Contains(d.roles[role], "support.tickets."+permission) {
				return true
			}
		}
	}
	return false
}

// TestST1_RandomRolesEqualTheRules gives and takes roles on two clouds of one organization,
// on a cloud of another one and on the organizations, at random, and compares who sees,
// lists, comments and files which tickets with a second reading of the rule. A difference
// prints the seed.
func TestST1_RandomRolesEqualTheRules(t *testing.T) {
	seed, err := strconv.ParseUint(os.Getenv("BINDERY_SEED"), 10, 64)
	if err != nil {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("BINDERY_SEED=%d", seed)
	cat, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	matrix, _ := cat.Matrix()
	forEach(t, func(t *testing.T, w *world) {
		rng := rand.New(rand.NewPCG(seed, 0))
		beside := w.newCloud(w.person("bob"))
		token, err := w.operator.CreateToken(t.Context(), &identityv1.CreateTokenRequest{Login: "bob"})
		w.must(err)
		bob := person{login: "bob", token: token.GetIamToken()}
		op, err := rmv1.NewCloudServiceClient(w.Conn).Create(w.as(w.ann), &rmv1.CreateCloudRequest{Name: "second", OrganizationId: w.cloud.GetOrganizationId()})
		second := done(w, op, err, new(rmv1.Cloud))
		organization := func(id string) *accessv1.Resource {
			return &accessv1.Resource{Type: "organization-manager.organization", Id: id}
		}
		places := []*accessv1.Resource{
			cloudOf(w.cloud), cloudOf(second), cloudOf(beside), organization(w.cloud.GetOrganizationId()), organization(beside.GetOrganizationId()),
		}
		d := &desk{roles: matrix, held: map[string]map[string]bool{}, filed: map[string]string{}, above: map[string]string{
			w.cloud.GetId(): w.cloud.GetOrganizationId(), second.GetId(): w.cloud.GetOrganizationId(), beside.GetId(): beside.GetOrganizationId(),
		}}
		owner := func(place *accessv1.Resource) person {
			if place.GetId() == beside.GetId() || place.GetId() == beside.GetOrganizationId() {
				return bob
			}
			return w.ann
		}
		for _, place := range places {
			d.held[place.GetId()] = map[string]bool{}
			id, err := w.file(owner(place), place)
			w.must(err)
			d.filed[id] = place.GetId()
		}
		people := []person{w.person("vera"), w.person("walt"), w.person("xena")}
		seen := map[string]int{}
		for n := range 60 {
			place, who := places[rng.IntN(len(places))], people[rng.IntN(len(people))]
			role := givenRoles[place.GetType()][rng.IntN(len(givenRoles[place.GetType()]))]
			key, action := role+" "+who.id, accesspb.AccessBindingAction_ADD
			if d.held[place.GetId()][key] {
				action = accesspb.AccessBindingAction_REMOVE
				delete(d.held[place.GetId()], key)
			} else {
				d.held[place.GetId()][key] = true
			}
			w.must(w.change(owner(place), place, role, who, action))
			for _, p := range people {
				w.compareTickets(d, p, places, seen)
			}
			if t.Failed() {
				t.Fatalf("step %d of seed %d: %s of %s for %s on %s", n, seed, action, role, who.login, place.GetId())
			}
		}
		t.Logf("met: %v", seen)
		for _, want := range []string{"list true", "list false", "create true", "create false", "update true", "update false"} {
			if seen[want] < 10 {
				t.Errorf("%q was met %d times, too few to tell", want, seen[want])
			}
		}
	})
}

// compareTickets compares what somebody does with all tickets.
func (w *world) compareTickets(d *desk, p person, places []*accessv1.Resource, seen map[string]int) {
	w.t.Helper()
	same := func(what, permission, place string, err error) bool {
		w.t.Helper()
		want := d.may(p.id, permission, place)
		seen[fmt.Sprint(permission, " ", want)]++
		if (err == nil) != want {
			w.t.Errorf("%s %s on %s: %v, want allowed %v", p.login, what, place, err, want)
		}
		return want && err == nil
	}
	for id, place := range d.filed {
		_, err := w.tickets.GetTicket(w.as(p), &supportv1.GetTicketRequest{TicketId: id})
		same("sees a ticket", "list", place, err)
		_, err = w.tickets.ListTicketComments(w.as(p), &supportv1.ListTicketCommentsRequest{TicketId: id})
		same("reads its comments", "list", place, err)
		_, err = w.tickets.MarkTicketCommentsRead(w.as(p), &supportv1.MarkTicketCommentsReadRequest{TicketId: id, Number: 1})
		same("marks them", "list", place, err)
	}
	for _, place := range places {
		resp, err := w.tickets.ListTickets(w.as(p), &supportv1.ListTicketsRequest{Resource: place, Filter: `state = "OPEN"`})
		if same("lists tickets", "list", place.GetId(), err) {
			if all := resp.GetTickets(); len(all) != 1 || d.filed[all[0].GetId()] != place.GetId() {
				w.t.Errorf("%s is shown %v on %s", p.login, all, place.GetId())
			}
		}
	}
	// Writes, of one ticket and one place, so that there is room for them (ST-2).
	place := places[seen["list true"]%len(places)].GetId()
	for id, at := range d.filed {
		if at == place {
			same("comments", "update", place, w.comment(p, id))
			break
		}
	}
	for _, on := range places {
		if on.GetId() == place {
			id, err := w.file(p, on)
			if same("files a ticket", "create", place, err) {
				_, err := w.desk.CloseAnyTicket(w.t.Context(), &supportv1.CloseAnyTicketRequest{TicketId: id})
				w.must(err)
			}
		}
	}
}
