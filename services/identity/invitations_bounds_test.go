package identity

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/catalog"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	brmv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/resourcemanager/v1"
	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
)

func (w *town) limit(quotaID, resourceID string, limit int64) {
	w.t.Helper()
	_, err := quotav1.NewOperatorServiceClient(w.socket).SetLimit(w.t.Context(), &quotav1.SetLimitRequest{
		QuotaId: quotaID, ResourceId: resourceID, Change: &quotav1.SetLimitRequest_Limit{Limit: limit},
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// A full organization takes nobody in, and the invitation can be answered again.
func TestAcceptBeyondTheQuota(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		w.limit(catalog.QuotaMemberships, org, 1)
		inv := w.invite(olga, org, vera.email)
		wantCode(t, w.accept(vera, inv.GetId()), codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
		if w.isMember(vera, org) || w.state(olga, inv.GetId()) != identityv1.Invitation_PENDING || len(w.incoming(vera)) != 1 {
			t.Errorf("refused: a member %t, the invitation %v", w.isMember(vera, org), w.state(olga, inv.GetId()))
		}
		w.limit(catalog.QuotaMemberships, org, 2)
		w.advance(2 * time.Second) // so long is a limit remembered that refused
		if err := w.accept(vera, inv.GetId()); err != nil || !w.isMember(vera, org) {
			t.Errorf("with room again: %v", err)
		}
		events := w.organizationEvents()
		if events["AcceptInvitation STARTED"] != 2 || events["AcceptInvitation ERROR"] != 1 || events["CreateMembership DONE"] != 1 {
			t.Errorf("audit records: %v", events)
		}
	})
}

// A policy forbids invitations to everybody, owners included; those that are out can
// be answered and taken back.
func TestAP5_DenyMemberInvitation(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org := w.organization(olga, "acme")
		inv, other := w.invite(olga, org, vera.email), w.invite(olga, org, "nick@example.com")
		_, err := accessv1.NewAccessPolicyServiceClient(w.Conn).BindAccessPolicy(olga.ctx, &accessv1.BindAccessPolicyRequest{
			Resource:            &accessv1.Resource{Type: typeOrganization, Id: org},
			AccessPolicyBinding: &accesspb.AccessPolicyBinding{AccessPolicyTemplateId: "organization.denyMemberInvitation"},
		})
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.invitations.CreateInvitations(olga.ctx, &identityv1.CreateInvitationsRequest{OrganizationId: org, Emails: []string{"carl@example.com"}})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonDeniedByPolicy)
		wantCode(t, w.resend(olga, other.GetId()), codes.PermissionDenied, apierr.ReasonDeniedByPolicy)
		if err := w.revoke(olga, other.GetId()); err != nil {
			t.Error(err)
		}
		if err := w.accept(vera, inv.GetId()); err != nil {
			t.Error(err)
		}
	})
}

// With its organization an invitation goes; nobody joins what is gone.
func TestInvitationsGoWithTheirOrganization(t *testing.T) {
	inTown(t, func(t *testing.T, w *town) {
		olga, vera := w.citizen("olga"), w.citizen("vera")
		org, stays := w.organization(olga, "acme"), w.organization(olga, "stays")
		gone, kept := w.invite(olga, org, vera.email), w.invite(olga, stays, vera.email)
		_, err := brmv1.NewOrganizationServiceClient(w.Conn).DeleteOrganization(olga.ctx, &brmv1.DeleteOrganizationRequest{OrganizationId: org})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.accept(vera, gone.GetId()); apierr.CodeOf(apierr.FromRPC(err)) != codes.NotFound {
			t.Errorf("she joins what is gone: %v", err)
		}
		eventually(t, "the invitation is gone", func() bool { return len(w.incoming(vera)) == 1 })
		wantCode(t, w.accept(vera, gone.GetId()), codes.NotFound, ReasonInvitationNotFound)
		if got := w.incoming(vera); len(got) != 1 || got[0].GetId() != kept.GetId() {
			t.Errorf("what waits for her: %v, want %v", got, kept)
		}
	})
}
