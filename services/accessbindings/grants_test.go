package accessbindings

import (
	"context"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

const (
	productUser = "marketplace.products.user"
	install     = "marketplace.products.install"
)

var product1 = Ref{"marketplace.product", "product1"}

// market is the unit of the marketplace, with a product in the tree.
func (w *world) market() accessv1.GrantServiceClient {
	w.t.Helper()
	publisher := Ref{"marketplace.publisher", "publisher1"}
	w.register(publisher, Ref{}, nil)
	w.register(product1, publisher, nil)
	return accessv1.NewGrantServiceClient(w.Unit("marketplacerequests", Name))
}

func putting(id string, who Subject, end time.Time) *accessv1.PutGrantRequest {
	b := &accessv1.AccessBinding{RoleId: productUser, Subject: who.proto()}
	if !end.IsZero() {
		b.ExpiresAt = timestamppb.New(end)
	}
	return &accessv1.PutGrantRequest{GrantId: id, Resource: product1.proto(), AccessBinding: b}
}

func ending(id string, who Subject) *accessv1.EndGrantRequest {
	return &accessv1.EndGrantRequest{
		GrantId: id, Resource: product1.proto(), AccessBinding: &accessv1.AccessBinding{RoleId: productUser, Subject: who.proto()},
	}
}

func TestGrantsGiveAndEnd(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		grants := w.market()
		may := func(who Subject, want bool) {
			t.Helper()
			if got := w.allowed(who, install, product1); got != want {
				t.Errorf("%s may install: %v, want %v", who.ID, got, want)
			}
		}
		put := func(id string, who Subject, end time.Time) error {
			_, err := grants.PutGrant(t.Context(), putting(id, who, end))
			return err
		}
		end := func(id string, who Subject) {
			t.Helper()
			if _, err := grants.EndGrant(t.Context(), ending(id, who)); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // again changes nothing
			if err := put("one", vera, time.Time{}); err != nil {
				t.Fatal(err)
			}
		}
		if err := put("two", vera, time.Time{}); err != nil {
			t.Fatal(err)
		}
		may(vera, true)
		may(nick, false)
		end("one", vera)
		may(vera, true) // for the other reason
		end("two", vera)
		end("two", vera)
		may(vera, false)
		if err := put("two", vera, time.Time{}); apierr.ReasonOf(err) != ReasonGrantEnded {
			t.Errorf("a grant that was ended: %v", err)
		}
		end("three", vera) // before it was put: a late call finds its id used up
		if err := put("three", vera, time.Time{}); apierr.ReasonOf(err) != ReasonGrantEnded {
			t.Errorf("a grant that was ended before: %v", err)
		}
		may(vera, false)
		everybody := Subject{rules.System, "allAuthenticatedUsers"}
		if err := put("all", everybody, time.Time{}); err != nil {
			t.Fatal(err)
		}
		may(nick, true)
		end("all", everybody)
		may(nick, false)
		if err := put("timed", nick, w.clock.now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		may(nick, true)
		w.clock.advance(2 * time.Minute)
		may(nick, false)
	})
}

func TestGrantsAreRefused(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		grants := w.market()
		for name, c := range map[string]struct {
			change func(*accessv1.PutGrantRequest)
			reason string
		}{
			"another unit's type": {func(r *accessv1.PutGrantRequest) { r.Resource = cloud1.proto() }, "TYPE_NOT_OWNED"},
			"no such resource":    {func(r *accessv1.PutGrantRequest) { r.Resource.Id = "none" }, apierr.ReasonResourceNotFound},
			"no such role":        {func(r *accessv1.PutGrantRequest) { r.AccessBinding.RoleId = "none" }, ReasonRoleNotFound},
			"a role that does not fit": {
				func(r *accessv1.PutGrantRequest) { r.AccessBinding.RoleId = cloudOwner }, apierr.ReasonInvalid,
			},
			"no such subject": {func(r *accessv1.PutGrantRequest) { r.AccessBinding.Subject.Id = "none" }, ReasonSubjectNotFound},
		} {
			req := putting("one", vera, time.Time{})
			c.change(req)
			if _, err := grants.PutGrant(t.Context(), req); apierr.ReasonOf(err) != c.reason {
				t.Errorf("%s: %v, want %s", name, err, c.reason)
			}
		}
		if _, err := grants.EndGrant(t.Context(), &accessv1.EndGrantRequest{
			GrantId: "one", Resource: cloud1.proto(), AccessBinding: &accessv1.AccessBinding{RoleId: viewer, Subject: vera.proto()},
		}); apierr.ReasonOf(err) != "TYPE_NOT_OWNED" {
			t.Errorf("end on another unit's type: %v", err)
		}
	})
}

// Who sets the list that was read, as Terraform does for the sake of another role, makes
// no access for good of what ends; who adds the pair by itself does.
func TestAListSetBackKeepsWhatEnds(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		grants := accessv1.NewGrantServiceClient(w.Unit("partner", Name))
		entry := Pair{viewer, vera}
		in := &accessv1.PutGrantRequest{
			GrantId: "entry", Resource: org1.proto(),
			AccessBinding: &accessv1.AccessBinding{RoleId: entry.Role, Subject: entry.Subject.proto(), ExpiresAt: timestamppb.New(w.clock.now().Add(time.Hour))},
		}
		if w.allowed(vera, getFolder, folder1) {
			t.Fatal("vera is let in before")
		}
		end := &accessv1.EndGrantRequest{GrantId: "entry", Resource: org1.proto(), AccessBinding: &accessv1.AccessBinding{RoleId: entry.Role, Subject: entry.Subject.proto()}}
		_, err := grants.PutGrant(t.Context(), in)
		w.must(err)
		listed, err := w.bindings.ListAccessBindings(w.as(olga), &accessv1.ListAccessBindingsRequest{Resource: org1.proto(), ChangeableOnly: true})
		w.must(err)
		pairs := []Pair{{viewer, nick}}
		for _, b := range listed.GetAccessBindings() {
			pairs = append(pairs, Pair{b.GetRoleId(), Subject{b.GetSubject().GetType(), b.GetSubject().GetId()}})
		}
		if !slices.Contains(pairs, entry) {
			t.Fatalf("the list has %v, without what ends", pairs)
		}
		_, err = w.set(olga, org1, pairs...)
		w.must(err)
		if !w.allowed(vera, getFolder, folder1) || !w.allowed(nick, getFolder, folder1) {
			t.Error("a pair of the list is not in force")
		}
		_, err = grants.EndGrant(t.Context(), end)
		w.must(err)
		if w.allowed(vera, getFolder, folder1) {
			t.Error("the list has made access for good of what ended")
		}

		in.GrantId, end.GrantId = "again", "again"
		_, err = grants.PutGrant(t.Context(), in)
		w.must(err)
		w.mustUpdate(olga, org1, add(viewer, vera))
		_, err = grants.EndGrant(t.Context(), end)
		w.must(err)
		if !w.allowed(vera, getFolder, folder1) {
			t.Error("what was added by hand went with the grant")
		}
	})
}

// Nobody gives or takes by hand what the platform gives (AS-15), and people do not see
// a role that they cannot give.
func TestAS15_GrantedRolesAreThePlatforms(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		grants := w.market()
		if _, err := grants.PutGrant(t.Context(), putting("one", vera, time.Time{})); err != nil {
			t.Fatal(err)
		}
		mine, product := Ref{"marketplace.publisher", "mine"}, Ref{"marketplace.product", "ours"}
		w.register(mine, Ref{}, []Pair{{"marketplace.publishers.owner", nick}})
		w.register(product, mine, nil)
		for _, action := range []accesspb.AccessBindingAction{accesspb.AccessBindingAction_ADD, accesspb.AccessBindingAction_REMOVE} {
			_, err := w.bindings.UpdateAccessBindings(w.as(nick), &accessv1.UpdateAccessBindingsRequest{
				Resource: product.proto(), AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
					Action: action, AccessBinding: &accessv1.AccessBinding{RoleId: productUser, Subject: vera.proto()},
				}},
			})
			if action == accesspb.AccessBindingAction_ADD && apierr.ReasonOf(err) != "ROLE_NOT_ASSIGNABLE" {
				t.Errorf("given by hand: %v", err)
			}
		}
	})
}

func TestHoldersOfAPermission(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		grants := accessv1.NewGrantServiceClient(w.Unit("marketplacerequests", Name))
		const role = "marketplace.productAccessRequests.publisher"
		publisher := Ref{"marketplace.publisher", "p"}
		w.register(publisher, Ref{}, []Pair{{role, vera}, {role, Subject{rules.System, "allUsers"}}})
		w.register(product1, publisher, []Pair{{role, nick}, {role, vera}})
		for permission, want := range map[string][]string{
			"marketplace.productAccessRequests.approve": {"nick", "vera"}, "marketplace.products.delete": {}, "none": {},
		} {
			resp, err := grants.ListPermissionHolders(t.Context(), &accessv1.ListPermissionHoldersRequest{Resource: product1.proto(), Permission: permission})
			if err != nil {
				t.Fatal(err)
			}
			got := []string{}
			for _, s := range resp.GetHolders() {
				got = append(got, s.GetId())
			}
			if len(got) != len(want) || len(got) == 2 && (got[0] != want[0] || got[1] != want[1]) {
				t.Errorf("%s: %v, want %v", permission, got, want)
			}
		}
		for r, reason := range map[Ref]string{cloud1: "TYPE_NOT_OWNED", {"marketplace.product", "none"}: apierr.ReasonResourceNotFound} {
			_, err := grants.ListPermissionHolders(context.Background(), &accessv1.ListPermissionHoldersRequest{Resource: r.proto(), Permission: install})
			if apierr.ReasonOf(err) != reason {
				t.Errorf("%v: %v, want %s", r, err, reason)
			}
		}
	})
}
