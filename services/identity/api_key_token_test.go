package identity

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/authn"
	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// A key without restrictions is exchanged for a token of its account; a token has no
// scopes, so that a restricted key is not.
func TestAPIKeysAreExchangedForTokens(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		tokens := identityv1.NewApiKeyTokenServiceClient(w.Conn)
		exchange := func(secret string) (*identityv1.CreateTokenForApiKeyResponse, error) {
			return tokens.CreateTokenForApiKey(t.Context(), &identityv1.CreateTokenForApiKeyRequest{ApiKey: secret})
		}
		wide := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account})
		got, err := exchange(wide.GetSecret())
		w.must(err)
		w.must(w.works(got.GetIamToken()))
		p, end, err := w.service.tokens.Inspect(t.Context(), got.GetIamToken())
		if err != nil || p.Type != authn.ServiceAccount || p.ID != account || !end.Equal(got.GetExpiresAt().AsTime()) {
			t.Errorf("a token of %v until %v, %v", p, end, err)
		}
		if n := w.events()["CreateIamToken"]; n != 2 { // the owner's, and this one
			t.Errorf("%d records of sign-ins", n)
		}
		used, err := w.api.Get(w.asOwner, &iamv1.GetApiKeyRequest{ApiKeyId: wide.GetApiKey().GetId()})
		if err != nil || used.GetLastUsedAt() == nil {
			t.Errorf("not noted: %v, %v", used, err)
		}

		short := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account, ExpiresAt: timestamppb.New(w.service.now().Add(time.Hour))})
		if got, err = exchange(short.GetSecret()); err != nil || got.GetExpiresAt().AsTime().After(short.GetApiKey().GetExpiresAt().AsTime()) {
			t.Errorf("the token outlives its key: %v, %v", got.GetExpiresAt().AsTime(), err)
		}
		narrow := w.apiKey(&iamv1.CreateApiKeyRequest{ServiceAccountId: account, Scopes: []string{"yc.iam.manage"}})
		_, err = exchange(narrow.GetSecret())
		wantCode(t, err, codes.PermissionDenied, ReasonKeyScoped)
		for _, bad := range []string{wide.GetSecret()[1:], wide.GetApiKey().GetId(), got.GetIamToken()} {
			if len(bad) > 256 {
				bad = bad[:256]
			}
			_, err := exchange(bad)
			wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		}
		w.change(account, func(a *ServiceAccount) { a.State = Suspended })
		_, err = exchange(wide.GetSecret())
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		w.change(account, func(a *ServiceAccount) { a.State = Active })
		_, err = w.api.Delete(w.asOwner, &iamv1.DeleteApiKeyRequest{ApiKeyId: wide.GetApiKey().GetId()})
		w.must(err)
		_, err = exchange(wide.GetSecret())
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
	})
}
