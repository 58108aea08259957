package e2e

import (
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	accesspb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/access"
	workloadv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload"
	oidcv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1/workload/oidc"
)

// workloads is the row of yandex_iam_workload_identity_oidc_federation, its bindings and
// its data source, and of yandex_iam_workload_identity_federated_credential. The provider
// sends disabled and reads enabled.
func (p *provider) workloads() {
	federations := oidcv1.NewFederationServiceClient(p.conn)
	op, err := federations.Create(p.ctx(), &oidcv1.CreateFederationRequest{
		FolderId: p.folder, Name: "tf-federation", Description: "by the provider", Disabled: true, Audiences: []string{"aud-1", "aud-2"},
		Issuer: "https://issuer.example", JwksUrl: "https://issuer.example/keys", Labels: map[string]string{"env": "test"},
	})
	f := done(p, op, err, new(oidcv1.Federation))
	named(p, op, "federation_id", f.GetId())
	if f.GetEnabled() || !f.GetCreatedAt().IsValid() || len(f.GetAudiences()) != 2 || f.GetIssuer() == "" || f.GetJwksUrl() == "" || f.GetLabels()["env"] != "test" {
		p.t.Errorf("created %v", f)
	}
	get := &oidcv1.GetFederationRequest{FederationId: f.GetId()}
	read, err := federations.Get(p.ctx(), get)
	p.same(f, read, err)
	list, err := federations.List(p.ctx(), &oidcv1.ListFederationsRequest{FolderId: p.folder, PageSize: 100})
	p.must(err)
	oneOf(p, list.GetFederations(), f)
	op, err = federations.Update(p.ctx(), &oidcv1.UpdateFederationRequest{FederationId: f.GetId(), UpdateMask: fields("disabled", "labels", "description")})
	f.Enabled, f.Labels, f.Description = true, nil, ""
	p.same(f, done(p, op, err, new(oidcv1.Federation)), nil)
	named(p, op, "federation_id", f.GetId())
	read, err = federations.Get(p.ctx(), get)
	p.same(f, read, err)

	binding := &accesspb.AccessBinding{RoleId: "iam.workloadIdentityFederations.user", Subject: &accesspb.Subject{Type: "userAccount", Id: p.user}}
	bindings, err := federations.ListAccessBindings(p.ctx(), &accesspb.ListAccessBindingsRequest{ResourceId: f.GetId(), PageSize: 1000})
	p.must(err)
	op, err = federations.SetAccessBindings(p.ctx(), &accesspb.SetAccessBindingsRequest{
		ResourceId: f.GetId(), AccessBindings: append(bindings.GetAccessBindings(), binding),
	})
	done(p, op, err, new(accesspb.AccessBindingsOperationResult))
	bindings, err = federations.ListAccessBindings(p.ctx(), &accesspb.ListAccessBindingsRequest{ResourceId: f.GetId(), PageSize: 1000})
	p.must(err)
	if len(bindings.GetAccessBindings()) != 1 || !proto.Equal(bindings.GetAccessBindings()[0], binding) {
		p.t.Errorf("bindings %v", bindings)
	}
	op, err = federations.SetAccessBindings(p.ctx(), &accesspb.SetAccessBindingsRequest{ResourceId: f.GetId()})
	done(p, op, err, new(accesspb.AccessBindingsOperationResult))

	credentials, account := workloadv1.NewFederatedCredentialServiceClient(p.conn), p.account("tf-workload")
	op, err = credentials.Create(p.ctx(), &workloadv1.CreateFederatedCredentialRequest{
		ServiceAccountId: account.GetId(), FederationId: f.GetId(), ExternalSubjectId: "repo:acme/app",
	})
	c := done(p, op, err, new(workloadv1.FederatedCredential))
	named(p, op, "federated_credential_id", c.GetId())
	if c.GetServiceAccountId() != account.GetId() || c.GetFederationId() != f.GetId() || c.GetExternalSubjectId() != "repo:acme/app" || !c.GetCreatedAt().IsValid() {
		p.t.Errorf("created %v", c)
	}
	getCredential := &workloadv1.GetFederatedCredentialRequest{FederatedCredentialId: c.GetId()}
	readCredential, err := credentials.Get(p.ctx(), getCredential)
	p.same(c, readCredential, err)
	op, err = credentials.Delete(p.ctx(), &workloadv1.DeleteFederatedCredentialRequest{FederatedCredentialId: c.GetId()})
	named(p, op, "federated_credential_id", c.GetId())
	done(p, op, err, new(emptypb.Empty))
	_, err = credentials.Get(p.ctx(), getCredential)
	p.code(err, codes.NotFound)
	op, err = federations.Delete(p.ctx(), &oidcv1.DeleteFederationRequest{FederationId: f.GetId()})
	named(p, op, "federation_id", f.GetId())
	done(p, op, err, new(emptypb.Empty))
	_, err = federations.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
}
