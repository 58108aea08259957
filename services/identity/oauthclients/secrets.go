package oauthclients

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"time"

	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/audit"
	"github.com/bindery-iam/bindery/pkg/id"
	"github.com/bindery-iam/bindery/pkg/page"
	"github.com/bindery-iam/bindery/pkg/quota"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/writes"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

const (
	// maxSecrets is how many secrets a client has at most: no quota of the catalogue
	// counts them.
	maxSecrets = 10

	// secretPrefix begins a value, so that scanners for leaked secrets know it.
	secretPrefix = "bos_"
	maskedEnd    = 4 // characters of the value that are shown
)

// Secret is what a client proves itself by.
type Secret struct {
	ID          string
	ClientID    string
	Hash        []byte // SHA-256 of the value, which is random: a plain hash hides it
	Mask        string // the end of the value
	Description string
	CreatedAt   time.Time
}

func (x Secret) position() page.Position {
	return page.Position{Time: sqldb.Micros(x.CreatedAt), ID: x.ID}
}

func (x Secret) proto() *iamv1.OAuthClientSecret {
	return &iamv1.OAuthClientSecret{
		Id: x.ID, OauthClientId: x.ClientID, Description: x.Description, MaskedSecret: "****" + x.Mask, CreatedAt: timestamppb.New(x.CreatedAt),
	}
}

// newSecret is a value of 256 random bits, to be shown once.
func newSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	return secretPrefix + base64.RawURLEncoding.EncodeToString(b[:])
}

func hash(value string) []byte {
	h := sha256.Sum256([]byte(value))
	return h[:]
}

// secrets is yandex.cloud.iam.v1.OAuthClientSecretService.
type secrets struct {
	iamv1.UnsafeOAuthClientSecretServiceServer // a missing method does not compile
	*Service
}

// Get reads a secret, without its value. Fails: OAUTH_CLIENT_SECRET_NOT_FOUND.
func (s *secrets) Get(ctx context.Context, req *iamv1.GetOAuthClientSecretRequest) (*iamv1.OAuthClientSecret, error) {
	x, err := s.store.secret(ctx, s.Writes.DB, req.GetOauthClientSecretId())
	if err != nil {
		return nil, err
	}
	return x.proto(), nil
}

// List reads one page of the secrets of a client, oldest first (NM-7).
func (s *secrets) List(ctx context.Context, req *iamv1.ListOAuthClientSecretsRequest) (*iamv1.ListOAuthClientSecretsResponse, error) {
	scope := []string{"OAuth client secrets", req.GetOauthClientId()}
	after, err := s.Pages.Open(req.GetPageToken(), scope...)
	if err != nil {
		return nil, err
	}
	size := page.Size(req.GetPageSize())
	found, err := s.store.secrets(ctx, req.GetOauthClientId(), after, size+1)
	if err != nil {
		return nil, err
	}
	resp := new(iamv1.ListOAuthClientSecretsResponse)
	for _, x := range found[:min(len(found), size)] {
		resp.OauthClientSecrets = append(resp.OauthClientSecrets, x.proto())
	}
	if len(found) > size {
		resp.NextPageToken, err = s.Pages.Seal(found[size-1].position(), scope...)
	}
	return resp, err
}

// Create makes a secret and shows its value, this once: what is kept of the operation is
// without it. Fails: OAUTH_CLIENT_NOT_FOUND, OAUTH_CLIENT_HAS_NO_SECRETS, QUOTA_EXCEEDED
// (maxSecrets).
func (s *secrets) Create(ctx context.Context, req *iamv1.CreateOAuthClientSecretRequest) (*operationpb.Operation, error) {
	c, err := s.store.client(ctx, s.Writes.DB, req.GetOauthClientId(), "")
	if err != nil {
		return nil, err
	}
	value, path := newSecret(), s.pathOf(ctx, c)
	x := Secret{
		ID: id.New(id.OAuthClientSecret), ClientID: c.ID, Hash: hash(value), Mask: value[len(value)-maskedEnd:],
		Description: req.GetDescription(), CreatedAt: s.Now(),
	}
	answer := new(operationpb.Operation)
	err = sqldb.InTx(ctx, s.Writes.DB, func(ctx context.Context, tx *sql.Tx) error {
		answer.Reset()
		_, err := s.Writes.Keys.Answer(ctx, tx, answer, func() error {
			op, err := s.insert(ctx, tx, x, path)
			if err != nil {
				return err
			}
			shown, err := anypb.New(&iamv1.CreateOAuthClientSecretResponse{OauthClientSecret: x.proto(), SecretValue: value})
			if err != nil {
				return err
			}
			answer.Id, answer.Description, answer.CreatedBy, answer.Done = op.GetId(), op.GetDescription(), op.GetCreatedBy(), op.GetDone()
			answer.CreatedAt, answer.ModifiedAt, answer.Metadata = op.GetCreatedAt(), op.GetModifiedAt(), op.GetMetadata()
			answer.Result = &operationpb.Operation_Response{Response: shown}
			return nil
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// insert adds a secret and returns its operation as it is kept.
func (s *secrets) insert(ctx context.Context, tx *sql.Tx, x Secret, path []audit.Resource) (*operationpb.Operation, error) {
	c, err := s.store.client(ctx, tx, x.ClientID, s.Writes.DB.ForUpdate())
	if err != nil {
		return nil, err
	}
	if c.Profile == profileNative {
		return nil, errNoSecrets
	}
	n, err := s.store.countSecrets(ctx, tx, c.ID)
	if err == nil {
		err = quota.Exceeded("bindery.secretsOfOAuthClient.count", quota.Resource{Type: typeClient, ID: c.ID}, maxSecrets, n, 1)
	}
	if err == nil {
		err = s.store.insertSecret(ctx, tx, x)
	}
	if err != nil {
		return nil, err
	}
	w, err := s.operation(ctx, tx, c, permGetSecret, "Create OAuth client secret",
		&iamv1.CreateOAuthClientSecretMetadata{OauthClientSecretId: x.ID}, &iamv1.CreateOAuthClientSecretResponse{OauthClientSecret: x.proto()})
	if err != nil {
		return nil, err
	}
	return w.Op.Proto(), s.record(ctx, tx, "CreateOAuthClientSecret", permCreateSecret, c, path, x.ID, map[string]any{"operation_id": w.Op.ID})
}

// Delete removes a secret: no client proves itself by it from then on. Fails:
// OAUTH_CLIENT_SECRET_NOT_FOUND.
func (s *secrets) Delete(ctx context.Context, req *iamv1.DeleteOAuthClientSecretRequest) (*operationpb.Operation, error) {
	x, err := s.store.secret(ctx, s.Writes.DB, req.GetOauthClientSecretId())
	if err != nil {
		return nil, err
	}
	return s.change(ctx, x.ClientID, func(ctx context.Context, tx *sql.Tx, c Client, path []audit.Resource) (w writes.Made, err error) {
		if err := s.store.deleteSecret(ctx, tx, x.ID); err != nil {
			return w, err
		}
		w, err = s.operation(ctx, tx, c, permGetSecret, "Delete OAuth client secret",
			&iamv1.DeleteOAuthClientSecretMetadata{OauthClientSecretId: x.ID}, new(emptypb.Empty))
		if err != nil {
			return w, err
		}
		return w, s.record(ctx, tx, "DeleteOAuthClientSecret", permDeleteSecret, c, path, x.ID, map[string]any{"operation_id": w.Op.ID})
	})
}
