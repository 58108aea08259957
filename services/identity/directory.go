package identity

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/email"
	"github.com/bindery-iam/bindery/pkg/id"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iampb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam"
)

// directory is bindery.identity.v1.DirectoryService.
type directory struct {
	identityv1.UnsafeDirectoryServiceServer // a missing method does not compile
	*Service
}

// BatchGetSubjects describes those of the named users and service accounts that are
// known. Groups are known to accessbindings.
func (s *directory) BatchGetSubjects(ctx context.Context, req *identityv1.BatchGetSubjectsRequest) (*identityv1.BatchGetSubjectsResponse, error) {
	ids := slices.DeleteFunc(slices.Clone(req.GetIds()), func(subjectID string) bool {
		return id.Prefix(subjectID) != id.User && id.Prefix(subjectID) != id.FederatedUser && id.Prefix(subjectID) != id.ServiceAccount
	})
	found, err := s.entities(ctx, ids)
	if err != nil {
		return nil, err
	}
	resp := new(identityv1.BatchGetSubjectsResponse)
	for _, subjectID := range slices.Sorted(maps.Keys(found)) {
		resp.Subjects = append(resp.Subjects, found[subjectID].entry(s.now()))
	}
	return resp, nil
}

// entry is a user or a service account as the directory describes it.
func (e entity) entry(now time.Time) *identityv1.SubjectEntry {
	state := identityv1.SubjectEntry_ACTIVE
	if e.status(now) == iampb.SubjectStatus_SUSPENDED {
		state = identityv1.SubjectEntry_SUSPENDED
	}
	if e.account != nil {
		return &identityv1.SubjectEntry{Type: authn.ServiceAccount, Id: e.account.ID, Name: e.account.Name, State: state}
	}
	return &identityv1.SubjectEntry{Type: subjectTypeOf(e.user.ID), Id: e.user.ID, Name: e.user.Login, Email: e.user.Email, State: state}
}

// FindUsers finds the users of mail addresses who can act.
func (s *directory) FindUsers(ctx context.Context, req *identityv1.FindUsersRequest) (*identityv1.FindUsersResponse, error) {
	resp := new(identityv1.FindUsersResponse)
	if len(req.GetEmails()) == 0 {
		return resp, nil
	}
	folded := make([]string, len(req.GetEmails()))
	for i, address := range req.GetEmails() {
		folded[i] = email.Fold(address)
	}
	users, err := s.store.UsersByEmail(ctx, s.store.db, folded)
	if err != nil {
		return nil, err
	}
	for _, u := range users {
		resp.Users = append(resp.Users, &identityv1.SubjectEntry{
			Type: authn.UserAccount, Id: u.ID, Name: u.Login, Email: u.Email, State: identityv1.SubjectEntry_ACTIVE,
		})
	}
	return resp, nil
}
