package identity

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	accessv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/access/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

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
