package partner

import (
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/durationpb"

	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	partnerv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/partner/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

// visit is a partner with a colleague, and a customer with an organization and a cloud.
type visit struct {
	*world
	ann, eve, boss  person // the partner's owner, its colleague, the customer
	sub, org, cloud string
	door            partnerv1.CustomerAccessServiceClient
}

func newVisit(w *world) *visit {
	w.t.Helper()
	v := &visit{world: w, ann: w.person("ann"), eve: w.person("eve"), boss: w.person("boss"), door: partnerv1.NewCustomerAccessServiceClient(w.Conn)}
	partner := w.partner(v.ann)
	w.grant(v.ann, typeAccount, partner, "billing.accounts.admin", v.eve)
	v.sub = w.invited(v.ann, partner, v.boss.email).GetId()
	answer := new(partnerv1.InvitationToSubaccount)
	w.done(must(w.subaccounts.AcceptInvitation(w.as(v.boss), &partnerv1.AcceptInvitationRequest{SubaccountId: v.sub}))(w.t), answer, nil)
	v.org = answer.GetOrganizationId()
	v.cloud = w.cloud(v.boss, v.org).GetId()
	return v
}

func (v *visit) ask(who person, role string, lasts time.Duration) (*partnerv1.CustomerAccess, error) {
	op, err := v.door.RequestCustomerAccess(v.as(who), &partnerv1.RequestCustomerAccessRequest{
		SubaccountId: v.sub, RoleId: role, Duration: durationpb.New(lasts), Reason: "The disks are full.",
	})
	if err != nil {
		return nil, err
	}
	a := new(partnerv1.CustomerAccess)
	v.done(op, a, new(partnerv1.CustomerAccessMetadata))
	return a, nil
}

func (v *visit) approve(who person, accessID string) error {
	op, err := v.door.ApproveCustomerAccess(v.as(who), &partnerv1.ApproveCustomerAccessRequest{AccessId: accessID})
	if err == nil {
		v.done(op, new(partnerv1.CustomerAccess), new(partnerv1.CustomerAccessMetadata))
	}
	return err
}

// inside reports whether somebody gets at the customer's cloud.
func (v *visit) inside(who person) bool {
	return v.may(who, "resource-manager.clouds.get", typeCloud, v.cloud) == nil
}

// Somebody of a partner enters a customer's organization by the customer's consent, until
// its time is over or the customer has had enough.
func TestSC21_EnteringACustomersOrganization(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		v := newVisit(w)
		if v.inside(v.eve) {
			t.Fatal("a colleague of the partner is inside from the beginning (PT-17)")
		}
		a := must(v.ask(v.eve, "viewer", time.Hour))(t)
		if a.GetState() != partnerv1.CustomerAccess_PENDING || a.GetOrganizationId() != v.org || a.GetUserId() != v.eve.id || v.inside(v.eve) {
			t.Errorf("asked: %v", a)
		}
		_, err := v.ask(v.eve, "admin", time.Hour)
		wantRefusal(t, "twice", err, codes.AlreadyExists, "REQUEST_EXISTS")
		// PT-18 makes the partner's owner one of the organization: it decides nothing.
		wantRefusal(t, "the partner's owner lets in", v.approve(v.ann, a.GetId()), codes.PermissionDenied, ReasonPartnersSide)
		wantRefusal(t, "the requester lets itself in", v.approve(v.eve, a.GetId()), codes.PermissionDenied, "PERMISSION_DENIED")
		own := must(v.ask(v.ann, "viewer", time.Hour))(t)
		wantRefusal(t, "an owner decides its own", v.approve(v.ann, own.GetId()), codes.PermissionDenied, "OWN_REQUEST")
		must(v.door.CancelCustomerAccess(w.as(v.ann), &partnerv1.CancelCustomerAccessRequest{AccessId: own.GetId()}))(t)
		if err := v.approve(v.boss, a.GetId()); err != nil || !v.inside(v.eve) {
			t.Fatalf("let in: %v, inside %t", err, v.inside(v.eve))
		}
		w.restart()
		v.door = partnerv1.NewCustomerAccessServiceClient(w.Conn)
		seen := must(v.door.ListOrganizationAccesses(w.as(v.boss), &partnerv1.ListOrganizationAccessesRequest{OrganizationId: v.org}))(t).GetAccesses()
		if len(seen) != 2 || seen[1].GetState() != partnerv1.CustomerAccess_APPROVED || seen[1].GetEndsAt() == nil || seen[1].GetReason() != "The disks are full." || !seen[1].GetSettled() {
			t.Errorf("the customer sees %v", seen)
		}
		theirs := must(v.door.ListCustomerAccesses(w.as(v.eve), &partnerv1.ListCustomerAccessesRequest{SubaccountId: v.sub, PageSize: 1}))(t)
		if len(theirs.GetAccesses()) != 1 || theirs.GetNextPageToken() == "" {
			t.Errorf("the partner sees %v", theirs)
		}
		// The customer sees the binding where it sees all others.
		shown := must(w.bindings.ListAccessBindings(w.as(v.boss), &accessv1.ListAccessBindingsRequest{Resource: &accessv1.Resource{Type: typeOrganization, Id: v.org}}))(t)
		if !slices.ContainsFunc(shown.GetAccessBindings(), func(b *accessv1.AccessBinding) bool {
			return b.GetSubject().GetId() == v.eve.id && b.GetExpiresAt() != nil && b.GetSources()[0].GetId() == a.GetId()
		}) {
			t.Errorf("bindings %v", shown)
		}
		must(v.door.RevokeCustomerAccess(w.as(v.boss), &partnerv1.RevokeCustomerAccessRequest{AccessId: a.GetId()}))(t)
		if v.inside(v.eve) {
			t.Error("inside after it was thrown out")
		}
		must(v.door.RevokeCustomerAccess(w.as(v.boss), &partnerv1.RevokeCustomerAccessRequest{AccessId: a.GetId()}))(t) // again
		wantRefusal(t, "let in again", v.approve(v.boss, a.GetId()), codes.FailedPrecondition, "REQUEST_STATE")
	})
}

// noticed reads the addresses whom notices of an event go to.
func (w *world) noticed(event string) (addresses []string) {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), `SELECT d.target FROM notifications_deliveries d JOIN notifications_notices n ON n.id = d.notice_id WHERE n.event = $1 ORDER BY d.target`, event)
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var address string
		if err := rows.Scan(&address); err != nil {
			w.t.Fatal(err)
		}
		addresses = append(addresses, address)
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return addresses
}

// The customer is told of who asks, and nobody of the partner is; what it takes away by
// hand is over, and reads so at once.
func TestSC21_TheCustomerIsToldAndTakesAwayByHand(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		v := newVisit(w)
		a := must(v.ask(v.eve, "viewer", time.Hour))(t)
		w.eventually("the customer is told", func() bool { return len(w.noticed("customer_access.requested")) > 0 })
		if to := w.noticed("customer_access.requested"); !slices.Equal(to, []string{v.boss.email}) {
			t.Errorf("told: %q, want the customer alone", to)
		}
		if err := v.approve(v.boss, a.GetId()); err != nil {
			t.Fatal(err)
		}
		must(w.bindings.UpdateAccessBindings(w.as(v.boss), &accessv1.UpdateAccessBindingsRequest{
			Resource: &accessv1.Resource{Type: typeOrganization, Id: v.org},
			AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
				Action: accesspb.AccessBindingAction_REMOVE, AccessBinding: &accessv1.AccessBinding{RoleId: "viewer", Subject: v.eve.subject()},
			}},
		}))(t)
		if v.inside(v.eve) {
			t.Error("inside without the binding")
		}
		state := func() partnerv1.CustomerAccess_State {
			return must(v.door.ListOrganizationAccesses(w.as(v.boss), &partnerv1.ListOrganizationAccessesRequest{OrganizationId: v.org}))(t).GetAccesses()[0].GetState()
		}
		if got := state(); got != partnerv1.CustomerAccess_REVOKED {
			t.Errorf("the access reads %v", got)
		}
		must(v.ask(v.eve, "viewer", time.Hour))(t) // and may be asked for again
		if !slices.ContainsFunc(w.events(), func(e string) bool { return strings.Contains(e, "CustomerAccessRevoke") }) {
			t.Error("that it is over is not recorded")
		}
	})
}

// An access ends by itself, and is noted as such for the customer.
func TestSC21_AccessEndsByItself(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		v := newVisit(w)
		short, late := must(v.ask(v.eve, "viewer", time.Hour))(t), must(v.ask(v.ann, "viewer", time.Hour))(t)
		if err := v.approve(v.boss, short.GetId()); err != nil {
			t.Fatal(err)
		}
		w.ahead.Add(int64(61 * time.Minute))
		if v.inside(w.again(v.eve)) {
			t.Error("inside after its time")
		}
		w.ahead.Add(int64(7 * 24 * time.Hour))
		v.boss = w.again(v.boss)
		wantRefusal(t, "decided too late", v.approve(v.boss, late.GetId()), codes.FailedPrecondition, "REQUEST_STATE")
		for _, a := range must(v.door.ListOrganizationAccesses(w.as(v.boss), &partnerv1.ListOrganizationAccessesRequest{OrganizationId: v.org}))(t).GetAccesses() {
			if a.GetState() != partnerv1.CustomerAccess_EXPIRED {
				t.Errorf("over: %v", a)
			}
		}
		v.eve = w.again(v.eve)
		must(v.ask(v.eve, "viewer", time.Hour))(t) // and may be asked for again
	})
}

func TestSC21_WhoEnters(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		v := newVisit(w)
		for _, role := range []string{"organization-manager.organizations.owner", "no.such.role", "billing.accounts.customer", "resource-manager.clouds.owner"} {
			_, err := v.ask(v.eve, role, time.Hour)
			wantRefusal(t, role, err, codes.InvalidArgument, "role_id")
		}
		for _, lasts := range []time.Duration{time.Second, 8 * 24 * time.Hour} {
			_, err := v.ask(v.eve, "viewer", lasts)
			wantRefusal(t, lasts.String(), err, codes.InvalidArgument, "duration")
		}
		_, err := v.ask(v.boss, "viewer", time.Hour)
		wantRefusal(t, "by the customer", err, codes.PermissionDenied, "PERMISSION_DENIED")
		served := w.served(v.ann, must(w.subaccounts.GetSubaccount(w.as(v.ann), &partnerv1.GetSubaccountRequest{SubaccountId: v.sub}))(t).GetResellerId())
		v.sub = served
		_, err = v.ask(v.eve, "viewer", time.Hour)
		wantRefusal(t, "a customer without an organization", err, codes.FailedPrecondition, ReasonSubaccountState)
	})
}

// A binding that the customer takes away by hand is gone, whatever the access says.
func TestSC21_TheCustomerTakesTheRoleByHand(t *testing.T) {
	forEach(t, func(t *testing.T, w *world) {
		v := newVisit(w)
		a := must(v.ask(v.eve, "viewer", time.Hour))(t)
		if err := v.approve(v.boss, a.GetId()); err != nil {
			t.Fatal(err)
		}
		must(w.bindings.UpdateAccessBindings(w.as(v.boss), &accessv1.UpdateAccessBindingsRequest{
			Resource: &accessv1.Resource{Type: typeOrganization, Id: v.org}, AccessBindingDeltas: []*accessv1.AccessBindingDelta{{
				Action: accesspb.AccessBindingAction_REMOVE, AccessBinding: &accessv1.AccessBinding{RoleId: "viewer", Subject: v.eve.subject()},
			}},
		}))(t)
		if v.inside(v.eve) {
			t.Error("inside without the role")
		}
		// What was given may be given back, and the access be asked for anew.
		must(v.door.CancelCustomerAccess(w.as(v.eve), &partnerv1.CancelCustomerAccessRequest{AccessId: a.GetId()}))(t)
		must(v.ask(v.eve, "viewer", time.Hour))(t)
	})
}
