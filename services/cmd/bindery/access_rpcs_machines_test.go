package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	identityv1 "github.com/bindery-iam/bindery/proto/gen/go/bindery/identity/v1"
	operationpb "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/operation"
	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

const (
	osLoginService    = "yandex.cloud.organizationmanager.v1.OsLoginService/"
	userSSHKeyService = "yandex.cloud.organizationmanager.v1.UserSshKeyService/"
)

// machineRPCs are about signing in to the machines of an organization.
var machineRPCs = []rpc{
	{
		method: osLoginService + "GetSettings", on: organization, guard: needs("organization-manager.osLogins.get"),
		request: func(n *node) proto.Message { return &orgv1.GetOsLoginSettingsRequest{OrganizationId: n.id} },
	},
	{
		method: osLoginService + "UpdateSettings", on: organization, guard: needs("organization-manager.osLogins.update"),
		request: func(n *node) proto.Message {
			return &orgv1.UpdateOsLoginSettingsRequest{OrganizationId: n.id, UpdateMask: mask("ssh_certificate_settings")}
		},
	},
	{
		method: osLoginService + "GetProfile", on: organization, guard: needs("organization-manager.osLogins.get"), prepare: haveProfile,
		request: func(n *node) proto.Message { return &orgv1.GetOsLoginProfileRequest{OsLoginProfileId: n.key} },
	},
	{
		method: osLoginService + "ListProfiles", on: organization, guard: needs("organization-manager.osLogins.get"),
		request: func(n *node) proto.Message { return &orgv1.ListOsLoginProfilesRequest{OrganizationId: n.id} },
	},
	{
		method: osLoginService + "CreateProfile", on: organization, guard: needs("organization-manager.osLogins.update"), prepare: haveMember,
		request: func(n *node) proto.Message { return newProfile(n) },
	},
	{
		method: osLoginService + "UpdateProfile", on: organization, guard: needs("organization-manager.osLogins.update"), prepare: haveProfile,
		request: func(n *node) proto.Message {
			return &orgv1.UpdateOsLoginProfileRequest{OsLoginProfileId: n.key, Login: "changed", Uid: 2000, UpdateMask: mask("uid")}
		},
	},
	{
		method: osLoginService + "SetDefaultProfile", on: organization, guard: needs("organization-manager.osLogins.update"), prepare: haveProfile,
		request: func(n *node) proto.Message { return &orgv1.SetDefaultOsLoginProfileRequest{OsLoginProfileId: n.key} },
	},
	{
		method: osLoginService + "DeleteProfile", on: organization, guard: needs("organization-manager.osLogins.update"), prepare: haveProfile,
		request: func(n *node) proto.Message { return &orgv1.DeleteOsLoginProfileRequest{Id: n.key} },
	},
	{
		method: userSSHKeyService + "Get", on: organization, guard: needs("organization-manager.userSshKeys.get"), prepare: haveSSHKey,
		request: func(n *node) proto.Message { return &orgv1.GetUserSshKeyRequest{UserSshKeyId: n.key} },
	},
	{
		method: userSSHKeyService + "List", on: organization, guard: needs("organization-manager.userSshKeys.get"), prepare: haveSSHKey,
		request: func(n *node) proto.Message { return &orgv1.ListUserSshKeysRequest{OrganizationId: n.id} },
	},
	{
		method: userSSHKeyService + "Create", on: organization, guard: needs("organization-manager.userSshKeys.update"), prepare: haveMember,
		request: func(n *node) proto.Message {
			return &orgv1.CreateUserSshKeyRequest{OrganizationId: n.id, SubjectId: n.member.id, Data: n.w.sshKey()}
		},
	},
	{
		method: userSSHKeyService + "Update", on: organization, guard: needs("organization-manager.userSshKeys.update"), prepare: haveSSHKey,
		request: func(n *node) proto.Message {
			return &orgv1.UpdateUserSshKeyRequest{UserSshKeyId: n.key, Name: "changed", UpdateMask: mask("name")}
		},
	},
	{
		method: userSSHKeyService + "Delete", on: organization, guard: needs("organization-manager.userSshKeys.update"), prepare: haveSSHKey,
		request: func(n *node) proto.Message { return &orgv1.DeleteUserSshKeyRequest{UserSshKeyId: n.key} },
	},
	{
		// For whoever has no profile there is nothing to certify.
		method: "yandex.cloud.organizationmanager.v1.SshCertificateService/Generate", guard: anySubject, inside: codes.NotFound,
		request: func(n *node) proto.Message {
			return &orgv1.GenerateSshCertificateRequest{
				Scope: &orgv1.GenerateSshCertificateRequest_OrganizationId{OrganizationId: "org00000000000000000"}, PublicKey: n.w.sshKey(),
			}
		},
	},
	{
		method: "bindery.identity.v1.SshAuthorityService/GetSshAuthority", on: organization, guard: needs("organization-manager.osLogins.get"),
		request: func(n *node) proto.Message { return &identityv1.GetSshAuthorityRequest{OrganizationId: n.id} },
	},
}

// sshKey is a new public key, as a line of a file.
func (w *accessWorld) sshKey() string {
	w.t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	w.must(err)
	key, err := ssh.NewPublicKey(public)
	w.must(err)
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

// newProfile asks for a profile of the member of an organization.
func newProfile(n *node) *orgv1.CreateOsLoginProfileRequest {
	return &orgv1.CreateOsLoginProfileRequest{OrganizationId: n.id, SubjectId: n.member.id, Login: n.w.unique(), Uid: int64(1000 + n.w.names)}
}

// haveProfile makes a profile of a new member of an organization.
func haveProfile(n *node) {
	haveMember(n)
	op, err := orgv1.NewOsLoginServiceClient(n.w.Conn).CreateProfile(n.w.as(n.owner), newProfile(n))
	n.key = n.w.madeWith(op, err, new(orgv1.OsLoginProfile))
}

// haveSSHKey makes an SSH key of a new member of an organization.
func haveSSHKey(n *node) {
	haveMember(n)
	op, err := orgv1.NewUserSshKeyServiceClient(n.w.Conn).Create(n.w.as(n.owner), &orgv1.CreateUserSshKeyRequest{
		OrganizationId: n.id, SubjectId: n.member.id, Data: n.w.sshKey(),
	})
	n.key = n.w.madeWith(op, err, new(orgv1.UserSshKey))
}

// madeWith is the id of what an operation made.
func (w *accessWorld) madeWith(op *operationpb.Operation, err error, into identified) string {
	w.t.Helper()
	w.must(err)
	return w.made(op, into)
}
