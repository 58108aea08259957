// Package identity is the unit identity: who the subjects of an installation are,
// and the IAM tokens by which they prove it.
//
// It owns the tables identity_users, identity_oauth_tokens and
// identity_signing_keys, and serves
//
//   - yandex.cloud.iam.v1: IamTokenService, UserAccountService,
//     YandexPassportUserAccountService;
//   - yandex.cloud.iam.v1: KeyService, RefreshTokenService, and
//     bindery.identity.v1.SessionService, over identity_authorized_keys,
//     identity_sessions and identity_refresh_tokens;
//   - yandex.cloud.iam.v1: ServiceAccountService, ApiKeyService and, of its packages awscompatibility
//     and workload, AccessKeyService, TemporaryAccessKeyService, FederationService and
//     FederatedCredentialService; bindery.identity.v1: ApiKeyTokenService, TokenExchangeService and,
//     to the other units, CredentialService;
//   - yandex.cloud.organizationmanager.v1.UserService,
//     yandex.cloud.iam.v1.SubjectDetailsService and
//     bindery.identity.v1.InvitationService, over identity_invitations: who belongs to
//     an organization, and who is asked to;
//   - bindery.identity.v1.SigningKeyService to everybody: units and services elsewhere
//     verify tokens by these keys on their own;
//   - bindery.identity.v1.DirectoryService to the other units, which learn from it
//     what subjects are called and where their mail goes;
//   - bindery.identity.v1.WebService to the gateway: what browsers are sent to;
//   - bindery.identity.v1.OperatorService on the operator socket.
//
// What decides about a subject (that it exists, its state, which of its tokens
// were revoked) is a fact of the unit accessbindings. So a new user is registered
// there before CreateUser answers, and a revocation is in force there before
// Revoke answers, each as a durable job: late, at worst, and never lost.
//
// Keys: one signs, the next one is made and handed out before it is needed, and a
// retired one stays in the list for as long as a token signed by it may live; its
// private part is destroyed at once. Private keys lie in the unit's own table, sealed
// by a key that is not in the database.
//
// Authorized keys (SK-3): the holder signs a JSON Web Token and exchanges it for an
// IAM token (package jwt). Of a key the public part alone is kept. Rights on it are
// those on its account; everybody may do with those of their own user account.
//
// Sessions (TK-5): a refresh token is spent by each use and replaced, for 30 days at
// most (RFC 9700, 4.14.2). One that comes again ends its session, unless the call
// has the idempotency key of the first one: then it is a client that lost the
// answer. What ends a session makes its IAM tokens void wherever they are used.
//
// Sign-in (package signin): people prove themselves to OpenID providers that the operator
// chose, over identity_external_logins, identity_spent, identity_login_codes and
// identity_device_logins. An issuer and a subject together are one user; an address that
// the provider vouches for leads to invitations, and never to a user that is there.
//
// Workloads elsewhere (package workload, rules WI): a job of a CI service or a pod of a
// cluster exchanges a token of its own issuer for an IAM token of a service account, over
// identity_workload_federations and identity_federated_credentials. Keys of issuers, like
// every document at an address that a tenant named, are read by package outbound, which
// reaches public addresses alone.
//
// Two parts of the unit have tables and services of their own, and say more in their own
// packages: oslogin, how the people of an organization sign in to its machines; and
// oauthclients, the programs that may ask people to sign in to them.
//
// Invitations: an organization invites an e-mail address, and who signs in to the
// account of that address answers; there is no secret in the mail. The address of an
// account is taken for its own, since the operator who made the account, or the provider
// by which its user signs in, vouches for it. Addresses are ASCII (package email) and compared without regard to case. Who
// becomes a member has no rights by that (RH-5), and who leaves loses all that it had
// there (GR-6): both are facts of accessbindings, changed by durable jobs.
//
// What is shown of people: login and id lead to each other for everybody (TK-6);
// names, addresses and phone numbers are for those who hold the permissions for them
// on an organization of the person, and for the person.
//
// Federations: SAML identity providers of organizations, with certificates, domains,
// users and a group mapping (tables identity_saml_*, identity_federated_users,
// identity_group_mapping*). A federated user is a row of identity_users that no login
// leads to, whose id says that it is one.
//
// Epoch: every token carries that of the store, and is good in it only. A restored
// backup begins a new one (services/backup), so that no token of a lost line names
// somebody whom the restored store knows otherwise.
//
// Rules: TK-1 (12 hours), TK-2, TK-3 (revoking), TK-5 (sessions), TK-6 (looking up), SK-3, SK-5, AU-3, CR-10
// (inviting), SU-10 (subject details), GR-6 and OW-3 (leaving), AU-4, SU-7 and
// AU-5 (federations), AS-19 (group mapping).
package identity
