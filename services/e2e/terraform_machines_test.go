package e2e

import (
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	orgv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/organizationmanager/v1"
)

// osLoginSettings is the row of yandex_organizationmanager_os_login_settings: both
// settings are always in the mask, a block that is not in the configuration is not in the
// message, and deleting the resource calls nothing.
func (p *provider) osLoginSettings() {
	logins := orgv1.NewOsLoginServiceClient(p.conn)
	mask := fields("user_ssh_key_settings", "ssh_certificate_settings")
	for _, tt := range []struct {
		keys         *orgv1.UpdateOsLoginSettingsRequest_UserSshKeySettings
		certificates *orgv1.UpdateOsLoginSettingsRequest_SshCertificateSettings
		want         *orgv1.OsLoginSettings
	}{
		{
			&orgv1.UpdateOsLoginSettingsRequest_UserSshKeySettings{Enabled: true, AllowManageOwnKeys: true},
			&orgv1.UpdateOsLoginSettingsRequest_SshCertificateSettings{Enabled: true},
			&orgv1.OsLoginSettings{
				UserSshKeySettings:     &orgv1.UserSshKeySettings{Enabled: true, AllowManageOwnKeys: true},
				SshCertificateSettings: &orgv1.SshCertificateSettings{Enabled: true},
			},
		},
		{
			&orgv1.UpdateOsLoginSettingsRequest_UserSshKeySettings{Enabled: true}, nil,
			&orgv1.OsLoginSettings{UserSshKeySettings: &orgv1.UserSshKeySettings{Enabled: true}, SshCertificateSettings: new(orgv1.SshCertificateSettings)},
		},
	} {
		op, err := logins.UpdateSettings(p.ctx(), &orgv1.UpdateOsLoginSettingsRequest{
			OrganizationId: p.org, UserSshKeySettings: tt.keys, SshCertificateSettings: tt.certificates, UpdateMask: mask,
		})
		p.same(tt.want, done(p, op, err, new(orgv1.OsLoginSettings)), nil)
		named(p, op, "organization_id", p.org)
		read, err := logins.GetSettings(p.ctx(), &orgv1.GetOsLoginSettingsRequest{OrganizationId: p.org})
		p.same(tt.want, read, err)
	}
	_, err := logins.GetSettings(p.ctx(), &orgv1.GetOsLoginSettingsRequest{OrganizationId: "org00000000000000000"})
	p.code(err, codes.NotFound)
}

// userSSHKeys is the row of yandex_organizationmanager_user_ssh_key.
func (p *provider) userSSHKeys() {
	keys := orgv1.NewUserSshKeyServiceClient(p.conn)
	public, _, err := ed25519.GenerateKey(rand.Reader)
	p.must(err)
	key, err := ssh.NewPublicKey(public)
	p.must(err)
	data := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
	end := timestamppb.New(time.Now().Add(24 * time.Hour).Truncate(time.Second))
	op, err := keys.Create(p.ctx(), &orgv1.CreateUserSshKeyRequest{
		OrganizationId: p.org, SubjectId: p.user, Data: data, Name: "tf-key", ExpiresAt: end,
	})
	made := done(p, op, err, new(orgv1.UserSshKey))
	named(p, op, "user_ssh_key_id", made.GetId())
	if made.GetFingerprint() != ssh.FingerprintSHA256(key) || !made.GetCreatedAt().IsValid() || made.GetData() != data {
		p.t.Errorf("created %v", made)
	}
	get := &orgv1.GetUserSshKeyRequest{UserSshKeyId: made.GetId()}
	read, err := keys.Get(p.ctx(), get)
	p.same(made, read, err)
	op, err = keys.Update(p.ctx(), &orgv1.UpdateUserSshKeyRequest{UserSshKeyId: made.GetId(), Name: "tf-key-2", UpdateMask: fields("expires_at", "name")})
	made.Name, made.ExpiresAt = "tf-key-2", nil
	p.same(made, done(p, op, err, new(orgv1.UserSshKey)), nil)
	named(p, op, "user_ssh_key_id", made.GetId())
	read, err = keys.Get(p.ctx(), get)
	p.same(made, read, err)
	op, err = keys.Delete(p.ctx(), &orgv1.DeleteUserSshKeyRequest{UserSshKeyId: made.GetId()})
	done(p, op, err, new(emptypb.Empty))
	_, err = keys.Get(p.ctx(), get)
	p.code(err, codes.NotFound)
	_, err = keys.Delete(p.ctx(), &orgv1.DeleteUserSshKeyRequest{UserSshKeyId: made.GetId()})
	p.code(err, codes.NotFound)
}
