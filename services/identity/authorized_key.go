package identity

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"database/sql"
	"encoding/pem"
	"fmt"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/authz"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/operation"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// maxOwnKeys is how many authorized keys one user has at most: no quota of a cloud
// counts them.
const maxOwnKeys = 100

const viewAuthorizedKeys = "iam.authorizedKeys.get"

// bits of the algorithms (SK-3).
var bits = map[iamv1.Key_Algorithm]int{iamv1.Key_RSA_2048: 2048, iamv1.Key_RSA_4096: 4096}

// authorizedKeys is yandex.cloud.iam.v1.KeyService.
type authorizedKeys struct {
	iamv1.UnimplementedKeyServiceServer
	*Service
}

// isUser reports whether an id is that of a user account.
func isUser(accountID string) bool {
	return id.Prefix(accountID) == id.User || id.Prefix(accountID) == id.FederatedUser
}

// keyHolder resolves the account that a request about keys names.
func keyHolder(_ context.Context, accountID string) (authz.Resource, error) {
	return holderOf(accountID).resource(), nil
}

// authorizedKey resolves a key to its account (SK-2).
func (s *Service) authorizedKey(ctx context.Context, keyID string) (authz.Resource, error) {
	k, err := s.store.AuthorizedKey(ctx, s.store.db, keyID)
	return k.Holder.resource(), err
}

// holder is the account of a request: the caller when none is named (SK-5).
func holder(ctx context.Context, accountID string) Holder {
	if accountID == "" {
		accountID = authn.FromContext(ctx).ID
	}
	return holderOf(accountID)
}

// pemOnly refuses a format that is none.
func pemOnly(f iamv1.KeyFormat) error {
	if f != iamv1.KeyFormat_PEM_FILE {
		return apierr.InvalidField("format", "%d is not a value of the field", f)
	}
	return nil
}

// Get reads a key. Fails: AUTHORIZED_KEY_NOT_FOUND.
func (s *authorizedKeys) Get(ctx context.Context, req *iamv1.GetKeyRequest) (*iamv1.Key, error) {
	if err := pemOnly(req.GetFormat()); err != nil {
		return nil, err
	}
	k, err := s.store.AuthorizedKey(ctx, s.store.db, req.GetKeyId())
	if err != nil {
		return nil, err
	}
	return k.message(), nil
}

// List reads one page of the keys of an account, oldest first (NM-7). Whoever may
// list them sees all.
func (s *authorizedKeys) List(ctx context.Context, req *iamv1.ListKeysRequest) (*iamv1.ListKeysResponse, error) {
	if err := pemOnly(req.GetFormat()); err != nil {
		return nil, err
	}
	h := holder(ctx, req.GetServiceAccountId())
	scope := []string{"authorized keys", h.ID()}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	keys, err := s.store.AuthorizedKeys(ctx, h, after, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(iamv1.ListKeysResponse)
	fit := page.Fit(min(len(keys), size), func(i int) int { return proto.Size(keys[i].message()) })
	for _, k := range keys[:fit] {
		resp.Keys = append(resp.Keys, k.message())
	}
	if fit < len(keys) {
		resp.NextPageToken, err = s.pages.Seal(keys[fit-1].position(), scope...)
	}
	return resp, err
}

// Create makes a key pair, keeps its public part and shows the private one, this
// once (SK-3). With an idempotency key the same pair is the answer again. Fails:
// SERVICE_ACCOUNT_NOT_FOUND, QUOTA_EXCEEDED (iam.authorizedKeys.count of the cloud;
// maxOwnKeys of a user), OVERLOADED.
func (s *authorizedKeys) Create(ctx context.Context, req *iamv1.CreateKeyRequest) (*iamv1.CreateKeyResponse, error) {
	if err := pemOnly(req.GetFormat()); err != nil {
		return nil, err
	}
	algorithm := req.GetKeyAlgorithm()
	if algorithm == iamv1.Key_ALGORITHM_UNSPECIFIED {
		algorithm = iamv1.Key_RSA_2048
	}
	size, known := bits[algorithm]
	if !known {
		return nil, apierr.InvalidField("key_algorithm", "%d is not a value of the field", algorithm)
	}
	resp := new(iamv1.CreateKeyResponse)
	if again, err := s.once.Answered(ctx, resp); again || err != nil { // before a second of work
		return resp, err
	}
	h := holder(ctx, req.GetServiceAccountId())
	room, err := s.roomForKeys(ctx, h)
	if err != nil {
		return nil, err
	}
	path, err := s.pathTo(ctx, h.resource())
	if err != nil {
		return nil, err
	}
	private, err := s.keyMaker.key(ctx, size)
	if err != nil {
		return nil, err
	}
	k := AuthorizedKey{ID: id.New(id.AuthorizedKey), Holder: h, Algorithm: algorithm, Description: req.GetDescription(), CreatedAt: s.now()}
	secret, err := k.take(private)
	if err != nil {
		return nil, err
	}
	err = sqldb.InTx(ctx, s.store.db, func(ctx context.Context, tx *sql.Tx) error {
		_, err := s.once.Answer(ctx, tx, resp, func() error {
			if err := room(ctx, tx); err != nil {
				return err
			}
			if err := s.store.InsertAuthorizedKey(ctx, tx, k); err != nil {
				return err
			}
			resp.Key, resp.PrivateKey = k.message(), secret
			return s.recordKey(ctx, tx, "CreateKey", k, path, "iam.authorizedKeys.create")
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// take keeps the public part of a key pair and returns the private one as it is
// shown.
func (k *AuthorizedKey) take(private *rsa.PrivateKey) (secret string, err error) {
	if k.Public, err = x509.MarshalPKIXPublicKey(&private.PublicKey); err != nil {
		return "", fmt.Errorf("encode public key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", fmt.Errorf("encode private key: %w", err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), nil
}

// roomForKeys asks for the limit of an account's keys; what it returns locks what is
// counted, judges it, and is run in the transaction that adds a key.
func (s *Service) roomForKeys(ctx context.Context, h Holder) (func(context.Context, *sql.Tx) error, error) {
	if h.UserID != "" {
		return func(ctx context.Context, tx *sql.Tx) error {
			if err := sqldb.Lock(ctx, s.store.db, tx, "authorized keys of "+h.UserID); err != nil {
				return err
			}
			n, err := s.store.CountOwnAuthorizedKeys(ctx, tx, h.UserID)
			if err != nil {
				return err
			}
			return quota.Exceeded("bindery.authorizedKeysOfUser.count", quota.Subject(h.UserID), maxOwnKeys, n, 1)
		}, nil
	}
	a, err := s.store.ServiceAccount(ctx, s.store.db, h.AccountID)
	if err != nil {
		return nil, err
	}
	on := quota.Resource{Type: "resource-manager.cloud", ID: a.CloudID}
	limit, err := s.limits.Limit(ctx, catalog.QuotaAuthorizedKeys, on)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, tx *sql.Tx) error {
		if err := sqldb.Lock(ctx, s.store.db, tx, "authorized keys of "+a.CloudID); err != nil {
			return err
		}
		if a, err := s.store.LockAccount(ctx, tx, a.ID); err != nil {
			return err
		} else if a.State == Deleting || a.State == Creating {
			return errAccountNotFound(a.ID)
		}
		n, err := s.store.CountAuthorizedKeys(ctx, tx, a.CloudID)
		if err != nil {
			return err
		}
		return quota.Exceeded(catalog.QuotaAuthorizedKeys, on, limit, n, 1)
	}, nil
}

// authorizedKeysIn counts what a cloud uses of its quota.
func (s *Service) authorizedKeysIn(ctx context.Context, cloudID string) (int64, error) {
	return s.store.CountAuthorizedKeys(ctx, s.store.db, cloudID)
}

// Update changes the description of a key, the only field that can be. Fails:
// AUTHORIZED_KEY_NOT_FOUND.
func (s *authorizedKeys) Update(ctx context.Context, req *iamv1.UpdateKeyRequest) (*operationpb.Operation, error) {
	named := len(req.GetUpdateMask().GetPaths()) == 0
	for _, path := range req.GetUpdateMask().GetPaths() {
		switch path {
		case "description":
			named = true
		case "key_id": // some clients name it, and it says nothing
		default:
			return nil, apierr.InvalidField("update_mask", "%q is not a field that can be changed", path)
		}
	}
	return s.changeKey(ctx, req.GetKeyId(), change{event: "UpdateKey", says: "Update key", permission: "iam.authorizedKeys.update"},
		func(ctx context.Context, tx *sql.Tx, k AuthorizedKey) (metadata, response proto.Message, err error) {
			if named {
				k.Description = req.GetDescription()
				err = s.store.DescribeAuthorizedKey(ctx, tx, k.ID, k.Description)
			}
			return &iamv1.UpdateKeyMetadata{KeyId: k.ID}, k.message(), err
		})
}

// Delete removes a key for good: what it signs proves nobody any more. Fails:
// AUTHORIZED_KEY_NOT_FOUND.
func (s *authorizedKeys) Delete(ctx context.Context, req *iamv1.DeleteKeyRequest) (*operationpb.Operation, error) {
	return s.changeKey(ctx, req.GetKeyId(), change{event: "DeleteKey", says: "Delete key", permission: "iam.authorizedKeys.delete"},
		func(ctx context.Context, tx *sql.Tx, k AuthorizedKey) (metadata, response proto.Message, err error) {
			return &iamv1.DeleteKeyMetadata{KeyId: k.ID}, &emptypb.Empty{}, s.store.DeleteAuthorizedKey(ctx, tx, k.ID)
		})
}

// change is what is said of a write.
type change struct{ event, says, permission string }

// changeKey makes one write on a locked key, which is done at once.
func (s *authorizedKeys) changeKey(ctx context.Context, keyID string, c change,
	write func(context.Context, *sql.Tx, AuthorizedKey) (metadata, response proto.Message, err error),
) (*operationpb.Operation, error) {
	on, err := s.authorizedKey(ctx, keyID)
	if err != nil {
		return nil, err
	}
	path, err := s.pathTo(ctx, on)
	if err != nil {
		return nil, err
	}
	op, _, err := s.write(ctx, func(ctx context.Context, tx *sql.Tx) (op operation.Operation, err error) {
		k, err := s.store.LockAuthorizedKey(ctx, tx, keyID)
		if err != nil {
			return op, err
		}
		metadata, response, err := write(ctx, tx, k)
		if err != nil {
			return op, err
		}
		op, err = s.operations.Insert(ctx, tx, operation.New{
			Resource: k.resource(), ViewOn: on, ViewPermission: viewAuthorizedKeys, Description: c.says,
			CreatedBy: authn.FromContext(ctx).ID, Metadata: metadata, Response: response,
		})
		if err != nil {
			return op, err
		}
		return op, s.recordKey(ctx, tx, c.event, k, path, c.permission)
	})
	if err != nil {
		return nil, err
	}
	return op.Answer()
}

// recordKey writes the audit record of a change to a key (AU-2).
func (s *Service) recordKey(ctx context.Context, tx *sql.Tx, name string, k AuthorizedKey, path []audit.Resource, permission string) error {
	return s.recordEvent(ctx, tx, event{
		name: name, path: append(path, audit.Resource{Type: typeAuthorizedKey, ID: k.ID}), permission: permission, on: k.Holder.resource(),
		details: map[string]any{"key_id": k.ID, "key_algorithm": k.Algorithm.String(), "subject_id": k.Holder.ID()},
	})
}

// ListOperations reads one page of the operations on a key, newest first.
func (s *authorizedKeys) ListOperations(ctx context.Context, req *iamv1.ListKeyOperationsRequest) (*iamv1.ListKeyOperationsResponse, error) {
	ops, next, err := s.operationsOn(ctx, authz.Resource{Type: typeAuthorizedKey, ID: req.GetKeyId()}, req)
	if err != nil {
		return nil, err
	}
	return &iamv1.ListKeyOperationsResponse{Operations: ops, NextPageToken: next}, nil
}

// operationsOn reads one page of the operations of this unit on a resource.
func (s *Service) operationsOn(ctx context.Context, on authz.Resource, req interface {
	GetPageSize() int64
	GetPageToken() string
},
) ([]*operationpb.Operation, string, error) {
	scope := []string{"operations", on.Type, on.ID}
	after, err := s.pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, "", err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.operations.List(ctx, on, after, size+1)
	if err != nil {
		return nil, "", err
	}
	fit := page.Fit(min(len(found), size), func(i int) int { return proto.Size(found[i].Proto()) })
	var ops []*operationpb.Operation
	for _, op := range found[:fit] {
		ops = append(ops, op.Proto())
	}
	if fit == len(found) {
		return ops, "", nil
	}
	next, err := s.pages.Seal(found[fit-1].Position(), scope...)
	return ops, next, err
}

// message is a key as it is shown.
func (k AuthorizedKey) message() *iamv1.Key {
	m := &iamv1.Key{
		Id: k.ID, CreatedAt: timestamppb.New(k.CreatedAt), Description: k.Description, KeyAlgorithm: k.Algorithm,
		PublicKey: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: k.Public})),
	}
	if k.Holder.UserID != "" {
		m.Subject = &iamv1.Key_UserAccountId{UserAccountId: k.Holder.UserID}
	} else {
		m.Subject = &iamv1.Key_ServiceAccountId{ServiceAccountId: k.Holder.AccountID}
	}
	if !k.LastUsedAt.IsZero() {
		m.LastUsedAt = timestamppb.New(k.LastUsedAt)
	}
	return m
}
