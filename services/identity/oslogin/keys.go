package oslogin

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/writes"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// maxKeys is how many keys a subject has in one organization at most: no quota of the
// catalogue counts them.
const maxKeys = 100

// Key is a public SSH key of a subject in an organization.
type Key struct {
	ID             string
	OrganizationID string
	SubjectID      string
	Name           string
	Data           string // a line of an authorized_keys file
	Fingerprint    string
	CreatedAt      time.Time
	ExpiresAt      time.Time // zero for never
}

func (k Key) proto() *orgv1.UserSshKey {
	m := &orgv1.UserSshKey{
		Id: k.ID, SubjectId: k.SubjectID, Data: k.Data, Name: k.Name, Fingerprint: k.Fingerprint, OrganizationId: k.OrganizationID,
		CreatedAt: timestamppb.New(k.CreatedAt),
	}
	if !k.ExpiresAt.IsZero() {
		m.ExpiresAt = timestamppb.New(k.ExpiresAt)
	}
	return m
}

func (k Key) position() page.Position {
	return page.Position{Time: sqldb.Micros(k.CreatedAt), ID: k.ID}
}

// keys is yandex.cloud.organizationmanager.v1.UserSshKeyService.
type keys struct {
	orgv1.UnsafeUserSshKeyServiceServer // a missing method does not compile
	*Service
}

// Get reads a key; one that has ended stays until it is deleted. Fails:
// USER_SSH_KEY_NOT_FOUND.
func (s *keys) Get(ctx context.Context, req *orgv1.GetUserSshKeyRequest) (*orgv1.UserSshKey, error) {
	k, err := s.store.key(ctx, s.Writes.DB, req.GetUserSshKeyId(), "")
	if err != nil {
		return nil, err
	}
	return k.proto(), nil
}

// List reads one page of the keys of an organization or of one subject there, oldest
// first (NM-7). Who may not see those of others is shown its own.
func (s *keys) List(ctx context.Context, req *orgv1.ListUserSshKeysRequest) (*orgv1.ListUserSshKeysResponse, error) {
	subjectID := req.GetSubjectId()
	if denied := authz.Withheld(ctx); denied != nil {
		self := authn.FromContext(ctx).ID
		if subjectID != "" && subjectID != self || apierr.CodeOf(s.Belongs(ctx, req.GetOrganizationId(), self)) == codes.NotFound {
			return nil, denied
		}
		subjectID = self
	}
	scope := []string{"SSH keys", req.GetOrganizationId(), subjectID}
	after, err := s.Pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.store.keys(ctx, req.GetOrganizationId(), subjectID, after, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(orgv1.ListUserSshKeysResponse)
	for _, k := range found {
		resp.SshKeys = append(resp.SshKeys, k.proto())
	}
	fit := page.Fit(min(len(found), size), func(i int) int { return proto.Size(resp.GetSshKeys()[i]) })
	if fit == len(found) {
		return resp, nil
	}
	resp.SshKeys = resp.GetSshKeys()[:fit]
	resp.NextPageToken, err = s.Pages.Seal(found[fit-1].position(), scope...)
	return resp, err
}

// Create adds a key of a member. Fails: MEMBERSHIP_NOT_FOUND, USER_SSH_KEY_EXISTS,
// OWN_SSH_KEYS_NOT_ALLOWED, QUOTA_EXCEEDED.
func (s *keys) Create(ctx context.Context, req *orgv1.CreateUserSshKeyRequest) (*operationpb.Operation, error) {
	parsed, err := parseKey("data", req.GetData())
	if err != nil {
		return nil, err
	}
	end, err := s.end(req.GetExpiresAt())
	if err != nil {
		return nil, err
	}
	k := Key{
		ID: id.New(id.UserSSHKey), OrganizationID: req.GetOrganizationId(), SubjectID: req.GetSubjectId(), Name: req.GetName(),
		Data: strings.TrimSpace(req.GetData()), Fingerprint: parsed.fingerprint, CreatedAt: s.Now(), ExpiresAt: end,
	}
	if k.Name == "" {
		k.Name = parsed.name
	}
	refusal := s.mayManage(ctx, k)
	if refusal == nil {
		refusal = s.Belongs(ctx, k.OrganizationID, k.SubjectID)
	}
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		if refusal != nil {
			return w, refusal
		}
		if err := sqldb.Lock(ctx, s.Writes.DB, tx, "SSH keys of "+k.SubjectID); err != nil {
			return w, err
		}
		n, err := s.store.countKeys(ctx, tx, k.OrganizationID, k.SubjectID)
		if err == nil {
			err = quota.Exceeded("bindery.userSshKeysOfMember.count", quota.Subject(k.SubjectID), maxKeys, n, 1)
		}
		if err == nil {
			err = s.store.insertKey(ctx, tx, k)
		}
		if err != nil {
			return w, err
		}
		return s.changed(ctx, tx, k, "Create", &orgv1.CreateUserSshKeyMetadata{UserSshKeyId: k.ID, OrganizationId: k.OrganizationID}, k.proto())
	})
}

// end reads the end in a request: later than now, zero for none.
func (s *Service) end(at *timestamppb.Timestamp) (time.Time, error) {
	if at == nil {
		return time.Time{}, nil
	}
	t := at.AsTime().Truncate(time.Microsecond)
	if !t.After(s.Now()) {
		return time.Time{}, errPastEnd
	}
	return t, nil
}

// mayManage refuses whoever changes its own keys without the permission, where the
// organization does not let members do so. The rules of the methods have let in who
// holds the permission, and whoever the keys are of.
func (s *Service) mayManage(ctx context.Context, k Key) error {
	p := authn.FromContext(ctx)
	if p.ID != k.SubjectID {
		return nil
	}
	err := s.Decider.Authorize(ctx, p, permManageKeys, organization(k.OrganizationID))
	if apierr.CodeOf(err) != codes.PermissionDenied {
		return err
	}
	t, err := s.store.settings(ctx, s.Writes.DB, k.OrganizationID)
	if err == nil && !t.OwnKeys {
		err = errOwnKeys(permManageKeys)
	}
	return err
}

// Update changes name or end; no end means never. Fails: USER_SSH_KEY_NOT_FOUND,
// OWN_SSH_KEYS_NOT_ALLOWED.
func (s *keys) Update(ctx context.Context, req *orgv1.UpdateUserSshKeyRequest) (*operationpb.Operation, error) {
	fields, err := masked(req.GetUpdateMask().GetPaths(), "user_ssh_key_id", "name", "expires_at")
	if err != nil {
		return nil, err
	}
	var end time.Time
	if fields["expires_at"] {
		if end, err = s.end(req.GetExpiresAt()); err != nil {
			return nil, err
		}
	}
	return s.change(ctx, req.GetUserSshKeyId(), func(ctx context.Context, tx *sql.Tx, k Key) (w writes.Made, err error) {
		if fields["name"] {
			k.Name = req.GetName()
		}
		if fields["expires_at"] {
			k.ExpiresAt = end
		}
		if err := s.store.updateKey(ctx, tx, k); err != nil {
			return w, err
		}
		return s.changed(ctx, tx, k, "Update", &orgv1.UpdateUserSshKeyMetadata{UserSshKeyId: k.ID}, k.proto())
	})
}

// Delete removes a key. Fails: USER_SSH_KEY_NOT_FOUND, OWN_SSH_KEYS_NOT_ALLOWED.
func (s *keys) Delete(ctx context.Context, req *orgv1.DeleteUserSshKeyRequest) (*operationpb.Operation, error) {
	return s.change(ctx, req.GetUserSshKeyId(), func(ctx context.Context, tx *sql.Tx, k Key) (w writes.Made, err error) {
		if err := s.store.drop(ctx, tx, "identity_user_ssh_keys", `id = $1`, k.ID); err != nil {
			return w, err
		}
		return s.changed(ctx, tx, k, "Delete", &orgv1.DeleteUserSshKeyMetadata{UserSshKeyId: k.ID}, new(emptypb.Empty))
	})
}

// change locks a key and changes it.
func (s *keys) change(ctx context.Context, keyID string, fn func(context.Context, *sql.Tx, Key) (writes.Made, error)) (*operationpb.Operation, error) {
	k, err := s.store.key(ctx, s.Writes.DB, keyID, "")
	if err != nil {
		return nil, err
	}
	if err := s.mayManage(ctx, k); err != nil {
		return nil, err
	}
	return s.Writes.Make(ctx, func(ctx context.Context, tx *sql.Tx) (w writes.Made, err error) {
		k, err := s.store.key(ctx, tx, keyID, s.Writes.DB.ForUpdate())
		if err != nil {
			return w, err
		}
		return fn(ctx, tx, k)
	})
}

// changed makes the operation and the record of a change of a key.
func (s *Service) changed(ctx context.Context, tx *sql.Tx, k Key, verb string, meta, response proto.Message) (writes.Made, error) {
	w, err := s.operation(ctx, tx, k.OrganizationID, permKeys, verb+" SSH key", meta, response)
	if err != nil {
		return w, err
	}
	return w, s.record(ctx, tx, verb+"UserSshKey", permManageKeys, k.OrganizationID,
		audit.Resource{Type: "organization-manager.userSshKey", ID: k.ID, Name: k.Name},
		map[string]any{"operation_id": w.Op.ID, "subject_id": k.SubjectID, "fingerprint": k.Fingerprint})
}
