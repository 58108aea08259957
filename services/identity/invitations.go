package identity

import (
	"context"
	"database/sql"
	"fmt"
	"time"

	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/filter"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/log"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// Permissions that guard invitations (CR-10).
const (
	permInvite      = "organization-manager.invitations.create"
	permUninvite    = "organization-manager.invitations.delete"
	permInvitations = "organization-manager.invitations.list"
)

// quotaInvites bounds the pending invitations of an organization.
const quotaInvites = "organization-manager.invites.count"

// invitations is bindery.identity.v1.InvitationService.
type invitations struct {
	identityv1.UnsafeInvitationServiceServer // a missing method does not compile
	*Service
}

// resolveInvitation leads from an invitation to the organization that invites.
// Fails: INVITATION_NOT_FOUND.
func (s *Service) resolveInvitation(ctx context.Context, invitationID string) (authz.Resource, error) {
	inv, err := s.store.Invitation(ctx, s.store.db, invitationID)
	if err != nil {
		return authz.Resource{}, err
	}
	return inv.organization(), nil
}

// CreateInvitations invites people by their addresses, all or nobody (CR-10). Fails:
// INVITATION_EXISTS, ALREADY_MEMBER, QUOTA_EXCEEDED.
func (s *invitations) CreateInvitations(ctx context.Context, req *identityv1.CreateInvitationsRequest) (*operationpb.Operation, error) {
	addresses, err := addressesOf(req.GetEmails())
	if err != nil {
		return nil, err
	}
	on := quota.Resource{Type: typeOrganization, ID: req.GetOrganizationId()}
	limit, err := s.limits.Limit(ctx, quotaInvites, on)
	if err != nil {
		return nil, err
	}
	refusal := s.refuseMembers(ctx, req.GetOrganizationId(), addresses) // asked before the transaction, and no news to a replay
	draft := s.draftInvitation(ctx, req.GetOrganizationId())
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		if refusal != nil {
			return op, refusal
		}
		pending, err := s.store.lockInvitations(ctx, tx, req.GetOrganizationId(), draft.CreatedAt)
		if err != nil {
			return op, err
		}
		made, err := s.insertInvitations(ctx, tx, draft, addresses)
		if err != nil {
			return op, err
		}
		if err := quota.Exceeded(quotaInvites, on, limit, pending, int64(len(addresses))); err != nil {
			return op, err
		}
		return s.invited(ctx, tx, draft, made)
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// addressesOf returns addresses in lower case, or says what is wrong with them.
func addressesOf(emails []string) ([]string, error) {
	addresses, seen := make([]string, len(emails)), make(map[string]bool, len(emails))
	var problems []apierr.Field
	for i, given := range emails {
		problem := email.Problem(given)
		if addresses[i] = email.Fold(given); problem == "" && seen[addresses[i]] {
			problem = "stands in the list before"
		}
		if problem != "" {
			problems = append(problems, apierr.Field{Name: fmt.Sprintf("emails[%d]", i), Message: problem})
		}
		seen[addresses[i]] = true
	}
	if len(problems) > 0 {
		return nil, apierr.Invalid(problems...)
	}
	return addresses, nil
}

// refuseMembers refuses addresses of people who are members of the organization.
func (s *Service) refuseMembers(ctx context.Context, organizationID string, addresses []string) error {
	users, err := s.store.UsersByEmail(ctx, s.store.db, addresses)
	if err != nil {
		return err
	}
	for _, u := range users {
		organizations, err := s.organizationsOf(ctx, authn.UserAccount, u.ID)
		if err != nil {
			return err
		}
		if organizations[organizationID] {
			return errAlreadyMember.Withf("%s is a member of the organization", email.Fold(u.Email))
		}
	}
	return nil
}

// organizationsOf are the organizations of which a subject is a member, by id.
func (s *Service) organizationsOf(ctx context.Context, typ, subjectID string) (map[string]bool, error) {
	resp, err := s.subjects.ListMemberships(server.AsUnit(ctx), &accessv1.ListMembershipsRequest{
		Subject: &accessv1.Subject{Type: typ, Id: subjectID}, ContainerType: typeOrganization,
	})
	if err != nil {
		return nil, fmt.Errorf("list memberships: %w", apierr.FromRPC(err))
	}
	organizations := make(map[string]bool, len(resp.GetContainers()))
	for _, c := range resp.GetContainers() {
		organizations[c.GetId()] = true
	}
	return organizations, nil
}

// draftInvitation is what all invitations of one call have in common.
func (s *Service) draftInvitation(ctx context.Context, organizationID string) Invitation {
	now := s.now()
	return Invitation{
		OrganizationID: organizationID, OrganizationName: s.organizationName(ctx, organizationID), State: Pending,
		CreatedBy: authn.FromContext(ctx).ID, CreatedAt: now, ExpiresAt: now.Add(s.cfg.InvitationLife), Sends: 1, SentAt: now,
	}
}

// organizationName reads what the caller may read anyway; "" when it may not, or
// the resource manager is away: an invitation does not wait for a name.
func (s *Service) organizationName(ctx context.Context, organizationID string) string {
	o, err := s.organizations.Get(ctx, &orgv1.GetOrganizationRequest{OrganizationId: organizationID})
	if err != nil {
		log.From(ctx).Info("name of organization not read", zap.String("organization_id", organizationID), zap.Error(err))
		return ""
	}
	if o.GetTitle() != "" {
		return o.GetTitle()
	}
	return o.GetName()
}

func (s *Service) insertInvitations(ctx context.Context, tx *sql.Tx, draft Invitation, addresses []string) ([]Invitation, error) {
	made := make([]Invitation, len(addresses))
	for n, address := range addresses {
		made[n] = draft
		made[n].ID, made[n].Email = id.New(id.Invitation), address
		if err := s.store.InsertInvitation(ctx, tx, made[n]); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// invited ends CreateInvitations in its transaction: the operation, the record
// and the mail.
func (s *Service) invited(ctx context.Context, tx *sql.Tx, draft Invitation, made []Invitation) (operation.Operation, error) {
	meta := &identityv1.CreateInvitationsMetadata{OrganizationId: draft.OrganizationID}
	resp := new(identityv1.CreateInvitationsResponse)
	addresses := make([]string, len(made))
	for n, inv := range made {
		meta.InvitationIds = append(meta.InvitationIds, inv.ID)
		resp.Invitations = append(resp.Invitations, inv.proto())
		addresses[n] = inv.Email
		if err := s.mail(ctx, tx, inv); err != nil {
			return operation.Operation{}, err
		}
	}
	op, err := s.insertInvitationOperation(ctx, tx, draft, "Create invitations", meta, resp)
	if err != nil {
		return op, err
	}
	return op, s.recordInvitation(ctx, tx, draft, "CreateInvitations", audit.Done, permInvite,
		map[string]any{"operation_id": op.ID, "invitation_ids": meta.GetInvitationIds(), "emails": addresses})
}

// insertInvitationOperation makes an operation on the organization that invites;
// without a response it is not done.
func (s *Service) insertInvitationOperation(ctx context.Context, tx *sql.Tx, inv Invitation, what string, meta, resp proto.Message) (operation.Operation, error) {
	return s.operations.Insert(ctx, tx, operation.New{
		Resource: inv.organization(), ViewPermission: permInvitations, Description: what,
		CreatedBy: authn.FromContext(ctx).ID, Metadata: meta, Response: resp,
	})
}

// ResendInvitation sends an invitation again and begins its time anew. Fails:
// INVITATION_NOT_FOUND, INVITATION_NOT_PENDING, INVITATION_EXISTS,
// INVITATION_SENT_TOO_OFTEN, QUOTA_EXCEEDED.
func (s *invitations) ResendInvitation(ctx context.Context, req *identityv1.ResendInvitationRequest) (*operationpb.Operation, error) {
	seen, err := s.store.Invitation(ctx, s.store.db, req.GetInvitationId())
	if err != nil {
		return nil, err
	}
	on := quota.Resource{Type: typeOrganization, ID: seen.OrganizationID}
	limit, err := s.limits.Limit(ctx, quotaInvites, on)
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		now := s.now()
		pending, err := s.store.lockInvitations(ctx, tx, seen.OrganizationID, now)
		if err != nil {
			return op, err
		}
		inv, err := s.store.LockInvitation(ctx, tx, seen.ID)
		if err != nil {
			return op, err
		}
		if inv.State == Expired {
			if err := s.mayRevive(ctx, tx, inv); err != nil {
				return op, err
			}
			if err := quota.Exceeded(quotaInvites, on, limit, pending, 1); err != nil {
				return op, err
			}
			inv.State = Pending
		}
		if inv.State != Pending {
			return op, errInvitationNotPending(inv)
		}
		if inv.Sends >= maxSends {
			return op, errSentTooOften
		}
		inv.Sends, inv.SentAt, inv.ExpiresAt = inv.Sends+1, now, now.Add(s.cfg.InvitationLife)
		inv.EndedAt = time.Time{}
		return s.resent(ctx, tx, inv)
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// mayRevive refuses an expired invitation whose address has been invited anew.
func (s *Service) mayRevive(ctx context.Context, tx *sql.Tx, inv Invitation) error {
	open, err := s.store.ListInvitations(ctx, tx, InvitationQuery{
		OrganizationID: inv.OrganizationID, Email: inv.Email, State: Pending, Now: s.now(),
	}, page.Position{}, 1)
	if err == nil && len(open) > 0 {
		err = errInvitationExists(inv.Email)
	}
	return err
}

func (s *Service) resent(ctx context.Context, tx *sql.Tx, inv Invitation) (op operation.Operation, err error) {
	if err := s.store.UpdateInvitation(ctx, tx, inv); err != nil {
		return op, err
	}
	if err := s.mail(ctx, tx, inv); err != nil {
		return op, err
	}
	op, err = s.insertInvitationOperation(ctx, tx, inv, "Resend invitation", &identityv1.ResendInvitationMetadata{InvitationId: inv.ID}, inv.proto())
	if err != nil {
		return op, err
	}
	return op, s.recordInvitation(ctx, tx, inv, "ResendInvitation", audit.Done, permInvite,
		map[string]any{"operation_id": op.ID, "sends": inv.Sends})
}

// GetInvitation reads an invitation. Fails: INVITATION_NOT_FOUND.
func (s *invitations) GetInvitation(ctx context.Context, req *identityv1.GetInvitationRequest) (*identityv1.Invitation, error) {
	inv, err := s.store.Invitation(ctx, s.store.db, req.GetInvitationId())
	if err != nil {
		return nil, err
	}
	return inv.at(s.now()).proto(), nil
}

// ListInvitations reads one page of the invitations of an organization, newest first.
func (s *invitations) ListInvitations(ctx context.Context, req *identityv1.ListInvitationsRequest) (*identityv1.ListInvitationsResponse, error) {
	f, err := filter.Parse(req.GetFilter(), "state", "email")
	if err != nil {
		return nil, err
	}
	query := InvitationQuery{OrganizationID: req.GetOrganizationId(), Now: s.now()}
	switch f.Field {
	case "email":
		query.Email = email.Fold(f.Value)
	case "state":
		query.State = InvitationState(f.Value)
		if _, known := publicState[query.State]; !known || query.State == Accepting {
			return nil, apierr.InvalidField("filter", "the states are PENDING, ACCEPTED, REJECTED, REVOKED and EXPIRED")
		}
	}
	if f.Field != "" && f.Value == "" {
		return nil, apierr.InvalidField("filter", "the value must not be empty")
	}
	all, next, err := s.pageOfInvitations(ctx, query, req, "invitations", req.GetOrganizationId(), f.Field, f.Value)
	if err != nil {
		return nil, err
	}
	return &identityv1.ListInvitationsResponse{Invitations: all, NextPageToken: next}, nil
}

// paged is a request for a page of a list.
type paged interface {
	GetPageSize() int64
	GetPageToken() string
}

// pageOfInvitations reads one page of a list of invitations.
func (s *Service) pageOfInvitations(ctx context.Context, query InvitationQuery, req paged, scope ...string) ([]*identityv1.Invitation, string, error) {
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.store.ListInvitations(ctx, s.store.db, query, after, size+1)
	if err != nil {
		return nil, "", err
	}
	all := make([]*identityv1.Invitation, len(found))
	for i, inv := range found {
		all[i] = inv.at(query.Now).proto()
	}
	fit := page.Fit(min(len(all), size), func(i int) int { return proto.Size(all[i]) })
	if fit == len(all) {
		return all, "", nil
	}
	token, err := s.pages.Seal(found[fit-1].position(), scope...)
	return all[:fit], token, err
}

// DeleteInvitation takes a pending invitation back. Fails: INVITATION_NOT_FOUND,
// INVITATION_NOT_PENDING.
func (s *invitations) DeleteInvitation(ctx context.Context, req *identityv1.DeleteInvitationRequest) (*operationpb.Operation, error) {
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		inv, err := s.lockPending(ctx, tx, req.GetInvitationId())
		if err != nil {
			return op, err
		}
		inv.State, inv.EndedAt = Revoked, s.now()
		if err := s.store.UpdateInvitation(ctx, tx, inv); err != nil {
			return op, err
		}
		op, err = s.insertInvitationOperation(ctx, tx, inv, "Delete invitation", &identityv1.DeleteInvitationMetadata{InvitationId: inv.ID}, new(emptypb.Empty))
		if err != nil {
			return op, err
		}
		return op, s.recordInvitation(ctx, tx, inv, "DeleteInvitation", audit.Done, permUninvite, map[string]any{"operation_id": op.ID})
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// lockPending locks an invitation that can be answered. Fails: INVITATION_NOT_FOUND,
// INVITATION_NOT_PENDING.
func (s *Service) lockPending(ctx context.Context, tx *sql.Tx, invitationID string) (Invitation, error) {
	inv, err := s.store.LockInvitation(ctx, tx, invitationID)
	if err != nil {
		return Invitation{}, err
	}
	if inv = inv.at(s.now()); inv.State != Pending {
		return Invitation{}, errInvitationNotPending(inv)
	}
	return inv, nil
}

// invitesOf is what an organization uses of quotaInvites.
func (s *Service) invitesOf(ctx context.Context, organizationID string) (int64, error) {
	return s.store.CountPending(ctx, s.store.db, organizationID, s.now())
}

// letGoInvitations removes the invitations of organizations that are gone.
func (s *Service) letGoInvitations(ctx context.Context, tx *sql.Tx, organizationIDs []string) error {
	for _, organizationID := range organizationIDs {
		if err := s.store.DeleteInvitationsOf(ctx, tx, organizationID); err != nil {
			return err
		}
	}
	return nil
}
