package identity

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
)

// InvitationState is where an invitation stands.
type InvitationState string

// States of invitations. Pending, Rejected, Revoked, Expired and Accepted are the
// public ones; Accepting is pending to everybody but who would end it.
const (
	Pending   InvitationState = "PENDING"
	Accepting InvitationState = "ACCEPTING"
	Accepted  InvitationState = "ACCEPTED"
	Rejected  InvitationState = "REJECTED"
	Revoked   InvitationState = "REVOKED"
	Expired   InvitationState = "EXPIRED"
)

// maxSends is how often one invitation is sent: it goes to somebody who did not ask
// for it.
const maxSends = 10

// Invitation asks the person with an address to become a member of an organization.
type Invitation struct {
	ID               string
	OrganizationID   string
	OrganizationName string // when it invited; "" when it could not be read
	Email            string // in lower case
	State            InvitationState
	CreatedBy        string
	CreatedAt        time.Time
	ExpiresAt        time.Time
	Sends            int64
	SentAt           time.Time
	AnsweredBy       string    // "" before
	EndedAt          time.Time // zero before
	Operation        string    // that makes the membership, while Accepting
}

// at returns the invitation as it stands at a time: Expired when nobody answered
// before.
func (i Invitation) at(now time.Time) Invitation {
	if i.State == Pending && !i.ExpiresAt.After(now) {
		i.State, i.EndedAt = Expired, i.ExpiresAt
	}
	return i
}

// organization is the resource that invites.
func (i Invitation) organization() authz.Resource {
	return authz.Resource{Type: typeOrganization, ID: i.OrganizationID}
}

// typeOrganization is the type of what has members.
const typeOrganization = "organization-manager.organization"

func (i Invitation) position() page.Position {
	return page.Position{Time: sqldb.Micros(i.CreatedAt), ID: i.ID}
}

// publicState is what people are shown.
var publicState = map[InvitationState]identityv1.Invitation_State{
	Pending:   identityv1.Invitation_PENDING,
	Accepting: identityv1.Invitation_PENDING,
	Accepted:  identityv1.Invitation_ACCEPTED,
	Rejected:  identityv1.Invitation_REJECTED,
	Revoked:   identityv1.Invitation_REVOKED,
	Expired:   identityv1.Invitation_EXPIRED,
}

// proto is the public message.
func (i Invitation) proto() *identityv1.Invitation {
	msg := &identityv1.Invitation{
		Id: i.ID, OrganizationId: i.OrganizationID, OrganizationName: i.OrganizationName, Email: i.Email,
		State: publicState[i.State], CreatedBy: i.CreatedBy, CreatedAt: timestamppb.New(i.CreatedAt),
		ExpiresAt: timestamppb.New(i.ExpiresAt), Sends: int32(i.Sends), SentAt: timestamppb.New(i.SentAt), //nolint:gosec // at most maxSends
		AnsweredBy: i.AnsweredBy,
	}
	if !i.EndedAt.IsZero() {
		msg.EndedAt = timestamppb.New(i.EndedAt)
	}
	return msg
}
