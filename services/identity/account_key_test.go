package identity

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

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
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
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

func TestSK4_APIKeys(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		end := w.service.now().Add(time.Hour)
		made := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account, Description: "for tests", ExpiresAt: timestamppb.New(end)})
		k, secret := made.GetApiKey(), made.GetSecret()
		if k.GetServiceAccountId() != account || k.GetDescription() != "for tests" || !k.GetExpiresAt().AsTime().Equal(end) ||
			k.GetLastUsedAt() != nil || k.GetCreatedAt() == nil || len(secret) != apiKeyLen {
			t.Errorf("made %v", k)
		}
		// clients.md B3: never without scopes, the old field empty.
		if len(k.GetScopes()) != 1 || k.GetScopes()[0] != w.service.catalog.DefaultScope() || k.GetScope() != "" { //nolint:staticcheck // it must be empty
			t.Errorf("scopes %q, scope %q", k.GetScopes(), k.GetScope()) //nolint:staticcheck // it must be empty
		}
		if k.GetMaskedSecret() != "****"+secret[len(secret)-6:] {
			t.Errorf("masked %q of …%s", k.GetMaskedSecret(), secret[len(secret)-6:])
		}
		got, err := w.api.Get(w.asOwner, &iamv1.GetApiKeyRequest{ApiKeyId: k.GetId()})
		if err != nil || !proto.Equal(got, k) {
			t.Errorf("got %v, %v", got, err)
		}
		if who, err := w.whose(secret); err != nil || who != account {
			t.Errorf("authenticated %q, %v", who, err)
		}
		got, err = w.api.Get(w.asOwner, &iamv1.GetApiKeyRequest{ApiKeyId: k.GetId()})
		if err != nil || got.GetLastUsedAt() == nil {
			t.Errorf("last used: %v, %v", got, err)
		}
		w.advance(2 * time.Hour)
		_, err = w.whose(secret)
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
	})
}

func TestSK4_KnownScopesOnly(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		listed, err := w.api.ListScopes(w.asOwner, &iamv1.ListApiKeyScopesRequest{})
		w.must(err)
		var all []string
		for req := (&iamv1.ListApiKeyScopesRequest{PageSize: 3}); ; {
			page, err := w.api.ListScopes(w.asOwner, req)
			w.must(err)
			all = append(all, page.GetScopes()...)
			if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
				break
			}
		}
		if fmt.Sprint(all) != fmt.Sprint(listed.GetScopes()) || len(all) < 4 {
			t.Errorf("in pages %v, at once %v", all, listed.GetScopes())
		}
		many := make([]string, 101)
		for i := range many {
			many[i] = fmt.Sprint(i)
		}
		for name, scopes := range map[string][]string{"unknown": {"yc.iam.nothing"}, "too many": many, "twice": {"yc.iam.view", "yc.iam.view"}, "empty": {""}} {
			_, err := w.api.Create(w.asOwner, &iamv1.CreateApiKeyRequest{ServiceAccountId: account, Scopes: scopes})
			t.Log(name)
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
		old := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account, Scope: "yc.iam.view", Scopes: []string{"yc.kms.view"}}) //nolint:staticcheck // as older clients
		if got := old.GetApiKey().GetScopes(); fmt.Sprint(got) != "[yc.kms.view yc.iam.view]" {
			t.Errorf("scopes %v", got)
		}
		for name, at := range map[string]time.Time{"past": w.service.now().Add(-time.Second), "now": w.service.now()} {
			_, err := w.api.Create(w.asOwner, &iamv1.CreateApiKeyRequest{ServiceAccountId: account, ExpiresAt: timestamppb.New(at)})
			t.Log(name)
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
	})
}

// A key may do what its account may do and its scopes hold, no more.
func TestSK4_ScopesRestrict(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		const get, update = "resource-manager.folders.get", "resource-manager.folders.update"
		view := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account, Scopes: []string{"yc.resource-manager.view"}}).GetSecret()
		iam := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account, Scopes: []string{"yc.iam.manage", "yc.kms.view"}}).GetSecret()
		wide := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account})
		wantCode(t, w.may(view, get), codes.PermissionDenied, apierr.ReasonPermissionDenied) // the account may not
		w.grant("editor", "resource-manager.folder", w.folder, authn.ServiceAccount, account)
		const missing = "API_KEY_SCOPE_MISSING"
		for _, tt := range []struct {
			secret, permission string
			reason             string
		}{
			{view, get, ""}, {view, update, missing}, {iam, get, missing}, {iam, update, missing},
			{wide.GetSecret(), get, ""}, {wide.GetSecret(), update, ""},
		} {
			err := w.may(tt.secret, tt.permission)
			if tt.reason == "" {
				w.must(err)
			} else {
				wantCode(t, err, codes.PermissionDenied, tt.reason)
			}
		}
		bulk, err := w.check.BulkAuthorize(t.Context(), &accessservicev2.BulkAuthorizeRequest{
			Identity: &accessservicev2.BulkAuthorizeRequest_ApiKey{ApiKey: view},
			Authorizations: &accessservicev2.BulkAuthorizeRequest_ActionMatrix_{ActionMatrix: &accessservicev2.BulkAuthorizeRequest_ActionMatrix{
				Permissions: []string{get, update}, ResourcePaths: []*accessservicev2.ResourcePath{{Path: w.inFolder()}},
			}},
		})
		w.must(err)
		items := bulk.GetResults().GetItems()
		if bulk.GetSubject().GetServiceAccount().GetId() != account || len(items) != 2 || items[0].GetPermissionDeniedError() != nil || items[1].GetPermissionDeniedError() == nil {
			t.Errorf("in bulk: %v", bulk)
		}
		// Narrowing a key is in force when the operation is done.
		_, err = w.api.Update(w.asOwner, &iamv1.UpdateApiKeyRequest{
			ApiKeyId: wide.GetApiKey().GetId(), Scopes: []string{"yc.resource-manager.view"}, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"scopes"}},
		})
		w.must(err)
		err = w.may(wide.GetSecret(), update)
		wantCode(t, err, codes.PermissionDenied, missing)
		denied, ok := apierr.As(apierr.FromRPC(err))
		if !ok {
			t.Fatal(err)
		}
		why, err := accessv1.NewPermissionServiceClient(w.Conn).Explain(w.asOwner, &accessv1.ExplainRequest{DecisionId: denied.Meta["decisionId"]})
		w.must(err)
		if why.GetAllowed() || why.GetReason() != accessv1.ExplainResponse_OUT_OF_SCOPE || why.GetSubject().GetId() != account || why.GetPermission() != update ||
			why.GetResource().GetId() != w.folder || len(why.GetGrants()) != 1 || !why.GetAllowedNow() {
			t.Errorf("explained as %v", why)
		}
	})
}

// What is no key of anybody gets one answer, whatever is wrong with it.
func TestBadAPIKeys(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		made := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: w.account("robot")})
		good := made.GetSecret()
		message := ""
		for name, bad := range map[string]string{
			"off by one":   good[:len(good)-1] + string(good[len(good)-1]^1),
			"its id":       made.GetApiKey().GetId(),
			"its mask":     made.GetApiKey().GetMaskedSecret(),
			"shorter":      good[:len(good)-1],
			"longer":       good + "A",
			"padded":       good + "=",
			"with a space": " " + good,
			"upper case":   strings.ToUpper(good),
			"no prefix":    good[4:],
			"a hash":       string(bytes.ToUpper([]byte(fmt.Sprintf("%x", hashAPIKey(good))))),
			"SQL":          "AQVN' OR '1'='1" + strings.Repeat("x", 32),
			"huge":         strings.Repeat("A", 100_000),
		} {
			_, err := w.whose(bad)
			t.Log(name)
			wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
			said := status.Convert(err).Message()
			said, _, _ = strings.Cut(said, " (request") // its id
			if message == "" {
				message = said
			} else if said != message {
				t.Errorf("%s: answered %q, others %q", name, said, message)
			}
		}
		_, err := w.whose("")
		wantCode(t, err, codes.Unauthenticated, apierr.ReasonTokenMissing)
		for _, c := range []*accessservicev2.AuthenticateRequest{
			{Credentials: &accessservicev2.AuthenticateRequest_IamCookie{IamCookie: "c1." + good}},
			{Credentials: &accessservicev2.AuthenticateRequest_RefreshToken{RefreshToken: "r" + good}},
		} {
			_, err := w.check.Authenticate(t.Context(), c)
			wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		}
		if _, err := w.whose(good); err != nil {
			t.Errorf("the good one: %v", err)
		}
	})
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

func TestAPIKeyLife(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		made := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account, ExpiresAt: timestamppb.New(w.service.now().Add(time.Hour))})
		keyID := made.GetApiKey().GetId()
		op, err := w.api.Update(w.asOwner, &iamv1.UpdateApiKeyRequest{
			ApiKeyId: keyID, Description: "new", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"api_key_id", "description"}},
		})
		w.must(err)
		got := new(iamv1.ApiKey)
		w.must(op.GetResponse().UnmarshalTo(got))
		if got.GetDescription() != "new" || got.GetExpiresAt() == nil || len(got.GetScopes()) != 1 || op.GetMetadata().UnmarshalTo(new(iamv1.UpdateApiKeyMetadata)) != nil {
			t.Errorf("updated %v", op)
		}
		op, err = w.api.Update(w.asOwner, &iamv1.UpdateApiKeyRequest{ApiKeyId: keyID, Scopes: []string{"yc.iam.view"}}) // no mask: all fields
		w.must(err)
		w.must(op.GetResponse().UnmarshalTo(got))
		if got.GetDescription() != "" || got.GetExpiresAt() != nil || got.GetScopes()[0] != "yc.iam.view" {
			t.Errorf("updated %v", got)
		}
		read, err := w.api.Get(w.asOwner, &iamv1.GetApiKeyRequest{ApiKeyId: keyID})
		if err != nil || !proto.Equal(read, got) {
			t.Errorf("read back %v, %v", read, err)
		}
		for name, req := range map[string]*iamv1.UpdateApiKeyRequest{
			"a field that does not change": {ApiKeyId: keyID, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"service_account_id"}}},
			"no scopes":                    {ApiKeyId: keyID, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"scopes"}}},
			"an unknown scope":             {ApiKeyId: keyID, Scopes: []string{"x"}},
			"an end that is over":          {ApiKeyId: keyID, Scopes: []string{"yc.iam.view"}, ExpiresAt: timestamppb.New(w.service.now())},
		} {
			_, err := w.api.Update(w.asOwner, req)
			t.Log(name)
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
		ops, err := w.api.ListOperations(w.asOwner, &iamv1.ListApiKeyOperationsRequest{ApiKeyId: keyID})
		if err != nil || len(ops.GetOperations()) != 2 || !proto.Equal(ops.GetOperations()[0], op) {
			t.Errorf("operations %v, %v", ops, err)
		}
		_, err = w.api.Delete(w.asOwner, &iamv1.DeleteApiKeyRequest{ApiKeyId: keyID})
		w.must(err)
		viewer := w.user("viewer")
		asViewer := w.Context(w.token(viewer).GetIamToken())
		_, err = operationpb.NewOperationServiceClient(w.Conn).Get(asViewer, &operationpb.GetOperationRequest{OperationId: op.GetId()})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.grant("auditor", typeServiceAccount, account, authn.UserAccount, viewer.GetId())
		if _, err = operationpb.NewOperationServiceClient(w.Conn).Get(asViewer, &operationpb.GetOperationRequest{OperationId: op.GetId()}); err != nil {
			t.Errorf("whoever may see the account: %v", err)
		}
		if e := w.events(); e["CreateApiKey"] != 1 || e["UpdateApiKey"] != 2 || e["DeleteApiKey"] != 1 {
			t.Errorf("events %v", e)
		}
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

func TestListAPIKeysInPages(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account, other := w.account("robot"), w.account("other")
		var want []string
		for range 5 {
			want = append(want, w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account}).GetApiKey().GetId())
		}
		w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: other})
		for _, size := range []int64{0, 1, 2, 5} {
			var got []string
			for req := (&iamv1.ListApiKeysRequest{ServiceAccountId: account, PageSize: size}); ; {
				page, err := w.api.List(w.asOwner, req)
				w.must(err)
				for _, k := range page.GetApiKeys() {
					got = append(got, k.GetId())
				}
				if req.PageToken = page.GetNextPageToken(); req.GetPageToken() == "" {
					break
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("in pages of %d: %v, want %v", size, got, want)
			}
		}
		page, err := w.api.List(w.asOwner, &iamv1.ListApiKeysRequest{ServiceAccountId: account, PageSize: 1})
		w.must(err)
		_, err = w.api.List(w.asOwner, &iamv1.ListApiKeysRequest{ServiceAccountId: other, PageToken: page.GetNextPageToken()})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		_, err = w.api.List(w.asOwner, &iamv1.ListApiKeysRequest{ServiceAccountId: "sac0123456789abcdefg"})
		wantCode(t, err, codes.NotFound, apierr.ReasonResourceNotFound)
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
