package identity

import (
	"bytes"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/idempotency"
	"github.com/bindery-iam/bindery/pkg/text"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	"github.com/bindery-iam/bindery/services/identity/jwt"
	"github.com/bindery-iam/bindery/services/identity/jwt/jwttest"
)

// key makes a key of an account as its owner's owner.
func (w *suite) key(accountID string) *iamv1.CreateKeyResponse {
	w.t.Helper()
	made, err := w.keys.Create(w.asOwner, &iamv1.CreateKeyRequest{ServiceAccountId: accountID})
	w.must(err)
	return made
}

// holds is the holder of a key, at the time of the suite.
func (w *suite) holds(made *iamv1.CreateKeyResponse) jwttest.Holder {
	w.t.Helper()
	k := made.GetKey()
	return jwttest.Holder{
		KeyID: k.GetId(), Account: k.GetServiceAccountId() + k.GetUserAccountId(), Private: private(w.t, made.GetPrivateKey()),
		Audience: jwt.PublicAudience, Now: w.service.now(), T: w.t,
	}
}

func private(t *testing.T, text string) *rsa.PrivateKey {
	t.Helper()
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "PRIVATE KEY" || len(bytes.TrimSpace(rest)) != 0 {
		t.Fatalf("%d characters are no PEM of one private key", len(text))
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	k, ok := key.(*rsa.PrivateKey)
	if !ok {
		t.Fatalf("a %T", key)
	}
	return k
}

func byJWT(text string) *iamv1.CreateIamTokenRequest {
	return &iamv1.CreateIamTokenRequest{Identity: &iamv1.CreateIamTokenRequest_Jwt{Jwt: text}}
}

// as signs in by a key.
func (w *suite) as(made *iamv1.CreateKeyResponse) context.Context {
	w.t.Helper()
	got, err := w.tokens.Create(w.t.Context(), byJWT(w.holds(made).Token()))
	w.must(err)
	return w.Context(got.GetIamToken())
}

// The private part is shown once and kept nowhere; the public one is its half.
func TestSK3_PrivateKeyOnce(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		account := w.account("robot")
		for algorithm, bits := range map[iamv1.Key_Algorithm]int{
			iamv1.Key_ALGORITHM_UNSPECIFIED: 2048, iamv1.Key_RSA_2048: 2048, iamv1.Key_RSA_4096: 4096,
		} {
			made, err := w.keys.Create(w.asOwner, &iamv1.CreateKeyRequest{ServiceAccountId: account, KeyAlgorithm: algorithm, Description: "for tests"})
			w.must(err)
			key := private(t, made.GetPrivateKey())
			if key.N.BitLen() != bits {
				t.Errorf("%v: a key of %d bits", algorithm, key.N.BitLen())
			}
			block, _ := pem.Decode([]byte(made.GetKey().GetPublicKey()))
			if block == nil || block.Type != "PUBLIC KEY" {
				t.Fatalf("public key %q", made.GetKey().GetPublicKey())
			}
			public, err := x509.ParsePKIXPublicKey(block.Bytes)
			w.must(err)
			if !key.PublicKey.Equal(public) {
				t.Errorf("%v: the public key is of another pair", algorithm)
			}
			got, err := w.keys.Get(w.asOwner, &iamv1.GetKeyRequest{KeyId: made.GetKey().GetId()})
			w.must(err)
			if !proto.Equal(got, made.GetKey()) || got.GetServiceAccountId() != account || got.GetDescription() != "for tests" ||
				got.GetKeyAlgorithm().String() != fmt.Sprintf("RSA_%d", bits) || got.GetLastUsedAt() != nil {
				t.Errorf("got %v, made %v", got, made.GetKey())
			}
			w.stored(made.GetPrivateKey())
		}
	})
}

// stored fails the test when a secret lies in the log or in a table of the unit.
func (w *suite) stored(secrets ...string) {
	w.t.Helper()
	for _, secret := range secrets {
		for _, part := range strings.Split(strings.TrimSpace(secret), "\n") {
			if len(part) < 20 || strings.HasPrefix(part, "-----") {
				continue
			}
			if strings.Contains(w.log.String(), part) {
				w.t.Errorf("%.12s… is in the log", part)
			}
			for _, query := range []string{
				`SELECT record FROM identity_audit`, `SELECT body FROM goqite`,
				`SELECT description FROM identity_authorized_keys`, `SELECT public_key FROM identity_authorized_keys`,
				`SELECT answer FROM identity_idempotency`, `SELECT metadata FROM identity_operations`, `SELECT response FROM identity_operations`,
			} {
				w.absent(query, part)
			}
		}
	}
}

func (w *suite) absent(query, secret string) {
	w.t.Helper()
	rows, err := w.db.QueryContext(w.t.Context(), query)
	w.must(err)
	defer rows.Close()
	for rows.Next() {
		var value []byte
		w.must(rows.Scan(&value))
		if bytes.Contains(value, []byte(secret)) {
			w.t.Errorf("%.12s… is found by %s", secret, query)
		}
	}
	w.must(rows.Err())
}

// A key signs in, and what it proves is its account.
func TestSK3_KeysAreExchangedForTokens(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		w.stopClock()
		account := w.account("robot")
		made := w.key(account)
		h := w.holds(made)
		for _, c := range jwttest.Good(h) {
			got, err := w.tokens.Create(t.Context(), byJWT(c.Text))
			if err != nil {
				t.Errorf("%s: %v", c.Name, err)
				continue
			}
			p, end, err := w.service.tokens.Inspect(t.Context(), got.GetIamToken())
			if err != nil || p.Type != authn.ServiceAccount || p.ID != account || !end.Equal(got.GetExpiresAt().AsTime()) {
				t.Errorf("%s: the token is of %v until %v, %v", c.Name, p, end, err)
			}
			w.must(w.works(got.GetIamToken()))
		}
		own := h
		own.Audience = "https://" + w.service.address() + "/iam/v1/tokens"
		if _, err := w.tokens.Create(t.Context(), byJWT(own.Token())); err != nil {
			t.Errorf("for our own audience: %v", err)
		}
		got, err := w.keys.Get(w.asOwner, &iamv1.GetKeyRequest{KeyId: h.KeyID})
		w.must(err)
		if used := got.GetLastUsedAt().AsTime(); w.service.now().Sub(used) > time.Minute {
			t.Errorf("last used at %v", used)
		}
		if n := w.events()["CreateIamToken"]; n != 2 { // the owner's, and one for the key within a minute
			t.Errorf("%d records of sign-ins", n)
		}
		w.stored(h.Token(), made.GetPrivateKey())
	})
}

// None of the corpus signs in; each gets the same answer, without a hint.
func TestSK3_BadJWTs(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		w.stopClock()
		h, other := w.holds(w.key(w.account("robot"))), w.holds(w.key(w.account("other")))
		corpus := jwttest.Bad(h, other)
		for _, c := range corpus {
			got, err := w.tokens.Create(t.Context(), byJWT(c.Text))
			switch want := errJWT; {
			case err == nil:
				t.Errorf("%s: accepted: %v", c.Name, got.GetExpiresAt())
			case text.Problem(c.Text) != "": // before it is looked at (NM-9)
				wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
			case !strings.HasPrefix(status.Convert(err).Message(), want.Message) || len(status.Convert(err).Message()) != len(want.Message):
				t.Errorf("%s: the answer hints: %v", c.Name, err)
			default:
				wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
			}
		}
		t.Logf("%d cases", len(corpus))
		if _, err := w.tokens.Create(t.Context(), byJWT(h.Token())); err != nil {
			t.Errorf("a good one after them: %v", err)
		}
	})
}

// Whoever may not act gets no token, and a key that is gone proves nothing (SK-1).
func TestSK2_KeysGoWithTheirAccount(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		account := w.account("robot")
		made := w.key(account)
		signIn := func() error {
			_, err := w.tokens.Create(t.Context(), byJWT(w.holds(made).Token()))
			return err
		}
		w.must(signIn())
		for name, edit := range map[string]func(a *ServiceAccount){
			"suspended": func(a *ServiceAccount) { a.State = Suspended },
			"expired":   func(a *ServiceAccount) { a.ExpiresAt = w.service.now() },
			"deleting":  func(a *ServiceAccount) { a.State, a.Operation = Deleting, "oid1" },
		} {
			w.change(account, edit)
			t.Log(name)
			wantCode(t, signIn(), codes.Unauthenticated, ReasonCredentialsInvalid)
			w.change(account, func(a *ServiceAccount) { a.State, a.Operation, a.ExpiresAt = Active, "", time.Time{} })
			w.must(signIn())
		}
		end := w.service.now().Add(time.Hour)
		w.change(account, func(a *ServiceAccount) { a.ExpiresAt = end })
		if got, err := w.tokens.Create(t.Context(), byJWT(w.holds(made).Token())); err != nil || got.GetExpiresAt().AsTime().After(end) {
			t.Errorf("of an account that ends at %v: %v, %v", end, got.GetExpiresAt().AsTime(), err)
		}
		_, err := w.db.Pool().ExecContext(t.Context(), `DELETE FROM identity_service_accounts WHERE id = $1`, account)
		w.must(err)
		wantCode(t, signIn(), codes.Unauthenticated, ReasonCredentialsInvalid)
		_, err = w.keys.Get(w.asOwner, &iamv1.GetKeyRequest{KeyId: made.GetKey().GetId()})
		wantCode(t, err, codes.NotFound, ReasonAuthorizedKeyNotFound)
	})
}

// A request that names no account means the caller: a service account by its rights
// on itself, a user without any.
func TestSK5_NobodyNamedMeansTheCaller(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		account := w.account("robot")
		robot := w.as(w.key(account))
		_, err := w.keys.Create(robot, &iamv1.CreateKeyRequest{})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.grant("iam.serviceAccounts.authorizedKeyAdmin", typeServiceAccount, account, authn.ServiceAccount, account)
		made, err := w.keys.Create(robot, &iamv1.CreateKeyRequest{})
		w.must(err)
		if got := made.GetKey().GetServiceAccountId(); got != account {
			t.Errorf("a key of %q", got)
		}
		listed, err := w.keys.List(robot, &iamv1.ListKeysRequest{})
		w.must(err)
		if len(listed.GetKeys()) != 2 {
			t.Errorf("the account lists %d keys", len(listed.GetKeys()))
		}

		nick := w.user("nick")
		asNick := w.Context(w.token(nick).GetIamToken())
		own, err := w.keys.Create(asNick, &iamv1.CreateKeyRequest{})
		w.must(err)
		if got := own.GetKey().GetUserAccountId(); got != nick.GetId() {
			t.Errorf("a key of the user %q", got)
		}
		w.must(w.works(w.signedIn(own)))
		w.asStrangers(own.GetKey().GetId(), nick.GetId(), asNick)
	})
}

func (w *suite) signedIn(made *iamv1.CreateKeyResponse) string {
	w.t.Helper()
	got, err := w.tokens.Create(w.t.Context(), byJWT(w.holds(made).Token()))
	w.must(err)
	return got.GetIamToken()
}

// asStrangers checks that the key of a user is nobody's business but theirs.
func (w *suite) asStrangers(keyID, userID string, own context.Context) {
	w.t.Helper()
	for name, call := range map[string]func(ctx context.Context) error{
		"Get": func(ctx context.Context) error {
			_, err := w.keys.Get(ctx, &iamv1.GetKeyRequest{KeyId: keyID})
			return err
		},
		"List": func(ctx context.Context) error {
			_, err := w.keys.List(ctx, &iamv1.ListKeysRequest{ServiceAccountId: userID})
			return err
		},
		"Create": func(ctx context.Context) error {
			_, err := w.keys.Create(ctx, &iamv1.CreateKeyRequest{ServiceAccountId: userID})
			return err
		},
		"Update": func(ctx context.Context) error {
			_, err := w.keys.Update(ctx, &iamv1.UpdateKeyRequest{KeyId: keyID, Description: "x"})
			return err
		},
		"ListOperations": func(ctx context.Context) error {
			_, err := w.keys.ListOperations(ctx, &iamv1.ListKeyOperationsRequest{KeyId: keyID})
			return err
		},
	} {
		if err := call(w.asOwner); status.Code(err) != codes.NotFound {
			w.t.Errorf("%s by another: %v", name, err)
		}
		if err := call(w.t.Context()); status.Code(err) != codes.Unauthenticated {
			w.t.Errorf("%s by nobody: %v", name, err)
		}
		if err := call(own); err != nil {
			w.t.Errorf("%s by the user: %v", name, err)
		}
	}
}

func TestKeyLife(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		account := w.account("robot")
		made := w.key(account)
		keyID := made.GetKey().GetId()
		op, err := w.keys.Update(w.asOwner, &iamv1.UpdateKeyRequest{
			KeyId: keyID, Description: "new", UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"key_id", "description"}},
		})
		w.must(err)
		changed := new(iamv1.Key)
		w.must(op.GetResponse().UnmarshalTo(changed))
		if changed.GetDescription() != "new" || !op.GetDone() || op.GetMetadata().UnmarshalTo(new(iamv1.UpdateKeyMetadata)) != nil {
			t.Errorf("updated: %v", op)
		}
		_, err = w.keys.Update(w.asOwner, &iamv1.UpdateKeyRequest{KeyId: keyID, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"public_key"}}})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		ops, err := w.keys.ListOperations(w.asOwner, &iamv1.ListKeyOperationsRequest{KeyId: keyID})
		w.must(err)
		if len(ops.GetOperations()) != 1 || !proto.Equal(ops.GetOperations()[0], op) {
			t.Errorf("operations %v", ops)
		}

		key := metadata.AppendToOutgoingContext(w.asOwner, idempotency.Header, "delete-it")
		deleted, err := w.keys.Delete(key, &iamv1.DeleteKeyRequest{KeyId: keyID})
		w.must(err)
		again, err := w.keys.Delete(key, &iamv1.DeleteKeyRequest{KeyId: keyID})
		if err != nil || !proto.Equal(deleted, again) {
			t.Errorf("again: %v, %v", again, err)
		}
		_, err = w.tokens.Create(t.Context(), byJWT(w.holds(made).Token()))
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		_, err = w.keys.Delete(w.asOwner, &iamv1.DeleteKeyRequest{KeyId: keyID})
		wantCode(t, err, codes.NotFound, ReasonAuthorizedKeyNotFound)

		// SK-2: what was done to the key is shown to those who may see the account's keys.
		viewer := w.user("viewer")
		asViewer := w.Context(w.token(viewer).GetIamToken())
		operations := operationpb.NewOperationServiceClient(w.Conn)
		_, err = operations.Get(asViewer, &operationpb.GetOperationRequest{OperationId: deleted.GetId()})
		wantCode(t, err, codes.PermissionDenied, apierr.ReasonPermissionDenied)
		w.grant("auditor", typeServiceAccount, account, authn.UserAccount, viewer.GetId())
		got, err := operations.Get(asViewer, &operationpb.GetOperationRequest{OperationId: deleted.GetId()})
		if err != nil || !proto.Equal(got, deleted) {
			t.Errorf("the viewer: %v, %v", got, err)
		}
		events := w.events()
		if events["CreateKey"] != 1 || events["UpdateKey"] != 1 || events["DeleteKey"] != 1 {
			t.Errorf("events %v", events)
		}
	})
}

// The same pair is the answer again, and neither is stored in the clear.
func TestIdempotencyKeyOfAKey(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		account := w.account("robot")
		ctx := metadata.AppendToOutgoingContext(w.asOwner, idempotency.Header, "0d9d2b84-6a4c-4c43-9bd4-6c7b2f0a5e21")
		req := &iamv1.CreateKeyRequest{ServiceAccountId: account}
		first, err := w.keys.Create(ctx, req)
		w.must(err)
		again, err := w.keys.Create(ctx, req)
		if err != nil || !proto.Equal(first, again) {
			t.Errorf("again another key, or %v", err)
		}
		_, err = w.keys.Create(ctx, &iamv1.CreateKeyRequest{ServiceAccountId: account, Description: "x"})
		wantCode(t, err, codes.InvalidArgument, idempotency.ReasonReused)
		w.stored(first.GetPrivateKey())
		listed, err := w.keys.List(w.asOwner, &iamv1.ListKeysRequest{ServiceAccountId: account})
		w.must(err)
		if len(listed.GetKeys()) != 1 {
			t.Errorf("%d keys were made", len(listed.GetKeys()))
		}
	})
}

func TestListKeys(t *testing.T) {
	inSuite(t, func(t *testing.T, w *suite) {
		account, other := w.account("robot"), w.account("other")
		var want []string
		for range 5 {
			want = append(want, w.key(account).GetKey().GetId())
		}
		w.key(other)
		for _, size := range []int64{0, 1, 2, 5} {
			var got []string
			req := &iamv1.ListKeysRequest{ServiceAccountId: account, PageSize: size}
			for {
				page, err := w.keys.List(w.asOwner, req)
				w.must(err)
				for _, k := range page.GetKeys() {
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
		page, err := w.keys.List(w.asOwner, &iamv1.ListKeysRequest{ServiceAccountId: account, PageSize: 1})
		w.must(err)
		_, err = w.keys.List(w.asOwner, &iamv1.ListKeysRequest{ServiceAccountId: other, PageToken: page.GetNextPageToken()})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
	})
}
