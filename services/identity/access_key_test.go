package identity

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/secret"
	awsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// sign4 signs a request as a client of Version 4 does, at a time. It is written after
// the public description, and shares nothing with what verifies.
func sign4(keyID, secret string, at time.Time, region, service string) *accessservicev2.AccessKeySignature {
	sum := func(key []byte, text string) []byte {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	day := at.UTC().Format("20060102")
	request := sha256.Sum256([]byte("GET\n/\n\nhost:storage\n\nhost\nUNSIGNED-PAYLOAD"))
	text := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s/%s/%s/aws4_request\n%x", at.UTC().Format("20060102T150405Z"), day, region, service, request)
	key := sum(sum(sum(sum([]byte("AWS4"+secret), day), region), service), "aws4_request")
	return &accessservicev2.AccessKeySignature{
		AccessKeyId: keyID, StringToSign: text, Signature: hex.EncodeToString(sum(key, text)),
		Parameters: &accessservicev2.AccessKeySignature_V4Parameters{V4Parameters: &accessservicev2.AccessKeySignature_Version4Parameters{
			SignedAt: timestamppb.New(at.Truncate(time.Second)), Region: region, Service: service,
		}},
	}
}

// sign2 signs a request as a client of Version 2 does, by HMAC-SHA1.
func sign2(keyID, secret string, at time.Time) *accessservicev2.AccessKeySignature {
	text := "GET\n\n\n" + at.UTC().Format(http.TimeFormat) + "\n/bucket/key"
	h := hmac.New(sha1.New, []byte(secret))
	h.Write([]byte(text))
	return &accessservicev2.AccessKeySignature{
		AccessKeyId: keyID, StringToSign: text, Signature: base64.StdEncoding.EncodeToString(h.Sum(nil)),
		Parameters: &accessservicev2.AccessKeySignature_V2Parameters{V2Parameters: &accessservicev2.AccessKeySignature_Version2Parameters{
			SignatureMethod: accessservicev2.AccessKeySignature_Version2Parameters_HMAC_SHA1,
		}},
	}
}

// signer asks the check about a signature, as nobody.
func (w *keySuite) signer(sig *accessservicev2.AccessKeySignature) (string, error) {
	resp, err := w.check.Authenticate(w.t.Context(), &accessservicev2.AuthenticateRequest{
		Credentials: &accessservicev2.AuthenticateRequest_Signature{Signature: sig},
	})
	return resp.GetSubject().GetServiceAccount().GetId(), err
}

// Whoever signs by a key acts as its account, by either version of signatures; what
// is off in any way is refused, with one answer.
func TestSignatures(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		made, other := w.accessKey(account), w.accessKey(w.account("other"))
		keyID, secret := made.GetAccessKey().GetKeyId(), made.GetSecret()
		if len(keyID) != keyIDLen || len(secret) != keySecretLen || keyID == other.GetAccessKey().GetKeyId() {
			t.Errorf("key %q with a secret of %d characters", keyID, len(secret))
		}
		now := w.service.now()
		good := func() *accessservicev2.AccessKeySignature { return sign4(keyID, secret, now, "ru-central1", "s3") }
		v4 := func(s *accessservicev2.AccessKeySignature) *accessservicev2.AccessKeySignature_Version4Parameters {
			return s.GetV4Parameters()
		}
		for name, sig := range map[string]*accessservicev2.AccessKeySignature{
			"version 4": good(), "the same again": good(), "version 2": sign2(keyID, secret, now),
			"14 minutes old": sign4(keyID, secret, now.Add(-14*time.Minute), "r", "sqs"),
		} {
			if who, err := w.signer(sig); err != nil || who != account {
				t.Errorf("%s: %q, %v", name, who, err)
			}
		}
		message := ""
		for name, edit := range map[string]func(s *accessservicev2.AccessKeySignature){
			"off by one character": func(s *accessservicev2.AccessKeySignature) {
				last := "0"
				if strings.HasSuffix(s.GetSignature(), "0") {
					last = "1"
				}
				s.Signature = s.GetSignature()[:63] + last
			},
			"an hour old": func(s *accessservicev2.AccessKeySignature) {
				proto.Merge(reset(s), sign4(keyID, secret, now.Add(-time.Hour), "r", "s3"))
			},
			"an hour ahead": func(s *accessservicev2.AccessKeySignature) {
				proto.Merge(reset(s), sign4(keyID, secret, now.Add(time.Hour), "r", "s3"))
			},
			"version 2, an hour old": func(s *accessservicev2.AccessKeySignature) {
				proto.Merge(reset(s), sign2(keyID, secret, now.Add(-time.Hour)))
			},
			"replayed under a new time": func(s *accessservicev2.AccessKeySignature) {
				proto.Merge(reset(s), sign4(keyID, secret, now.Add(-time.Hour), "r", "s3"))
				v4(s).SignedAt = timestamppb.New(now)
			},
			"another region":  func(s *accessservicev2.AccessKeySignature) { v4(s).Region = "eu" },
			"another service": func(s *accessservicev2.AccessKeySignature) { v4(s).Service = "sqs" },
			"another day": func(s *accessservicev2.AccessKeySignature) {
				v4(s).SignedAt = timestamppb.New(now.Add(-24 * time.Hour))
			},
			"another request":   func(s *accessservicev2.AccessKeySignature) { s.StringToSign += "0" },
			"another's key id":  func(s *accessservicev2.AccessKeySignature) { s.AccessKeyId = other.GetAccessKey().GetKeyId() },
			"an unknown key":    func(s *accessservicev2.AccessKeySignature) { s.AccessKeyId = "YCAJEunknown" },
			"the resource's id": func(s *accessservicev2.AccessKeySignature) { s.AccessKeyId = made.GetAccessKey().GetId() },
			"another secret": func(s *accessservicev2.AccessKeySignature) {
				proto.Merge(reset(s), sign4(keyID, other.GetSecret(), now, "r", "s3"))
			},
			"version 2 without a method": func(s *accessservicev2.AccessKeySignature) {
				proto.Merge(reset(s), sign2(keyID, secret, now))
				s.GetV2Parameters().SignatureMethod = 0
			},
			"version 2 as SHA-256": func(s *accessservicev2.AccessKeySignature) {
				proto.Merge(reset(s), sign2(keyID, secret, now))
				s.GetV2Parameters().SignatureMethod = accessservicev2.AccessKeySignature_Version2Parameters_HMAC_SHA256
			},
		} {
			sig := good()
			edit(sig)
			_, err := w.signer(sig)
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
	})
}

// A method of signing that is none is a fault of the request as such.
func TestUnknownSignatureMethod(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		made := w.accessKey(w.account("robot"))
		sig := sign2(made.GetAccessKey().GetKeyId(), made.GetSecret(), w.service.now())
		sig.GetV2Parameters().SignatureMethod = 7
		_, err := w.signer(sig)
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
	})
}

func reset(s *accessservicev2.AccessKeySignature) *accessservicev2.AccessKeySignature {
	proto.Reset(s)
	return s
}

func TestAccessKeyLife(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		made := w.accessKey(account)
		k, now := made.GetAccessKey(), w.service.now()
		if _, err := w.signer(sign4(k.GetKeyId(), made.GetSecret(), now, "r", "s3")); err != nil {
			t.Fatal(err)
		}
		got, err := w.static.Get(w.asOwner, &awsv1.GetAccessKeyRequest{AccessKeyId: k.GetId()})
		if err != nil || got.GetKeyId() != k.GetKeyId() || got.GetServiceAccountId() != account || got.GetLastUsedAt() == nil {
			t.Errorf("got %v, %v", got, err)
		}
		_, err = w.static.Get(w.asOwner, &awsv1.GetAccessKeyRequest{AccessKeyId: k.GetKeyId()})
		wantCode(t, err, codes.NotFound, ReasonAccessKeyNotFound)
		op, err := w.static.Update(w.asOwner, &awsv1.UpdateAccessKeyRequest{AccessKeyId: k.GetId(), Description: "new"})
		w.must(err)
		w.must(op.GetResponse().UnmarshalTo(got))
		if got.GetDescription() != "new" || op.GetMetadata().UnmarshalTo(new(awsv1.UpdateAccessKeyMetadata)) != nil {
			t.Errorf("updated %v", op)
		}
		_, err = w.static.Update(w.asOwner, &awsv1.UpdateAccessKeyRequest{AccessKeyId: k.GetId(), UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"key_id"}}})
		wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		ops, err := w.static.ListOperations(w.asOwner, &awsv1.ListAccessKeyOperationsRequest{AccessKeyId: k.GetId()})
		if err != nil || len(ops.GetOperations()) != 1 || !proto.Equal(ops.GetOperations()[0], op) {
			t.Errorf("operations %v, %v", ops, err)
		}
		op, err = w.static.Delete(w.asOwner, &awsv1.DeleteAccessKeyRequest{AccessKeyId: k.GetId()})
		w.must(err)
		if !op.GetDone() || op.GetMetadata().UnmarshalTo(new(awsv1.DeleteAccessKeyMetadata)) != nil {
			t.Errorf("deleted %v", op)
		}
		_, err = w.signer(sign4(k.GetKeyId(), made.GetSecret(), now, "r", "s3"))
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		if e := w.events(); e["CreateAccessKey"] != 1 || e["UpdateAccessKey"] != 1 || e["DeleteAccessKey"] != 1 {
			t.Errorf("events %v", e)
		}
	})
}

// A temporary key signs like any other until its end, and nothing shows it.
func TestTemporaryAccessKeys(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		account := w.account("robot")
		create := func(req *awsv1.CreateEphemeralAccessKeyRequest) (*awsv1.CreateEphemeralAccessKeyResponse, error) {
			req.SubjectId = account
			made, err := w.temporary.CreateEphemeral(w.asOwner, req)
			if err == nil {
				w.secrets = append(w.secrets, made.GetSecret(), made.GetSessionToken())
			}
			return made, err
		}
		made, err := create(&awsv1.CreateEphemeralAccessKeyRequest{SessionName: "upload", Duration: durationpb.New(time.Hour)})
		w.must(err)
		if left := made.GetExpiresAt().AsTime().Sub(w.service.now()); left > time.Hour || left < 59*time.Minute || made.GetSessionToken() == "" {
			t.Errorf("made a key for %v", left)
		}
		sign := func() (string, error) {
			return w.signer(sign4(made.GetAccessKeyId(), made.GetSecret(), w.service.now(), "r", "s3"))
		}
		if who, err := sign(); err != nil || who != account {
			t.Errorf("signed by %q, %v", who, err)
		}
		listed, err := w.static.List(w.asOwner, &awsv1.ListAccessKeysRequest{ServiceAccountId: account})
		if err != nil || len(listed.GetAccessKeys()) != 0 {
			t.Errorf("listed %v, %v", listed, err)
		}
		usual, err := create(&awsv1.CreateEphemeralAccessKeyRequest{SessionName: "usual"})
		w.must(err)
		if left := usual.GetExpiresAt().AsTime().Sub(w.service.now()); left > defaultTemporary || left < defaultTemporary-time.Minute {
			t.Errorf("by default for %v", left)
		}
		w.advance(61 * time.Minute)
		_, err = sign()
		wantCode(t, err, codes.Unauthenticated, ReasonCredentialsInvalid)
		_, err = create(&awsv1.CreateEphemeralAccessKeyRequest{SessionName: "next"}) // sweeps what has ended
		w.must(err)
		var n int
		w.must(w.db.QueryRowContext(t.Context(), `SELECT COUNT(*) FROM identity_access_keys`).Scan(&n))
		if n != 2 {
			t.Errorf("%d keys are kept, want the two that are good", n)
		}
		for name, req := range map[string]*awsv1.CreateEphemeralAccessKeyRequest{
			"a policy":        {SessionName: "s", Policy: `{"Version":"2012-10-17"}`},
			"no session name": {},
			"too short":       {SessionName: "s", Duration: durationpb.New(14 * time.Minute)},
			"too long":        {SessionName: "s", Duration: durationpb.New(366 * 24 * time.Hour)},
		} {
			_, err := create(req)
			t.Log(name)
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
		}
	})
}

// A rotated seal key seals anew at the next start, and is then enough.
func TestAccessKeysAreSealedAnew(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		made := w.accessKey(w.account("robot"))
		if err := secret.RotateSealKey(filepath.Join(w.DataDir, secret.SealKeyFile)); err != nil {
			t.Fatal(err)
		}
		var err error
		w.service.sealer, err = secret.EnsureSealer(w.DataDir)
		w.must(err)
		signed := func() {
			t.Helper()
			_, err := w.signer(sign4(made.GetAccessKey().GetKeyId(), made.GetSecret(), w.service.now(), "r", "s3"))
			w.must(err)
		}
		signed() // by the old key, which still opens
		w.must(w.service.resealAccessKeys(t.Context()))
		k, err := w.service.store.AccessKey(t.Context(), w.db, made.GetAccessKey().GetId())
		if err != nil || !w.service.sealer.Fresh(k.Secret) {
			t.Errorf("not sealed anew: %v", err)
		}
		signed()
	})
}

// The secrets of access keys are sealed for their row.
func TestAccessKeysAreSealed(t *testing.T) {
	withKeys(t, func(t *testing.T, w *keySuite) {
		a, b := w.accessKey(w.account("robot")), w.accessKey(w.account("other"))
		for _, made := range []*awsv1.CreateAccessKeyResponse{a, b} {
			k, err := w.service.store.AccessKey(t.Context(), w.db, made.GetAccessKey().GetId())
			w.must(err)
			opened, err := w.service.sealer.Open(sealedAccessKeys.Purpose(k.ID), k.Secret)
			if err != nil || string(opened) != made.GetSecret() {
				t.Errorf("opened %q, %v", opened, err)
			}
		}
		_, err := w.db.Pool().ExecContext(t.Context(), `
			UPDATE identity_access_keys SET secret = (SELECT secret FROM identity_access_keys WHERE id = $1) WHERE id = $2`,
			a.GetAccessKey().GetId(), b.GetAccessKey().GetId())
		w.must(err)
		_, err = w.signer(sign4(b.GetAccessKey().GetKeyId(), a.GetSecret(), w.service.now(), "r", "s3"))
		wantCode(t, err, codes.Unavailable, apierr.ReasonUnavailable) // nobody can tell, so nobody is let in
	})
}
