package identity

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// The secret of an API key is a prefix, by which scanners for leaked secrets know
// it, and 256 random bits in base64url.
const (
	apiKeyPrefix = "AQVN"
	apiKeyLen    = len(apiKeyPrefix) + 43
	maskedEnd    = 6 // characters of the secret that are shown (SK-4)
)

// APIKey is a credential of a service account, restricted to scopes (SK-4).
type APIKey struct {
	accountKey
	Hash   []byte   // SHA-256 of the secret, which is random: a plain hash hides it
	Mask   string   // the end of the secret
	Scopes []string // of the catalogue, at least one
}

// newAPIKeySecret returns a secret, to be shown once.
func newAPIKeySecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	return apiKeyPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

func hashAPIKey(secret string) []byte {
	h := sha256.Sum256([]byte(secret))
	return h[:]
}

// apiKeys is yandex.cloud.iam.v1.ApiKeyService.
type apiKeys struct {
	iamv1.UnsafeApiKeyServiceServer // a missing method does not compile
	*Service
}

// Get reads a key. Fails: API_KEY_NOT_FOUND.
func (s *apiKeys) Get(ctx context.Context, req *iamv1.GetApiKeyRequest) (*iamv1.ApiKey, error) {
	k, err := s.store.APIKey(ctx, s.store.db, req.GetApiKeyId())
	if err != nil {
		return nil, err
	}
	return k.message(), nil
}

// List reads one page of the keys of an account, oldest first (NM-7). Whoever may
// list them sees all.
func (s *apiKeys) List(ctx context.Context, req *iamv1.ListApiKeysRequest) (*iamv1.ListApiKeysResponse, error) {
	account := accountID(ctx, req.GetServiceAccountId())
	keys, next, err := listKeys(ctx, s.Service, &apiKeyKind, account, req, s.store.APIKeys,
		func(k APIKey) (proto.Message, page.Position) { return k.message(), k.position() })
	if err != nil {
		return nil, err
	}
	resp := &iamv1.ListApiKeysResponse{NextPageToken: next}
	for _, k := range keys {
		resp.ApiKeys = append(resp.ApiKeys, k.message())
	}
	return resp, nil
}

// Create makes a key and shows its secret, this once (SK-4). Without scopes it has
// the one that holds everything, so that the answer is never without (clients.md
// B3). Fails: SERVICE_ACCOUNT_NOT_FOUND, QUOTA_EXCEEDED.
func (s *apiKeys) Create(ctx context.Context, req *iamv1.CreateApiKeyRequest) (*iamv1.CreateApiKeyResponse, error) {
	scopes, err := s.scopesOf(req)
	if err != nil {
		return nil, err
	}
	end, err := s.futureTime("expires_at", req.GetExpiresAt())
	if err != nil {
		return nil, err
	}
	secret := newAPIKeySecret()
	k := APIKey{
		accountKey: accountKey{
			ID: id.New(id.APIKey), AccountID: accountID(ctx, req.GetServiceAccountId()), Description: req.GetDescription(),
			CreatedAt: s.now(), ExpiresAt: end,
		},
		Hash: hashAPIKey(secret), Mask: secret[len(secret)-maskedEnd:], Scopes: scopes,
	}
	resp := new(iamv1.CreateApiKeyResponse)
	err = s.newKey(ctx, &apiKeyKind, event{
		name: "CreateApiKey", permission: "iam.apiKeys.create",
		details: map[string]any{"api_key_id": k.ID, "service_account_id": k.AccountID, "scopes": scopes},
	}, k.accountKey, resp, func(ctx context.Context, tx *sql.Tx) error {
		resp.ApiKey, resp.Secret = k.message(), secret
		return s.store.InsertAPIKey(ctx, tx, k)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// scopesOf are the scopes that a new key is to have: those named, the single one that
// older clients name, or the one that holds everything.
func (s *Service) scopesOf(req *iamv1.CreateApiKeyRequest) ([]string, error) {
	scopes := slices.Clone(req.GetScopes())
	if old := req.GetScope(); old != "" && !slices.Contains(scopes, old) { //nolint:staticcheck // older clients send it
		if err := s.knownScope("scope", old); err != nil {
			return nil, err
		}
		scopes = append(scopes, old)
	}
	if len(scopes) == 0 {
		return []string{s.catalog.DefaultScope()}, nil
	}
	return scopes, s.knownScopes(scopes)
}

// maxScopes is how many scopes a key has at most (SK-4).
const maxScopes = 100

// knownScopes refuses none, too many, and those that the catalogue lacks.
func (s *Service) knownScopes(scopes []string) error {
	if len(scopes) == 0 || len(scopes) > maxScopes {
		return apierr.InvalidField("scopes", "must have 1 to %d scopes", maxScopes)
	}
	for _, scope := range scopes {
		if err := s.knownScope("scopes", scope); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) knownScope(field, scope string) error {
	if _, known := s.catalog.Scope(scope); !known {
		return apierr.InvalidField(field, "%q is not a scope: ListScopes names them", scope)
	}
	return nil
}

// Update changes description, scopes or end of a key. An end that is not there means
// none; no scopes, where no mask names them, means unchanged. Fails:
// API_KEY_NOT_FOUND.
func (s *apiKeys) Update(ctx context.Context, req *iamv1.UpdateApiKeyRequest) (*operationpb.Operation, error) {
	fields, err := named(req.GetUpdateMask().GetPaths(), "api_key_id", "description", "scopes", "expires_at")
	if err != nil {
		return nil, err
	}
	if len(req.GetUpdateMask().GetPaths()) == 0 && len(req.GetScopes()) == 0 {
		fields["scopes"] = false
	}
	if fields["scopes"] {
		if err := s.knownScopes(req.GetScopes()); err != nil {
			return nil, err
		}
	}
	var end time.Time
	if fields["expires_at"] {
		if end, err = s.futureTime("expires_at", req.GetExpiresAt()); err != nil {
			return nil, err
		}
	}
	return s.changeKeyOf(ctx, &apiKeyKind, req.GetApiKeyId(), "Update", func(ctx context.Context, tx *sql.Tx) (changed, map[string]any, error) {
		k, err := s.store.APIKey(ctx, tx, req.GetApiKeyId())
		if err != nil {
			return changed{}, nil, err
		}
		if fields["description"] {
			k.Description = req.GetDescription()
		}
		if fields["scopes"] {
			k.Scopes = req.GetScopes()
		}
		if fields["expires_at"] {
			k.ExpiresAt = end
		}
		if err := s.store.UpdateAPIKey(ctx, tx, k); err != nil {
			return changed{}, nil, err
		}
		return changed{&iamv1.UpdateApiKeyMetadata{ApiKeyId: k.ID}, k.message()}, map[string]any{"api_key_id": k.ID, "scopes": k.Scopes}, nil
	})
}

// Delete removes a key for good: it is refused when the answer is there. Fails:
// API_KEY_NOT_FOUND.
func (s *apiKeys) Delete(ctx context.Context, req *iamv1.DeleteApiKeyRequest) (*operationpb.Operation, error) {
	return s.changeKeyOf(ctx, &apiKeyKind, req.GetApiKeyId(), "Delete", func(ctx context.Context, tx *sql.Tx) (changed, map[string]any, error) {
		return changed{&iamv1.DeleteApiKeyMetadata{ApiKeyId: req.GetApiKeyId()}, &emptypb.Empty{}}, map[string]any{"api_key_id": req.GetApiKeyId()},
			s.store.deleteKey(ctx, tx, &apiKeyKind, req.GetApiKeyId())
	})
}

// ListOperations reads one page of the operations on a key, newest first.
func (s *apiKeys) ListOperations(ctx context.Context, req *iamv1.ListApiKeyOperationsRequest) (*iamv1.ListApiKeyOperationsResponse, error) {
	ops, next, err := s.operationsOn(ctx, apiKeyKind.resource(req.GetApiKeyId()), req)
	if err != nil {
		return nil, err
	}
	return &iamv1.ListApiKeyOperationsResponse{Operations: ops, NextPageToken: next}, nil
}

// ListScopes reads one page of the scopes that a key may have, by their names.
func (s *apiKeys) ListScopes(_ context.Context, req *iamv1.ListApiKeyScopesRequest) (*iamv1.ListApiKeyScopesResponse, error) {
	const list = "API key scopes"
	after, err := s.pages.Open(req.GetPageToken(), list)
	if err != nil {
		return nil, err
	}
	resp := new(iamv1.ListApiKeyScopesResponse)
	for _, scope := range s.catalog.Scopes() {
		if scope.ID <= after.ID {
			continue
		}
		if len(resp.Scopes) == page.Size(req.GetPageSize()) {
			resp.NextPageToken, err = s.pages.Seal(page.Position{ID: resp.Scopes[len(resp.Scopes)-1]}, list)
			return resp, err
		}
		resp.Scopes = append(resp.Scopes, scope.ID)
	}
	return resp, nil
}

// message is a key as it is shown: without its secret, and without the old `scope`
// (clients.md B3).
func (k APIKey) message() *iamv1.ApiKey {
	return &iamv1.ApiKey{
		Id: k.ID, ServiceAccountId: k.AccountID, CreatedAt: timestamppb.New(k.CreatedAt), Description: k.Description,
		LastUsedAt: stamp(k.LastUsedAt), ExpiresAt: stamp(k.ExpiresAt), Scopes: k.Scopes, MaskedSecret: "****" + k.Mask,
	}
}
