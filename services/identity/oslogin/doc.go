// Package oslogin is how the people of an organization sign in to its machines: what the
// organization allows, by which login each of them, by which SSH keys, and certificates
// that it signs for an hour. The unit identity serves it.
//
// It owns the tables identity_os_login_settings, identity_os_login_profiles,
// identity_user_ssh_keys and identity_ssh_authorities, and serves
// yandex.cloud.organizationmanager.v1: OsLoginService, UserSshKeyService,
// SshCertificateService; and bindery.identity.v1.SshAuthorityService, which tells machines
// whom to trust.
//
// Profiles and keys belong to members of the organization (RH-6), and go when the member
// leaves or is deleted, and with the organization. That everybody may manage their own
// keys is a setting; whoever may manage those of others needs no setting.
//
// Rules: GR-6 (leaving), RH-6, QL (profiles of an organization), AU-3, AU-4.
package oslogin
