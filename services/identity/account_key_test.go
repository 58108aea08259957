package identity

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/server"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	quotav1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/quota/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	awsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// keySuite is a suite with the clients of keys that are secrets.
type keySuite struct {
	*suite
	api       iamv1.ApiKeyServiceClient
	static    awsv1.AccessKeyServiceClient
	temporary awsv1.TemporaryAccessKeyServiceClient
	check     accessservicev2.AccessServiceClient
	secrets   []string // shown so far
}

func withKeys(t *testing.T, test func(t *testing.T, w *keySuite)) {
	t.Helper()
	inSuite(t, func(t *testing.T, s *suite) {
		w := &keySuite{
			suite: s, api: iamv1.NewApiKeyServiceClient(s.Conn), static: awsv1.NewAccessKeyServiceClient(s.Conn),
			temporary: awsv1.NewTemporaryAccessKeyServiceClient(s.Conn), check: accessservicev2.NewAccessServiceClient(s.Conn),
		}
		test(t, w)
		w.noCanary()
	})
}

func (w *keySuite) apiKey(req *iamv1.CreateApiKeyRequest) *iamv1.CreateApiKeyResponse {
	w.t.Helper()
	made, err := w.api.Create(w.asOwner, req)
	w.must(err)
	w.secrets = append(w.secrets, made.GetSecret())
	return made
}

func (w *keySuite) accessKey(account string) *awsv1.CreateAccessKeyResponse {
	w.t.Helper()
	made, err := w.static.Create(w.asOwner, &awsv1.CreateAccessKeyRequest{ServiceAccountId: account})
	w.must(err)
	w.secrets = append(w.secrets, made.GetSecret())
	return made
}

// whose asks the check about an API key, as nobody.
func (w *keySuite) whose(secret string) (string, error) {
	resp, err := w.check.Authenticate(w.t.Context(), &accessservicev2.AuthenticateRequest{
		Credentials: &accessservicev2.AuthenticateRequest_ApiKey{ApiKey: secret},
	})
	return resp.GetSubject().GetServiceAccount().GetId(), err
}

// may asks the check whether an API key may do something in the folder.
func (w *keySuite) may(secret, permission string) error {
	_, err := w.check.Authorize(w.t.Context(), &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_ApiKey{ApiKey: secret}, Permission: permission, ResourcePath: w.inFolder(),
	})
	return err
}

func (w *keySuite) inFolder() []*accessservicev2.Resource {
	return []*accessservicev2.Resource{{Type: "resource-manager.folder", Id: w.folder}}
}

// A refresh token proves its user for as long as its session lasts (TK-5).
func TestAuthenticateByRefreshToken(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		nick := w.user("nick")
		made, err := identityv1.NewSessionServiceClient(w.Conn).CreateSession(t.Context(), &identityv1.CreateSessionRequest{
			Identity: &identityv1.CreateSessionRequest_OauthToken{OauthToken: nick.GetOauthToken()}, ClientId: "cli",
		})
		w.must(err)
		text := made.GetSession().GetRefreshToken()
		w.secrets = append(w.secrets, text)
		whose := func() (string, error) {
			resp, err := w.check.Authenticate(t.Context(), &accessservicev2.AuthenticateRequest{
				Credentials: &accessservicev2.AuthenticateRequest_RefreshToken{RefreshToken: text},
			})
			return resp.GetSubject().GetUserAccount().GetId(), err
		}
		for range 2 {
			if who, err := whose(); err != nil || who != nick.GetId() {
				t.Errorf("authenticated %q, %v", who, err)
			}
		}
		_, err = iamv1.NewRefreshTokenServiceClient(w.Conn).Revoke(w.Context(w.token(nick).GetIamToken()), &iamv1.RevokeRefreshTokenRequest{
			Filter: &iamv1.RevokeRefreshTokenRequest_RefreshToken{RefreshToken: text},
		})
		w.must(err)
		_, err = whose()
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
	})
}

// A key that is deleted is refused at once, as is one of an account that may not act
// or is gone (SK-1, SK-2).
func TestSK2_SecretsGoWithTheirKeysAndAccounts(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		first, second := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account}), w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account})
		for _, k := range []*iamv1.CreateApiKeyResponse{first, second} {
			if _, err := w.whose(k.GetSecret()); err != nil {
				t.Fatal(err)
			}
		}
		ctx := metadata.AppendToOutgoingContext(w.asOwner, idempotency.Header, "delete-it")
		op, err := w.api.Delete(ctx, &iamv1.DeleteApiKeyRequest{ApiKeyId: first.GetApiKey().GetId()})
		w.must(err)
		_, err = w.whose(first.GetSecret())
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		again, err := w.api.Delete(ctx, &iamv1.DeleteApiKeyRequest{ApiKeyId: first.GetApiKey().GetId()})
		if err != nil || !proto.Equal(op, again) || !op.GetDone() || op.GetMetadata().UnmarshalTo(new(iamv1.DeleteApiKeyMetadata)) != nil {
			t.Errorf("deleted %v; again %v, %v", op, again, err)
		}
		_, err = w.api.Delete(w.asOwner, &iamv1.DeleteApiKeyRequest{ApiKeyId: first.GetApiKey().GetId()})
		wantCode(t, err, codes.NotFound, ReasonAPIKeyNotFound)
		_, err = w.api.Get(w.asOwner, &iamv1.GetApiKeyRequest{ApiKeyId: "apk0123456789abcdefg"})
		wantCode(t, err, codes.NotFound, ReasonAPIKeyNotFound)

		suspend := w.suspended(account)
		suspend(true)
		_, err = w.whose(second.GetSecret())
		wantCode(t, err, codes.Unauthenticated, apierr.ReasonSubjectInactive)
		suspend(false)
		if _, err = w.whose(second.GetSecret()); err != nil {
			t.Error(err)
		}
		_, err = w.db.Pool().ExecContext(t.Context(), `DELETE FROM identity_service_accounts WHERE id = $1`, account)
		w.must(err)
		_, err = w.whose(second.GetSecret())
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
	})
}

// Rights on keys are those on their account (SK-2); nobody named means the caller
// (SK-5).
func TestSK5_KeysOfTheCallingAccount(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		asRobot := w.asAccount(account)
		_, err := w.api.Create(asRobot, &iamv1.CreateApiKeyRequest{})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		_, err = w.static.Create(asRobot, &awsv1.CreateAccessKeyRequest{})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.grant("iam.serviceAccounts.keyAdmin", typeServiceAccount, account, authn.ServiceAccount, account)
		made, err := w.api.Create(asRobot, &iamv1.CreateApiKeyRequest{})
		w.must(err)
		static, err := w.static.Create(asRobot, &awsv1.CreateAccessKeyRequest{})
		w.must(err)
		w.secrets = append(w.secrets, made.GetSecret(), static.GetSecret())
		if made.GetApiKey().GetServiceAccountId() != account || static.GetAccessKey().GetServiceAccountId() != account {
			t.Errorf("made %v and %v", made.GetApiKey(), static.GetAccessKey())
		}
		keys, err := w.api.List(asRobot, &iamv1.ListApiKeysRequest{})
		if err != nil || len(keys.GetApiKeys()) != 1 {
			t.Errorf("its own: %v, %v", keys, err)
		}
		statics, err := w.static.List(asRobot, &awsv1.ListAccessKeysRequest{})
		if err != nil || len(statics.GetAccessKeys()) != 1 {
			t.Errorf("its own: %v, %v", statics, err)
		}
		// A user is no service account.
		_, err = w.api.Create(w.asOwner, &iamv1.CreateApiKeyRequest{})
		wantCode(t, err, codes.NotFound, apierr.ReasonResourceNotFound)
	})
}

// The same secret is the answer again, and is kept sealed only.
func TestIdempotencyKeysOfSecrets(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		ctx := metadata.AppendToOutgoingContext(w.asOwner, idempotency.Header, "0d9d2b84-6a4c-4c43-9bd4-6c7b2f0a5e21")
		for range 2 {
			api, err := w.api.Create(ctx, &iamv1.CreateApiKeyRequest{ServiceAccountId: account})
			w.must(err)
			static, err := w.static.Create(ctx, &awsv1.CreateAccessKeyRequest{ServiceAccountId: account})
			w.must(err)
			temporary, err := w.temporary.CreateEphemeral(ctx, &awsv1.CreateEphemeralAccessKeyRequest{SubjectId: account, SessionName: "s"})
			w.must(err)
			w.secrets = append(w.secrets, api.GetSecret(), static.GetSecret(), temporary.GetSecret())
		}
		for i, secret := range w.secrets[:3] {
			if secret != w.secrets[i+3] {
				t.Errorf("secret %d is another one the second time", i)
			}
		}
		_, err := w.api.Create(ctx, &iamv1.CreateApiKeyRequest{ServiceAccountId: account, Description: "x"})
		wantCode(t, err, codes.InvalidArgument, idempotency.ReasonReused)
		if e := w.events(); e["CreateApiKey"] != 1 || e["CreateAccessKey"] != 1 || e["awscompatibility.CreateEphemeralAccessKey"] != 1 {
			t.Errorf("events %v", e)
		}
	})
}

// asAccount returns a context of calls by a service account.
func (w *keySuite) asAccount(account string) context.Context {
	w.t.Helper()
	token, err := w.service.issuer.Issue(authn.ServiceAccount, account, time.Hour)
	w.must(err)
	return w.Context(token.Text)
}

// Above the quota of the cloud there is no further key, of either kind by itself, also
// when many ask at once; temporary keys count in none (QL-2).
func TestQuotasOfKeys(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account, other := w.account("robot"), w.account("other")
		operator, err := server.DialOperator(w.DataDir)
		w.must(err)
		defer operator.Close()
		for _, quotaID := range []string{catalog.QuotaAPIKeys, catalog.QuotaAccessKeys} {
			_, err := quotav1.NewOperatorServiceClient(operator).SetLimit(t.Context(), &quotav1.SetLimitRequest{
				QuotaId: quotaID, Change: &quotav1.SetLimitRequest_Limit{Limit: 3},
			})
			w.must(err)
		}
		var made, refused atomic.Int64
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				_, err := w.api.Create(w.asOwner, &iamv1.CreateApiKeyRequest{ServiceAccountId: []string{account, other}[i%2]})
				switch {
				case err == nil:
					made.Add(1)
				case apierr.ReasonOf(err) == apierr.ReasonQuotaExceeded && status.Code(err) == codes.ResourceExhausted:
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if made.Load() != 3 || refused.Load() != 3 {
			t.Errorf("%d were made and %d refused, of 6 with room for 3", made.Load(), refused.Load())
		}
		for range 3 {
			w.accessKey(account)
			_, err := w.temporary.CreateEphemeral(w.asOwner, &awsv1.CreateEphemeralAccessKeyRequest{SubjectId: account, SessionName: "s"})
			w.must(err)
		}
		_, err = w.static.Create(w.asOwner, &awsv1.CreateAccessKeyRequest{ServiceAccountId: other})
		wantCode(t, err, codes.ResourceExhausted, apierr.ReasonQuotaExceeded)
		for quotaID, usage := range w.service.Parts().Usage {
			if quotaID == catalog.QuotaAPIKeys || quotaID == catalog.QuotaAccessKeys {
				if n, err := usage(t.Context(), w.cloud); err != nil || n != 3 {
					t.Errorf("%s: %d are used, %v", quotaID, n, err)
				}
			}
		}
	})
}

// suspended returns how an account is suspended, and made active again.
func (w *keySuite) suspended(account string) func(bool) {
	version := int64(1)
	return func(is bool) {
		w.t.Helper()
		state := accessv1.SetSubjectRequest_ACTIVE
		if is {
			state = accessv1.SetSubjectRequest_SUSPENDED
		}
		version++
		_, err := w.asIdentity.SetSubject(w.t.Context(), &accessv1.SetSubjectRequest{
			Subject: &accessv1.Subject{Type: authn.ServiceAccount, Id: account}, State: state, Version: version,
		})
		w.must(err)
	}
}
