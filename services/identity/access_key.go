package identity

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	awsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// Ids and secrets of access keys have the form that clients of the AWS protocols and
// scanners for leaked secrets know: a prefix, and random characters of base64url.
const (
	staticKeyPrefix    = "YCAJE"
	temporaryKeyPrefix = "YCAS"
	keyIDLen           = 25 // of which 120 bits at least are random
	keySecretPrefix    = "YC"
	keySecretLen       = 40 // with 228 random bits
	sessionTokenPrefix = "s1."
)

// defaultTemporary is how long a temporary key lives that asks for nothing.
const defaultTemporary = 12 * time.Hour

// AccessKey is a credential of a service account that signs requests.
type AccessKey struct {
	accountKey
	KeyID   string // names the key in what it signs
	Secret  []byte // sealed: verifying needs it
	Session string // what a temporary key is for; "" for a static one
}

// sealedAccessKeys are the secrets of access keys.
var sealedAccessKeys = secret.Column{Table: "identity_access_keys", ID: "id", Value: "secret", Kind: "access key"}

// randomText is a prefix and random characters of base64url, size in all.
func randomText(prefix string, size int) string {
	b := make([]byte, size)
	_, _ = rand.Read(b) // never fails: the runtime ends the process instead
	return prefix + base64.RawURLEncoding.EncodeToString(b)[:size-len(prefix)]
}

// seal makes a new secret of the key, to be shown once, and keeps it sealed.
func (k *AccessKey) seal(s *secret.Sealer) (shown string) {
	shown = randomText(keySecretPrefix, keySecretLen)
	k.Secret = s.Seal(sealedAccessKeys.Purpose(k.ID), []byte(shown))
	return shown
}

// resealAccessKeys seals by the key that seals now what an older one sealed.
func (s *Service) resealAccessKeys(ctx context.Context) error {
	return sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		return reseal(ctx, tx, s.sealer, sealedAccessKeys)
	})
}

// accessKeys is yandex.cloud.iam.v1.awscompatibility.AccessKeyService.
type accessKeys struct {
	awsv1.UnsafeAccessKeyServiceServer // a missing method does not compile
	*Service
}

// Get reads a key. Fails: ACCESS_KEY_NOT_FOUND.
func (s *accessKeys) Get(ctx context.Context, req *awsv1.GetAccessKeyRequest) (*awsv1.AccessKey, error) {
	k, err := s.store.AccessKey(ctx, s.store.db, req.GetAccessKeyId())
	if err != nil {
		return nil, err
	}
	return k.message(), nil
}

// List reads one page of the static keys of an account, oldest first (NM-7). Whoever
// may list them sees all.
func (s *accessKeys) List(ctx context.Context, req *awsv1.ListAccessKeysRequest) (*awsv1.ListAccessKeysResponse, error) {
	account := accountID(ctx, req.GetServiceAccountId())
	keys, next, err := listKeys(ctx, s.Service, &accessKeyKind, account, req, s.store.AccessKeys,
		func(k AccessKey) (proto.Message, page.Position) { return k.message(), k.position() })
	if err != nil {
		return nil, err
	}
	resp := &awsv1.ListAccessKeysResponse{NextPageToken: next}
	for _, k := range keys {
		resp.AccessKeys = append(resp.AccessKeys, k.message())
	}
	return resp, nil
}

// Create makes a key and shows its secret, this once. Fails:
// SERVICE_ACCOUNT_NOT_FOUND, QUOTA_EXCEEDED.
func (s *accessKeys) Create(ctx context.Context, req *awsv1.CreateAccessKeyRequest) (*awsv1.CreateAccessKeyResponse, error) {
	k := AccessKey{
		accountKey: accountKey{
			ID: id.New(id.AccessKey), AccountID: accountID(ctx, req.GetServiceAccountId()), Description: req.GetDescription(), CreatedAt: s.now(),
		},
		KeyID: randomText(staticKeyPrefix, keyIDLen),
	}
	shown := k.seal(s.sealer)
	resp := new(awsv1.CreateAccessKeyResponse)
	err := s.newKey(ctx, &accessKeyKind, event{
		name: "CreateAccessKey", permission: "iam.accessKeys.create",
		details: map[string]any{"access_key_id": k.ID, "key_id": k.KeyID, "service_account_id": k.AccountID},
	}, k.accountKey, resp, func(ctx context.Context, tx *sql.Tx) error {
		resp.AccessKey, resp.Secret = k.message(), shown
		return s.store.InsertAccessKey(ctx, tx, k)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// Update changes the description of a key, the only field that can be. Fails:
// ACCESS_KEY_NOT_FOUND.
func (s *accessKeys) Update(ctx context.Context, req *awsv1.UpdateAccessKeyRequest) (*operationpb.Operation, error) {
	fields, err := named(req.GetUpdateMask().GetPaths(), "access_key_id", "description")
	if err != nil {
		return nil, err
	}
	return s.changeKeyOf(ctx, &accessKeyKind, req.GetAccessKeyId(), "Update", func(ctx context.Context, tx *sql.Tx) (changed, map[string]any, error) {
		k, err := s.store.AccessKey(ctx, tx, req.GetAccessKeyId())
		if err != nil {
			return changed{}, nil, err
		}
		if fields["description"] {
			k.Description = req.GetDescription()
			err = s.store.DescribeAccessKey(ctx, tx, k.ID, k.Description)
		}
		return changed{&awsv1.UpdateAccessKeyMetadata{AccessKeyId: k.ID}, k.message()}, map[string]any{"access_key_id": k.ID, "key_id": k.KeyID}, err
	})
}

// Delete removes a key for good: what it signs is refused when the answer is there.
// Fails: ACCESS_KEY_NOT_FOUND.
func (s *accessKeys) Delete(ctx context.Context, req *awsv1.DeleteAccessKeyRequest) (*operationpb.Operation, error) {
	return s.changeKeyOf(ctx, &accessKeyKind, req.GetAccessKeyId(), "Delete", func(ctx context.Context, tx *sql.Tx) (changed, map[string]any, error) {
		return changed{&awsv1.DeleteAccessKeyMetadata{AccessKeyId: req.GetAccessKeyId()}, &emptypb.Empty{}},
			map[string]any{"access_key_id": req.GetAccessKeyId()}, s.store.deleteKey(ctx, tx, &accessKeyKind, req.GetAccessKeyId())
	})
}

// ListOperations reads one page of the operations on a key, newest first.
func (s *accessKeys) ListOperations(ctx context.Context, req *awsv1.ListAccessKeyOperationsRequest) (*awsv1.ListAccessKeyOperationsResponse, error) {
	ops, next, err := s.operationsOn(ctx, accessKeyKind.resource(req.GetAccessKeyId()), req)
	if err != nil {
		return nil, err
	}
	return &awsv1.ListAccessKeyOperationsResponse{Operations: ops, NextPageToken: next}, nil
}

// message is a key as it is shown, without its secret.
func (k AccessKey) message() *awsv1.AccessKey {
	return &awsv1.AccessKey{
		Id: k.ID, ServiceAccountId: k.AccountID, CreatedAt: timestamppb.New(k.CreatedAt), Description: k.Description,
		KeyId: k.KeyID, LastUsedAt: stamp(k.LastUsedAt),
	}
}

// temporaryKeys is yandex.cloud.iam.v1.awscompatibility.TemporaryAccessKeyService.
type temporaryKeys struct {
	awsv1.UnsafeTemporaryAccessKeyServiceServer // a missing method does not compile
	*Service
}

// temporaryKeyKind is an access key that no list shows and no quota counts: it ends
// by itself.
var temporaryKeyKind = keyKind{table: "identity_access_keys", typ: "iam.accessKey", name: "temporary access key"}

// CreateEphemeral makes an access key that ends by itself. What is asked of it cannot
// be narrowed here, so a policy is refused. The session token is for clients, which
// send it beside a signature: the check is not told it, and id and secret are as good
// as those of any other key. Fails: SERVICE_ACCOUNT_NOT_FOUND.
func (s *temporaryKeys) CreateEphemeral(ctx context.Context, req *awsv1.CreateEphemeralAccessKeyRequest) (*awsv1.CreateEphemeralAccessKeyResponse, error) {
	if req.GetPolicy() != "" {
		return nil, apierr.InvalidField("policy", "must be empty: a key cannot be narrowed by a policy here")
	}
	life := defaultTemporary
	if req.GetDuration() != nil {
		life = req.GetDuration().AsDuration()
	}
	now := s.now()
	k := AccessKey{
		accountKey: accountKey{
			ID: id.New(id.AccessKey), AccountID: accountID(ctx, req.GetSubjectId()), CreatedAt: now, ExpiresAt: now.Add(life).Truncate(time.Microsecond),
		},
		KeyID: randomText(temporaryKeyPrefix, keyIDLen), Session: req.GetSessionName(),
	}
	shown := k.seal(s.sealer)
	resp := new(awsv1.CreateEphemeralAccessKeyResponse)
	err := s.newKey(ctx, &temporaryKeyKind, event{
		name: "awscompatibility.CreateEphemeralAccessKey", permission: "iam.ephemeralAccessKeys.create",
		details: map[string]any{"access_key_id": k.ID, "key_id": k.KeyID, "service_account_id": k.AccountID, "session_name": k.Session},
	}, k.accountKey, resp, func(ctx context.Context, tx *sql.Tx) error {
		if err := s.store.SweepAccessKeys(ctx, tx, now); err != nil {
			return err
		}
		resp.AccessKeyId, resp.Secret, resp.ExpiresAt = k.KeyID, shown, timestamppb.New(k.ExpiresAt)
		resp.SessionToken = randomText(sessionTokenPrefix, len(sessionTokenPrefix)+43)
		return s.store.InsertAccessKey(ctx, tx, k)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
