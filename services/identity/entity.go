package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	iampb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam"
)

// entity is a subject of any kind that SubjectDetailsService names (SU-10): exactly
// one of its fields is set.
type entity struct {
	user    *User
	account *ServiceAccount
	group   *accessv1.BatchGetGroupsResponse_Group
	system  *systemGroup
	invitee *Invitation // pending
}

// systemGroup is a group that nobody is added to by hand (PG-1, PG-2, SU-7).
type systemGroup struct {
	id, name     string
	kind         iampb.GroupType
	organization string // "" for the whole platform
}

// publicGroups are those of the whole platform.
var publicGroups = []systemGroup{
	{id: "allAuthenticatedUsers", name: "All authenticated users", kind: iampb.GroupType_PUBLIC_ACCESS},
	{id: "allUsers", name: "All users", kind: iampb.GroupType_PUBLIC_ACCESS},
}

// Around the id of an organization they make the id of its system group (SU-3).
const (
	membersPrefix = "group:organization:"
	membersSuffix = ":users"
)

// systemGroups are all of one organization and of the platform.
func systemGroups(organizationID string) []systemGroup {
	return append([]systemGroup{{
		id: membersPrefix + organizationID + membersSuffix, name: "Members of the organization",
		kind: iampb.GroupType_META, organization: organizationID,
	}}, publicGroups...)
}

func (e entity) id() string {
	switch {
	case e.user != nil:
		return e.user.ID
	case e.account != nil:
		return e.account.ID
	case e.group != nil:
		return e.group.GetId()
	case e.system != nil:
		return e.system.id
	default:
		return e.invitee.ID
	}
}

func (e entity) kind() iampb.SubjectType {
	switch {
	case e.user != nil:
		return iampb.SubjectType_USER_ACCOUNT
	case e.account != nil:
		return iampb.SubjectType_SERVICE_ACCOUNT
	case e.invitee != nil:
		return iampb.SubjectType_INVITEE
	default:
		return iampb.SubjectType_GROUP
	}
}

// status is whether the subject may act; an invitee has none.
func (e entity) status(now time.Time) iampb.SubjectStatus {
	switch {
	case e.user != nil && !e.user.mayAct(), e.account != nil && !e.account.MayAct(now):
		return iampb.SubjectStatus_SUSPENDED
	case e.invitee != nil:
		return iampb.SubjectStatus_SUBJECT_STATUS_UNSPECIFIED
	default:
		return iampb.SubjectStatus_ACTIVE
	}
}

// name is what the subject is called, to somebody who sees so much.
func (e entity) name(seen sight) string {
	switch {
	case e.user != nil && seen.attributes && e.user.fullName() != "":
		return e.user.fullName()
	case e.user != nil:
		return e.user.Login
	case e.account != nil:
		return e.account.Name
	case e.group != nil:
		return e.group.GetName()
	case e.system != nil:
		return e.system.name
	case seen.attributes:
		return e.invitee.Email
	default:
		return ""
	}
}

// message is what somebody sees of the subject, but for its groups and the names of
// what it lies in.
func (e entity) message(seen sight, now time.Time) *iampb.Subject {
	msg := &iampb.Subject{Sub: e.id(), Type: e.kind(), Status: e.status(now), Name: e.name(seen)}
	switch {
	case e.user != nil:
		msg.CreatedAt = timestamppb.New(e.user.CreatedAt)
		msg.SubjectDetails = &iampb.Subject_UserAccount{UserAccount: e.user.account(seen)}
		if seen.attributes && !e.user.LastAuthenticatedAt.IsZero() {
			msg.LastAuthenticatedAt = timestamppb.New(e.user.LastAuthenticatedAt)
		}
	case e.account != nil:
		msg.CreatedAt = timestamppb.New(e.account.CreatedAt)
		msg.SubjectDetails = &iampb.Subject_ServiceAccount{ServiceAccount: &iampb.ServiceAccount{
			Cloud: &iampb.Cloud{Id: e.account.CloudID}, Folder: &iampb.Folder{Id: e.account.FolderID},
		}}
		if seen.attributes && !e.account.LastAuthenticatedAt.IsZero() {
			msg.LastAuthenticatedAt = timestamppb.New(e.account.LastAuthenticatedAt)
		}
	case e.invitee != nil:
		msg.CreatedAt = timestamppb.New(e.invitee.CreatedAt)
		invitee := new(iampb.Invitee)
		if seen.attributes {
			invitee.Email = e.invitee.Email
		}
		msg.SubjectDetails = &iampb.Subject_Invitee{Invitee: invitee}
	case e.group != nil:
		msg.SubjectDetails = &iampb.Subject_Group{Group: &iampb.Group{Id: msg.GetSub(), Name: msg.GetName(), Type: iampb.GroupType_EXPLICIT}}
	case e.system != nil:
		msg.SubjectDetails = &iampb.Subject_Group{Group: &iampb.Group{Id: msg.GetSub(), Name: msg.GetName(), Type: e.system.kind}}
	}
	return msg
}

func (u User) account(seen sight) *iampb.UserAccount {
	a := &iampb.UserAccount{
		PreferredUsername: u.Login, SubjectContainer: &iampb.SubjectContainer{ContainerType: iampb.ContainerType_PASSPORT},
	}
	if u.FederationID != "" {
		a.SubjectContainer = &iampb.SubjectContainer{Id: u.FederationID, ContainerType: iampb.ContainerType_SAML}
	}
	if seen.attributes {
		a.GivenName, a.FamilyName, a.Email, a.SuspendReason = u.GivenName, u.FamilyName, u.Email, u.SuspendReason
	}
	if seen.phone {
		a.PhoneNumber = u.Phone
	}
	return a
}

// entities reads those of the named subjects that are there, by id.
func (s *Service) entities(ctx context.Context, ids []string) (map[string]entity, error) {
	all := make(map[string]entity, len(ids))
	var userIDs, groupIDs []string
	for _, subjectID := range ids {
		switch id.Prefix(subjectID) {
		case id.User, id.FederatedUser:
			userIDs = append(userIDs, subjectID)
		case id.Group:
			groupIDs = append(groupIDs, subjectID)
		case id.ServiceAccount:
			a, err := s.store.ServiceAccount(ctx, s.store.db, subjectID)
			if err == nil && (a.State == Active || a.State == Suspended) {
				all[subjectID] = entity{account: &a}
			} else if err != nil && apierr.CodeOf(err) != codes.NotFound {
				return nil, err
			}
		case id.Invitation:
			inv, err := s.store.Invitation(ctx, s.store.db, subjectID)
			if err == nil && publicState[inv.at(s.now()).State] == publicState[Pending] {
				all[subjectID] = entity{invitee: &inv}
			} else if err != nil && !errors.Is(err, errInvitationNotFound) {
				return nil, err
			}
		default:
			if g := systemGroupOf(subjectID); g != nil {
				all[subjectID] = entity{system: g}
			}
		}
	}
	users, err := s.store.Users(ctx, s.store.db, userIDs)
	if err != nil {
		return nil, err
	}
	for i := range users {
		if users[i].exists() {
			all[users[i].ID] = entity{user: &users[i]}
		}
	}
	groups, err := s.groups(ctx, groupIDs)
	for _, g := range groups {
		all[g.GetId()] = entity{group: g}
	}
	return all, err
}

// systemGroupOf is the system group with an id; nil when there is none of that form.
func systemGroupOf(subjectID string) *systemGroup {
	organization, found := strings.CutPrefix(subjectID, membersPrefix)
	if organization, found2 := strings.CutSuffix(organization, membersSuffix); found && found2 && id.Prefix(organization) == id.Organization {
		return &systemGroups(organization)[0]
	}
	for i := range publicGroups {
		if publicGroups[i].id == subjectID {
			return &publicGroups[i]
		}
	}
	return nil
}

// groups reads those of the named groups that are there.
func (s *Service) groups(ctx context.Context, ids []string) ([]*accessv1.BatchGetGroupsResponse_Group, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	resp, err := s.subjects.BatchGetGroups(server.AsUnit(ctx), &accessv1.BatchGetGroupsRequest{Ids: ids})
	if err != nil {
		return nil, fmt.Errorf("read groups: %w", apierr.FromRPC(err))
	}
	return resp.GetGroups(), nil
}

// homes are the organizations that a subject belongs to; platform says that it
// belongs to all of them.
func (s *Service) homes(ctx context.Context, e entity) (organizations []string, platform bool, err error) {
	switch {
	case e.user != nil:
		all, err := s.organizationsOf(ctx, subjectTypeOf(e.user.ID), e.user.ID)
		for organizationID := range all {
			organizations = append(organizations, organizationID)
		}
		return organizations, false, err
	case e.account != nil:
		resp, err := s.tree.GetResourcePath(server.AsUnit(ctx), &accessv1.GetResourcePathRequest{
			Resource: &accessv1.Resource{Type: typeAccount, Id: e.account.ID},
		})
		if apierr.CodeOf(err) == codes.NotFound { // gone with its folder, and soon from here
			return nil, false, nil
		}
		if err != nil {
			return nil, false, fmt.Errorf("read path: %w", apierr.FromRPC(err))
		}
		path := resp.GetPath()
		return []string{path[len(path)-1].GetId()}, false, nil
	case e.group != nil:
		return []string{e.group.GetOrganizationId()}, false, nil
	case e.system != nil:
		return []string{e.system.organization}, e.system.organization == "", nil
	default:
		return []string{e.invitee.OrganizationID}, false, nil
	}
}
