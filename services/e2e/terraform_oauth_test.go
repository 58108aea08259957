package e2e

import (
	"strings"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/emptypb"

	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
)

// oauthClients is the rows of yandex_iam_oauth_client and its secret. The value of a
// secret is read out of the response of the operation that makes it, which is done at once.
func (p *provider) oauthClients() {
	clients, secrets := iamv1.NewOAuthClientServiceClient(p.conn), iamv1.NewOAuthClientSecretServiceClient(p.conn)
	op, err := clients.Create(p.ctx(), &iamv1.CreateOAuthClientRequest{
		FolderId: p.folder, Name: "tf-client", Scopes: []string{"iam"}, RedirectUris: []string{"https://app.example.com/back"}, PkceRequired: true,
	})
	client := done(p, op, err, new(iamv1.OAuthClient))
	named(p, op, "oauth_client_id", client.GetId())
	if client.GetStatus() != iamv1.OAuthClient_ACTIVE || client.GetProfileId() == "" || len(client.GetAuthenticationMethods()) == 0 || !client.GetPkceRequired() {
		p.t.Errorf("created %v", client)
	}
	get := &iamv1.GetOAuthClientRequest{OauthClientId: client.GetId()}
	read, err := clients.Get(p.ctx(), get)
	p.same(client, read, err)
	op, err = clients.Update(p.ctx(), &iamv1.UpdateOAuthClientRequest{
		OauthClientId: client.GetId(), UpdateMask: fields("redirect_uris", "scopes"), Scopes: []string{"iam", "email"},
		RedirectUris: []string{"https://app.example.com/back", "http://127.0.0.1:8080/back"},
	})
	client.Scopes, client.RedirectUris = []string{"iam", "email"}, []string{"https://app.example.com/back", "http://127.0.0.1:8080/back"}
	p.same(client, done(p, op, err, new(iamv1.OAuthClient)), nil)
	named(p, op, "oauth_client_id", client.GetId())
	read, err = clients.Get(p.ctx(), get)
	p.same(client, read, err)

	ctx := metadata.AppendToOutgoingContext(p.ctx(), "idempotency-key", uuid.NewString())
	create := &iamv1.CreateOAuthClientSecretRequest{OauthClientId: client.GetId(), Description: "by the provider"}
	op, err = secrets.Create(ctx, create)
	made := done(p, op, err, new(iamv1.CreateOAuthClientSecretResponse))
	secret := made.GetOauthClientSecret()
	named(p, op, "oauth_client_secret_id", secret.GetId())
	value, end := made.GetSecretValue(), strings.TrimLeft(secret.GetMaskedSecret(), "*")
	if value == "" || end == "" || len(end) > 8 || !strings.HasSuffix(value, end) || !secret.GetCreatedAt().IsValid() {
		p.t.Errorf("created %v, with a value: %t", secret, value != "")
	}
	op, err = secrets.Create(ctx, create) // sent again
	p.same(made, done(p, op, err, new(iamv1.CreateOAuthClientSecretResponse)), nil)
	kept, err := operationpb.NewOperationServiceClient(p.conn).Get(p.ctx(), &operationpb.GetOperationRequest{OperationId: op.GetId()})
	p.must(err)
	if strings.Contains(kept.String(), value) {
		p.t.Error("the operation shows the value of the secret a second time")
	}
	getSecret := &iamv1.GetOAuthClientSecretRequest{OauthClientSecretId: secret.GetId()}
	readSecret, err := secrets.Get(p.ctx(), getSecret)
	p.same(secret, readSecret, err)
	op, err = secrets.Delete(p.ctx(), &iamv1.DeleteOAuthClientSecretRequest{OauthClientSecretId: secret.GetId()})
	done(p, op, err, new(emptypb.Empty))
	_, err = secrets.Get(p.ctx(), getSecret)
	p.code(err, codes.NotFound)

	op, err = clients.Delete(p.ctx(), &iamv1.DeleteOAuthClientRequest{OauthClientId: client.GetId()})
	done(p, op, err, new(emptypb.Empty))
	named(p, op, "oauth_client_id", client.GetId())
	_, err = clients.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = clients.Delete(p.ctx(), &iamv1.DeleteOAuthClientRequest{OauthClientId: client.GetId()})
	p.code(err, codes.NotFound)
}
