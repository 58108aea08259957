package identity

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// incoming lists what waits for a citizen.
func (w *town) incoming(c citizen) []*identityv1.Invitation {
	w.t.Helper()
	resp, err := w.invitations.ListIncomingInvitations(c.ctx, &identityv1.ListIncomingInvitationsRequest{})
	if err != nil {
		w.t.Fatal(err)
	}
	return resp.GetInvitations()
}

func (w *town) accept(c citizen, invitationID string) error {
	op, err := w.invitations.AcceptInvitation(c.ctx, &identityv1.AcceptInvitationRequest{InvitationId: invitationID})
	if err == nil {
		w.done(op, nil, new(identityv1.Invitation))
	}
	return err
}

func (w *town) reject(c citizen, invitationID string) error {
	_, err := w.invitations.RejectInvitation(c.ctx, &identityv1.RejectInvitationRequest{InvitationId: invitationID})
	return err
}

func (w *town) resend(c citizen, invitationID string) error {
	_, err := w.invitations.ResendInvitation(c.ctx, &identityv1.ResendInvitationRequest{InvitationId: invitationID})
	return err
}

func (w *town) revoke(c citizen, invitationID string) error {
	op, err := w.invitations.DeleteInvitation(c.ctx, &identityv1.DeleteInvitationRequest{InvitationId: invitationID})
	if err == nil {
		w.done(op, nil, new(emptypb.Empty))
	}
	return err
}

// state is where the organization sees an invitation.
func (w *town) state(owner citizen, invitationID string) identityv1.Invitation_State {
	w.t.Helper()
	inv, err := w.invitations.GetInvitation(owner.ctx, &identityv1.GetInvitationRequest{InvitationId: invitationID})
	if err != nil {
		w.t.Fatal(err)
	}
	return inv.GetState()
}

// The address decides, whatever its case; who comes later finds what waits.
func TestInvitationToAMembership(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		inv := w.invite(olga, org, "Vera@Example.COM")
		want := &identityv1.Invitation{
			Id: inv.GetId(), OrganizationId: org, OrganizationName: "ACME", Email: "vera@example.com", State: identityv1.Invitation_PENDING,
			CreatedBy: olga.id, CreatedAt: inv.GetCreatedAt(), ExpiresAt: inv.GetExpiresAt(), Sends: 1, SentAt: inv.GetCreatedAt(),
		}
		if diff := cmp.Diff(want, inv, protocmp.Transform()); diff != "" {
			t.Errorf("the invitation is another one (-want +got):\n%s", diff)
		}
		if life := inv.GetExpiresAt().AsTime().Sub(inv.GetCreatedAt().AsTime()); life != 7*24*time.Hour {
			t.Errorf("it lives %v, want a week", life)
		}
		vera := w.citizen("vera") // who has no account when she is invited
		if got := w.incoming(vera); len(got) != 1 || !proto.Equal(got[0], inv) {
			t.Errorf("what waits for her: %v, want %v", got, inv)
		}
		if err := w.accept(vera, inv.GetId()); err != nil {
			t.Fatal(err)
		}
		if !w.isMember(vera, org) {
			t.Error("the operation is done and the membership not in force")
		}
		if got := w.state(olga, inv.GetId()); got != identityv1.Invitation_ACCEPTED {
			t.Errorf("accepted it is %v", got)
		}
		if got := w.incoming(vera); len(got) != 0 {
			t.Errorf("accepted it still waits: %v", got)
		}
		wantCode(t, w.accept(vera, inv.GetId()), codes.FailedPrecondition, ReasonInvitationNotPending)
		wantCode(t, w.reject(vera, inv.GetId()), codes.FailedPrecondition, ReasonInvitationNotPending)
		wantCode(t, w.revoke(olga, inv.GetId()), codes.FailedPrecondition, ReasonInvitationNotPending)
		wantCode(t, w.resend(olga, inv.GetId()), codes.FailedPrecondition, ReasonInvitationNotPending)
		_, err := w.invitations.CreateInvitations(olga.ctx, &identityv1.CreateInvitationsRequest{OrganizationId: org, Emails: []string{"vera@example.com"}})
		wantCode(t, err, codes.AlreadyExists, ReasonAlreadyMember)
		events := w.organizationEvents()
		for _, e := range []string{"CreateInvitations DONE", "AcceptInvitation STARTED", "AcceptInvitation DONE", "CreateMembership DONE"} {
			if events[e] != 1 {
				t.Errorf("%d audit records %s, want 1", events[e], e)
			}
		}
	})
}

// A new member has no access to what the organization has until a role is given.
func TestRH5_InvitedMemberHasNoAccess(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		cloud := w.cloud(olga, org)
		w.join(olga, org, vera)
		read := func() error {
			_, err := w.clouds.Get(vera.ctx, &rmv1.GetCloudRequest{CloudId: cloud})
			return err
		}
		wantCode(t, read(), codes.PermissionDenied, apierr.ReasonPermissionDenied)
		if all, err := w.clouds.List(vera.ctx, &rmv1.ListCloudsRequest{}); err != nil || len(all.GetClouds()) != 0 {
			t.Errorf("she sees %v, %v; want nothing", all.GetClouds(), err)
		}
		w.grant(olga, "resource-manager.cloud", cloud, "viewer", vera)
		if err := read(); err != nil {
			t.Errorf("with the role: %v", err)
		}
	})
}

// Who may invite: administrators of the organization and of its people, nobody else.
func TestCR10_WhoInvites(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		for role, may := range map[string]bool{
			"organization-manager.admin": true, "organization-manager.passportUserAdmin": true, "admin": true,
			"organization-manager.editor": false, "editor": false, "organization-manager.users.viewer": false, "": false,
		} {
			who := w.citizen(strings.ReplaceAll("by-"+role+"x", ".", "-"))
			if role != "" {
				w.grant(olga, typeOrganization, org, role, who)
			}
			_, err := w.invitations.CreateInvitations(who.ctx, &identityv1.CreateInvitationsRequest{OrganizationId: org, Emails: []string{who.login + "@elsewhere.org"}})
			if may && err != nil || !may && status.Code(err) != codes.PermissionDenied {
				t.Errorf("with %q: %v, may %t", role, err, may)
			}
		}
	})
}

// An invitation to somebody else tells nothing and does nothing.
func TestInvitationOfAnother(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera, nick := w.citizen("olga"), w.citizen("vera"), w.citizen("nick")
		org := w.organization(olga, "acme")
		inv := w.invite(olga, org, vera.email)
		for _, act := range []func(citizen, string) error{w.accept, w.reject} {
			err := act(nick, inv.GetId())
			wantCode(t, err, codes.PermissionDenied, ReasonInvitationForAnother)
			for _, secret := range []string{"vera", org, "ACME", "acme", olga.id} {
				if strings.Contains(fmt.Sprint(err, status.Convert(err).Details()), secret) {
					t.Errorf("the refusal %v tells %s", err, secret)
				}
			}
			wantCode(t, act(olga, inv.GetId()), codes.PermissionDenied, ReasonInvitationForAnother)
			wantCode(t, act(vera, "inv00000000000000000"), codes.NotFound, ReasonInvitationNotFound)
		}
		for _, act := range []func(citizen, string) error{w.revoke, w.resend} {
			wantCode(t, act(nick, inv.GetId()), codes.PermissionDenied, apierr.ReasonPermissionDenied)
			wantCode(t, act(vera, inv.GetId()), codes.PermissionDenied, apierr.ReasonPermissionDenied)
			wantCode(t, act(olga, "inv00000000000000000"), codes.NotFound, ReasonInvitationNotFound)
		}
		if got := w.incoming(nick); len(got) != 0 {
			t.Errorf("what waits for nick: %v", got)
		}
		if w.isMember(nick, org) || w.isMember(vera, org) || w.state(olga, inv.GetId()) != identityv1.Invitation_PENDING {
			t.Error("somebody else's answer counted")
		}
		if err := w.reject(vera, inv.GetId()); err != nil || w.state(olga, inv.GetId()) != identityv1.Invitation_REJECTED {
			t.Errorf("her own did not: %v", err)
		}
		if again := w.invite(olga, org, vera.email); again.GetId() == inv.GetId() {
			t.Error("an ended invitation is in the way of a new one")
		}
	})
}

func TestInvitationsEnd(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		inv := w.invite(olga, org, vera.email)
		w.advance(8 * 24 * time.Hour)
		olga.ctx, vera.ctx = w.again(olga), w.again(vera) // their tokens have ended, too
		if got := w.state(olga, inv.GetId()); got != identityv1.Invitation_EXPIRED {
			t.Errorf("after its time it is %v", got)
		}
		if got := w.incoming(vera); len(got) != 0 {
			t.Errorf("what waits: %v, want nothing", got)
		}
		wantCode(t, w.accept(vera, inv.GetId()), codes.FailedPrecondition, ReasonInvitationNotPending)
		wantCode(t, w.revoke(olga, inv.GetId()), codes.FailedPrecondition, ReasonInvitationNotPending)
		if err := w.resend(olga, inv.GetId()); err != nil {
			t.Fatalf("send it again: %v", err)
		}
		if got := w.incoming(vera); len(got) != 1 || got[0].GetSends() != 2 || got[0].GetEndedAt() != nil {
			t.Errorf("sent again: %v", got)
		}
		if err := w.revoke(olga, inv.GetId()); err != nil {
			t.Fatal(err)
		}
		wantCode(t, w.accept(vera, inv.GetId()), codes.FailedPrecondition, ReasonInvitationNotPending)
		wantCode(t, w.resend(olga, inv.GetId()), codes.FailedPrecondition, ReasonInvitationNotPending)

		old := w.invite(olga, org, vera.email)
		w.advance(8 * 24 * time.Hour)
		olga.ctx = w.again(olga)
		w.invite(olga, org, vera.email) // takes the place of the one that has expired
		wantCode(t, w.resend(olga, old.GetId()), codes.AlreadyExists, ReasonInvitationExists)
		states := map[identityv1.Invitation_State]int{}
		for _, inv := range w.list(olga, org, "") {
			states[inv.GetState()]++
		}
		want := map[identityv1.Invitation_State]int{identityv1.Invitation_REVOKED: 1, identityv1.Invitation_EXPIRED: 1, identityv1.Invitation_PENDING: 1}
		if diff := cmp.Diff(want, states); diff != "" {
			t.Errorf("the list of all: %s", diff)
		}
		for filter, n := range map[string]int{`state = "PENDING"`: 1, `state = "EXPIRED"`: 1, `state = "REVOKED"`: 1, `state = "ACCEPTED"`: 0, `email = "VERA@example.com"`: 3, `email = "vera"`: 0} {
			if got := w.list(olga, org, filter); len(got) != n {
				t.Errorf("%s: %d invitations, want %d", filter, len(got), n)
			}
		}
		for range maxSends - 1 {
			if err := w.resend(olga, w.list(olga, org, `state = "PENDING"`)[0].GetId()); err != nil {
				t.Fatal(err)
			}
		}
		wantCode(t, w.resend(olga, w.list(olga, org, `state = "PENDING"`)[0].GetId()), codes.FailedPrecondition, ReasonSentTooOften)
	})
}

// list reads all invitations of an organization, two at a time.
func (w *town) list(owner citizen, org, filter string) []*identityv1.Invitation {
	w.t.Helper()
	var all []*identityv1.Invitation
	req := &identityv1.ListInvitationsRequest{OrganizationId: org, Filter: filter, PageSize: 2}
	for {
		resp, err := w.invitations.ListInvitations(owner.ctx, req)
		if err != nil {
			w.t.Fatal(err)
		}
		if all = append(all, resp.GetInvitations()...); resp.GetNextPageToken() == "" {
			return all
		}
		if len(resp.GetInvitations()) != 2 {
			w.t.Fatalf("a page of %d with a next one", len(resp.GetInvitations()))
		}
		req.PageToken = resp.GetNextPageToken()
	}
}

// One pending invitation for each address, and a hundred for each organization, also
// when they are made at once.
func TestInvitationsConcurrently(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		create := func(emails ...string) error {
			_, err := w.invitations.CreateInvitations(olga.ctx, &identityv1.CreateInvitationsRequest{OrganizationId: org, Emails: emails})
			return err
		}
		outcomes := func(n int, call func(i int) error) map[string]int {
			var mu sync.Mutex
			var all sync.WaitGroup
			got := map[string]int{}
			for i := range n {
				all.Go(func() {
					err := call(i)
					mu.Lock()
					defer mu.Unlock()
					got[apierr.ReasonOf(err)]++
				})
			}
			all.Wait()
			return got
		}
		got := outcomes(12, func(int) error { return create("vera@example.com") })
		if diff := cmp.Diff(map[string]int{"": 1, ReasonInvitationExists: 11}, got); diff != "" {
			t.Errorf("one address at once: %s", diff)
		}
		first := make([]string, 93)
		for i := range first {
			first[i] = fmt.Sprintf("p%d@example.com", i)
		}
		if err := create(first...); err != nil {
			t.Fatal(err)
		}
		got = outcomes(9, func(i int) error { return create(fmt.Sprintf("q%d@example.com", i)) })
		if diff := cmp.Diff(map[string]int{"": 6, apierr.ReasonQuotaExceeded: 3}, got); diff != "" {
			t.Errorf("the last places at once: %s", diff)
		}
		if err := w.revoke(olga, w.list(olga, org, `email = "p7@example.com"`)[0].GetId()); err != nil {
			t.Fatal(err)
		}
		wantCode(t, create("r1@example.com", "r2@example.com"), codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
		if n := len(w.list(olga, org, `email = "r1@example.com"`)); n != 0 {
			t.Error("half of a call was made")
		}
		if err := create("r1@example.com"); err != nil {
			t.Errorf("the place that is free again: %v", err)
		}
		seen := map[string]bool{}
		for _, inv := range w.list(olga, org, "") {
			seen[inv.GetId()] = true
		}
		if len(seen) != 101 { // 100 pending, 1 revoked
			t.Errorf("the pages show %d invitations, want 101", len(seen))
		}
	})
}

// Answers at once: one counts.
func TestAnswersConcurrently(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		inv := w.invite(olga, org, vera.email)
		var all sync.WaitGroup
		errs := make([]error, 9)
		for i := range errs {
			all.Go(func() {
				switch i % 3 {
				case 0:
					_, errs[i] = w.invitations.AcceptInvitation(vera.ctx, &identityv1.AcceptInvitationRequest{InvitationId: inv.GetId()})
				case 1:
					errs[i] = w.reject(vera, inv.GetId())
				case 2:
					_, errs[i] = w.invitations.DeleteInvitation(olga.ctx, &identityv1.DeleteInvitationRequest{InvitationId: inv.GetId()})
				}
			})
		}
		all.Wait()
		winner := -1
		for i, err := range errs {
			if err == nil && winner < 0 {
				winner = i % 3
			} else if apierr.ReasonOf(err) != ReasonInvitationNotPending {
				t.Errorf("call %d: %v", i, err)
			}
		}
		want := map[int]identityv1.Invitation_State{0: identityv1.Invitation_ACCEPTED, 1: identityv1.Invitation_REJECTED, 2: identityv1.Invitation_REVOKED}
		if got := w.state(olga, inv.GetId()); winner < 0 || got != want[winner] {
			t.Errorf("call %d won, and it is %v", winner, got)
		}
		if got := w.isMember(vera, org); got != (winner == 0) {
			t.Errorf("a member: %t, and call %d won", got, winner)
		}
	})
}

func TestInvitationsHonourKeys(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		req := &identityv1.CreateInvitationsRequest{OrganizationId: org, Emails: []string{vera.email, "nick@example.com"}}
		first, err := w.invitations.CreateInvitations(olga.keyed("create"), req)
		if err != nil {
			t.Fatal(err)
		}
		meta := new(identityv1.CreateInvitationsMetadata)
		if err := first.GetMetadata().UnmarshalTo(meta); err != nil {
			t.Fatal(err)
		}
		accept := &identityv1.AcceptInvitationRequest{InvitationId: meta.GetInvitationIds()[0]}
		accepted, err := w.invitations.AcceptInvitation(vera.keyed("accept"), accept)
		if err != nil {
			t.Fatal(err)
		}
		again, err := w.invitations.CreateInvitations(olga.keyed("create"), req) // though one is a member by now
		if err != nil || !proto.Equal(first, again) {
			t.Errorf("again: %v, %v; want %v", again, err, first)
		}
		again, err = w.invitations.AcceptInvitation(vera.keyed("accept"), accept)
		if err != nil || !proto.Equal(accepted, again) {
			t.Errorf("again: %v, %v; want %v", again, err, accepted)
		}
		if n := len(w.list(olga, org, "")); n != 2 {
			t.Errorf("%d invitations, want 2", n)
		}
	})
}

func TestInvitationsRefuseBadAddresses(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga := w.citizen("olga")
		org := w.organization(olga, "acme")
		for _, bad := range []string{
			"v\u0435ra@example.com", "vera@ex\u0430mple.com", "ve\u200Bra@example.com", "vera\u202E@example.com", "Vera <vera@example.com>",
			"vera", "vera@[127.0.0.1]", "vera@xn--example-r06c.com", "vera@example.com\r\nBcc: nick@example.com", strings.Repeat("a", 65) + "@b.c",
		} {
			_, err := w.invitations.CreateInvitations(olga.ctx, &identityv1.CreateInvitationsRequest{OrganizationId: org, Emails: []string{"nick@example.com", bad}})
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
			if !strings.Contains(status.Convert(err).Message(), "emails[1]") {
				t.Errorf("%q: %v does not name the field", bad, err)
			}
		}
		_, err := w.invitations.CreateInvitations(olga.ctx, &identityv1.CreateInvitationsRequest{OrganizationId: org, Emails: []string{"nick@example.com", "NICK@example.com"}})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		if all := w.list(olga, org, ""); len(all) != 0 {
			t.Errorf("a refused call made %v", all)
		}
		for _, filter := range []string{`state = "ACCEPTING"`, `state = ""`, `id = "x"`, `state`} {
			_, err := w.invitations.ListInvitations(olga.ctx, &identityv1.ListInvitationsRequest{OrganizationId: org, Filter: filter})
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
	})
}
