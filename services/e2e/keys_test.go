package e2e

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	awsv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/awscompatibility"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// TestSecretKeys uses the API key and the access key of a service account through
// kills: what was acknowledged is accepted, what was deleted is refused, within the
// scopes of the key, and no secret is in a log.
func TestSecretKeys(t *testing.T) {
	eachForm(t, func(t *testing.T, s *server) {
		w := newWorld(t, s)
		k := w.secretKeys(t)
		restart := func() {
			for _, one := range append([]*server{s}, s.beside...) {
				one.kill()
			}
			s.start()
			w.connect(t)
		}
		const get, update = "resource-manager.folders.get", "resource-manager.folders.update"
		for range 2 { // before and after
			for permission, want := range map[string]codes.Code{get: codes.OK, update: codes.PermissionDenied} {
				if err := w.mayWithKey(k, permission); status.Code(err) != want {
					t.Errorf("%s by the key: %v, want %v", permission, err, want)
				}
			}
			if err := w.signs(k, time.Now()); err != nil {
				t.Errorf("signature: %v", err)
			}
			if err := w.signs(k, time.Now().Add(-time.Hour)); status.Code(err) != codes.Unauthenticated {
				t.Errorf("signature, an hour old: %v", err)
			}
			restart()
		}
		as := w.as(w.owner)
		if _, err := iamv1.NewApiKeyServiceClient(w.conn).Delete(as, &iamv1.DeleteApiKeyRequest{ApiKeyId: k.api.GetApiKey().GetId()}); err != nil {
			t.Fatal(err)
		}
		if _, err := awsv1.NewAccessKeyServiceClient(w.conn).Delete(as, &awsv1.DeleteAccessKeyRequest{AccessKeyId: k.static.GetAccessKey().GetId()}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := w.mayWithKey(k, get); status.Code(err) != codes.Unauthenticated {
				t.Errorf("deleted API key: %v", err)
			}
			if err := w.signs(k, time.Now()); status.Code(err) != codes.Unauthenticated {
				t.Errorf("deleted access key: %v", err)
			}
			restart()
		}
		for _, server := range append([]*server{s}, s.beside...) {
			for _, secret := range []string{k.api.GetSecret(), k.static.GetSecret()} {
				if bytes.Contains(server.log.tail(maxLog), []byte(secret)) {
					t.Errorf("a secret is in the log of %v", server.units)
				}
			}
		}
	})
}

// secretKeys are the keys of a service account that views a folder.
type secretKeys struct {
	folder string
	api    *iamv1.CreateApiKeyResponse
	static *awsv1.CreateAccessKeyResponse
}

func (w *world) secretKeys(t *testing.T) secretKeys {
	t.Helper()
	as := w.as(w.owner)
	clouds, err := w.clouds().List(as, &rmv1.ListCloudsRequest{OrganizationId: w.org})
	if err != nil {
		t.Fatal(err)
	}
	k := secretKeys{folder: w.folder(t, clouds.GetClouds()[0].GetId(), "keys")}
	op, err := iamv1.NewServiceAccountServiceClient(w.conn).Create(as, &iamv1.CreateServiceAccountRequest{FolderId: k.folder, Name: "robot"})
	if err != nil {
		t.Fatal(err)
	}
	account := new(iamv1.ServiceAccount)
	if err := op.GetResponse().UnmarshalTo(account); err != nil {
		t.Fatal(err)
	}
	_, err = w.folders().UpdateAccessBindings(as, &accesspb.UpdateAccessBindingsRequest{
		ResourceId: k.folder, AccessBindingDeltas: []*accesspb.AccessBindingDelta{{
			Action: accesspb.AccessBindingAction_ADD,
			AccessBinding: &accesspb.AccessBinding{
				RoleId: "editor", Subject: &accesspb.Subject{Type: "serviceAccount", Id: account.GetId()},
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	k.api, err = iamv1.NewApiKeyServiceClient(w.conn).Create(as, &iamv1.CreateApiKeyRequest{
		ServiceAccountId: account.GetId(), Scopes: []string{"yc.resource-manager.view"},
	})
	if err != nil {
		t.Fatal(err)
	}
	k.static, err = awsv1.NewAccessKeyServiceClient(w.conn).Create(as, &awsv1.CreateAccessKeyRequest{ServiceAccountId: account.GetId()})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// mayWithKey asks whether the API key may do something in its folder.
func (w *world) mayWithKey(k secretKeys, permission string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	_, err := w.access().Authorize(ctx, &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_ApiKey{ApiKey: k.api.GetSecret()}, Permission: permission,
		ResourcePath: []*accessservicev2.Resource{{Type: "resource-manager.folder", Id: k.folder}},
	})
	return err
}

// signs asks whose signature of Version 4 the access key makes at a time.
func (w *world) signs(k secretKeys, at time.Time) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	at = at.UTC().Truncate(time.Second)
	scope := at.Format("20060102") + "/ru-central1/s3/aws4_request"
	text := fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%064x", at.Format("20060102T150405Z"), scope, 1)
	key := []byte("AWS4" + k.static.GetSecret())
	for _, part := range append(strings.Split(scope, "/"), text) {
		h := hmac.New(sha256.New, key)
		h.Write([]byte(part))
		key = h.Sum(nil)
	}
	_, err := w.access().Authenticate(ctx, &accessservicev2.AuthenticateRequest{
		Credentials: &accessservicev2.AuthenticateRequest_Signature{Signature: &accessservicev2.AccessKeySignature{
			AccessKeyId: k.static.GetAccessKey().GetKeyId(), StringToSign: text, Signature: fmt.Sprintf("%x", key),
			Parameters: &accessservicev2.AccessKeySignature_V4Parameters{V4Parameters: &accessservicev2.AccessKeySignature_Version4Parameters{
				SignedAt: timestamppb.New(at), Service: "s3", Region: "ru-central1",
			}},
		}},
	})
	return err
}
