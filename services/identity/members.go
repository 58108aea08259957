package identity

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/jobs"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	oauthpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/oauth"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// Permissions that guard what is known about people, on their organization.
const (
	permMembers    = "organization-manager.users.list"
	permAttributes = "organization-manager.users.getAttributes"
	permPhone      = "organization-manager.users.getPhone"
	permGroupsOf   = "organization-manager.users.listGroups"
	permExpel      = "organization-manager.users.delete"
)

// members is yandex.cloud.organizationmanager.v1.UserService.
type members struct {
	orgv1.UnsafeUserServiceServer // a missing method does not compile
	*Service
}

// ListMembers reads one page of the members of an organization, in the order in
// which they joined. Fails: ORGANIZATION_NOT_FOUND.
func (s *members) ListMembers(ctx context.Context, req *orgv1.ListMembersRequest) (*orgv1.ListMembersResponse, error) {
	seen, err := s.sightOf(ctx, req.GetOrganizationId())
	if err != nil {
		return nil, err
	}
	page := &accessv1.ListMembersRequest{
		Container: &accessv1.Resource{Type: typeOrganization, Id: req.GetOrganizationId()},
		PageSize:  req.GetPageSize(), PageToken: req.GetPageToken(),
	}
	for {
		found, err := s.subjects.ListMembers(server.AsUnit(ctx), page)
		if err != nil {
			return nil, fmt.Errorf("list members: %w", apierr.FromRPC(err))
		}
		known, err := s.describe(ctx, found.GetMembers())
		if err != nil {
			return nil, err
		}
		resp := &orgv1.ListMembersResponse{NextPageToken: found.GetNextPageToken()}
		for _, p := range known {
			resp.Users = append(resp.Users, &orgv1.ListMembersResponse_OrganizationUser{SubjectClaims: p.claims(seen)})
		}
		if len(resp.GetUsers()) > 0 || resp.GetNextPageToken() == "" {
			return resp, nil
		}
		page.PageToken = resp.GetNextPageToken() // nobody of this page is there any more
	}
}

// sight is what somebody may see of the people of an organization, who may list them.
type sight struct {
	attributes bool // names, addresses, when they were here
	phone      bool
	groups     bool

	invitations bool // who is invited
}

// sightOf asks what the caller may see in an organization.
func (s *Service) sightOf(ctx context.Context, organizationID string) (sight, error) {
	var seen sight
	p, on := authn.FromContext(ctx), authz.Resource{Type: typeOrganization, ID: organizationID}
	for _, ask := range []struct {
		permission string
		answer     *bool
	}{{permAttributes, &seen.attributes}, {permPhone, &seen.phone}, {permGroupsOf, &seen.groups}, {permInvitations, &seen.invitations}} {
		err := s.decider.Authorize(ctx, p, ask.permission, on)
		if err != nil && apierr.CodeOf(err) != codes.PermissionDenied {
			return sight{}, err
		}
		*ask.answer = err == nil
	}
	return seen, nil
}

// known is a user or a service account, exactly one.
type known struct {
	user       *User
	federation string // what that of the user is called
	account    *ServiceAccount
}

// describe reads what is known about subjects, in their order. Those that are not
// there are left out.
func (s *Service) describe(ctx context.Context, subjects []*accessv1.Subject) ([]known, error) {
	var userIDs []string
	for _, m := range subjects {
		if m.GetType() == authn.UserAccount || m.GetType() == authn.FederatedUser {
			userIDs = append(userIDs, m.GetId())
		}
	}
	users, err := s.store.Users(ctx, s.store.db, userIDs)
	if err != nil {
		return nil, err
	}
	byID := make(map[string]*User, len(users))
	var federationIDs []string
	for i := range users {
		if users[i].exists() {
			byID[users[i].ID] = &users[i]
			if from := users[i].FederationID; from != "" && !slices.Contains(federationIDs, from) {
				federationIDs = append(federationIDs, from)
			}
		}
	}
	federations, err := s.store.FederationNames(ctx, s.store.db, federationIDs)
	if err != nil {
		return nil, err
	}
	var all []known
	for _, m := range subjects {
		if u := byID[m.GetId()]; u != nil {
			all = append(all, known{user: u, federation: federations[u.FederationID]})
		} else if m.GetType() == authn.ServiceAccount {
			a, err := s.store.ServiceAccount(ctx, s.store.db, m.GetId())
			if apierr.CodeOf(err) == codes.NotFound {
				continue
			}
			if err != nil {
				return nil, err
			}
			all = append(all, known{account: &a})
		}
	}
	return all, nil
}

// claims is what somebody is shown of a member.
func (k known) claims(seen sight) *oauthpb.SubjectClaims {
	if k.account != nil {
		return &oauthpb.SubjectClaims{
			Sub: k.account.ID, Name: k.account.Name, PreferredUsername: k.account.Name, SubType: oauthpb.SubjectType_SERVICE_ACCOUNT,
		}
	}
	u := k.user
	c := &oauthpb.SubjectClaims{Sub: u.ID, PreferredUsername: u.Login, SubType: oauthpb.SubjectType_USER_ACCOUNT}
	if u.FederationID != "" {
		c.Federation = &oauthpb.Federation{Id: u.FederationID, Name: k.federation}
	}
	if seen.attributes {
		c.Email, c.GivenName, c.FamilyName, c.Name = u.Email, u.GivenName, u.FamilyName, u.fullName()
		if !u.LastAuthenticatedAt.IsZero() {
			c.LastAuthenticatedAt = timestamppb.New(u.LastAuthenticatedAt)
		}
	}
	if seen.phone {
		c.PhoneNumber = u.Phone
	}
	return c
}

// jobLeave is the kind of the job that ends a membership.
const jobLeave = "leave-organization"

// leaving is its payload.
type leaving struct {
	Operation    string `json:"operation"`
	Organization string `json:"organization"`
	SubjectType  string `json:"subject_type"`
	Subject      string `json:"subject"`
}

// DeleteMembership takes a subject, the caller when none is named, out of an
// organization with all its groups and roles there (GR-6). Fails:
// MEMBERSHIP_NOT_FOUND, LAST_OWNER (OW-3).
func (s *members) DeleteMembership(ctx context.Context, req *orgv1.DeleteMembershipRequest) (*operationpb.Operation, error) {
	p := authn.FromContext(ctx)
	job := leaving{Organization: req.GetOrganizationId(), Subject: req.GetSubjectId()}
	if job.Subject == "" {
		job.Subject = p.ID
	}
	var err error
	if job.SubjectType, err = s.typeOf(ctx, job.Subject); err != nil {
		return nil, err
	}
	refusal := s.mustBeMember(ctx, job) // asked before the transaction, and no news to a replay
	var ticket jobs.Ticket
	op, again, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		if refusal != nil {
			return op, refusal
		}
		if op, err = s.operations.Insert(ctx, tx, operation.New{
			Resource:       authz.Resource{Type: typeOrganization, ID: job.Organization},
			ViewPermission: permMembers, Description: "Delete membership", CreatedBy: p.ID,
			Metadata: &orgv1.DeleteMembershipMetadata{OrganizationId: job.Organization, SubjectId: job.Subject},
		}); err != nil {
			return op, err
		}
		job.Operation = op.ID
		permission := permExpel
		if job.Subject == p.ID {
			permission = "" // everybody may leave
		}
		if err := s.recordLeaving(ctx, tx, job, audit.Started, permission, nil); err != nil {
			return op, err
		}
		ticket, err = s.jobs.Enqueue(ctx, tx, jobs.Job{Kind: jobLeave, Payload: job})
		return op, err
	})
	if err != nil {
		return nil, err
	}
	if again {
		return op.Answer()
	}
	return s.finish(ctx, op, ticket)
}

// typeOf is the type of a subject by its id. One that was never here is a member of
// nothing: MEMBERSHIP_NOT_FOUND.
func (s *Service) typeOf(ctx context.Context, subjectID string) (string, error) {
	_, err := s.store.ServiceAccount(ctx, s.store.db, subjectID)
	switch {
	case err == nil:
		return authn.ServiceAccount, nil
	case apierr.CodeOf(err) != codes.NotFound:
		return "", err
	}
	_, err = s.store.User(ctx, s.store.db, subjectID)
	if errors.Is(err, errUserNotFound) {
		err = errMembershipNotFound
	}
	return subjectTypeOf(subjectID), err
}

func (s *Service) mustBeMember(ctx context.Context, job leaving) error {
	organizations, err := s.organizationsOf(ctx, job.SubjectType, job.Subject)
	if err == nil && !organizations[job.Organization] {
		err = errMembershipNotFound
	}
	return err
}

// leave is the job that ends a membership.
func (s *Service) leave(ctx context.Context, job leaving) error {
	_, err := s.subjects.RemoveMembership(server.AsUnit(ctx), &accessv1.RemoveMembershipRequest{
		OrganizationId: job.Organization, Subject: &accessv1.Subject{Type: job.SubjectType, Id: job.Subject},
	})
	cause := apierr.FromRPC(err)
	if cause != nil && !final(cause) {
		return fmt.Errorf("remove member: %w", cause)
	}
	if cause == nil && job.SubjectType == authn.FederatedUser {
		if err := s.endFederatedUser(ctx, job.Subject); err != nil {
			return err
		}
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		op, err := s.operations.GetIn(ctx, tx, job.Operation)
		if err != nil || op.Done {
			return err
		}
		if cause != nil {
			if err := s.recordLeaving(ctx, tx, job, audit.Failed, "", map[string]any{"reason": apierr.ReasonOf(cause)}); err != nil {
				return err
			}
			return s.operations.Fail(ctx, tx, job.Operation, nil, cause)
		}
		for _, depart := range s.departures {
			if err := depart(ctx, tx, job.Organization, job.Subject); err != nil {
				return err
			}
		}
		if err := s.recordLeaving(ctx, tx, job, audit.Done, "", nil); err != nil {
			return err
		}
		return s.operations.Finish(ctx, tx, job.Operation, nil, &orgv1.DeleteMembershipResponse{
			OrganizationId: job.Organization, SubjectId: job.Subject,
		})
	})
}

// endFederatedUser deletes a user of a federation who has left the organization, and so
// has nowhere to be any more.
func (s *Service) endFederatedUser(ctx context.Context, userID string) error {
	if err := s.tellState(ctx, userID, accessv1.SetSubjectRequest_DELETED); err != nil {
		return err
	}
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error { return s.dropUser(ctx, tx, userID) })
}

// dropUser removes a user with all that is kept of it here; one that is not there changes
// nothing.
func (s *Service) dropUser(ctx context.Context, tx *sql.Tx, userID string) error {
	for _, also := range s.deletions {
		if err := also(ctx, tx, userID); err != nil {
			return err
		}
	}
	return s.store.DeleteUser(ctx, tx, userID)
}

func (s *Service) recordLeaving(ctx context.Context, tx *sql.Tx, job leaving, status audit.Status, permission string, details map[string]any) error {
	if details == nil {
		details = make(map[string]any)
	}
	details["operation_id"] = job.Operation
	return s.recordOrganization(ctx, tx, organizationEvent{
		name: "DeleteMembership", status: status, permission: permission, details: details,
		organization: audit.Resource{Type: typeOrganization, ID: job.Organization},
		below:        []audit.Resource{{Type: "iam." + job.SubjectType, ID: job.Subject}},
	})
}
