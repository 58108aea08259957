// Package identity is the unit identity: who the subjects of an installation are,
// and the IAM tokens by which they prove it.
//
// It owns the tables identity_users, identity_oauth_tokens and
// identity_signing_keys, and serves
//
//   - yandex.cloud.iam.v1: IamTokenService, UserAccountService,
//     YandexPassportUserAccountService;
//   - bindery.identity.v1.SigningKeyService to the other units, which verify
//     tokens by these keys on their own;
//   - bindery.identity.v1.OperatorService on the operator socket.
//
// What decides about a subject (that it exists, its state, which of its tokens
// were revoked) is a fact of the unit accessbindings. So a new user is registered
// there before CreateUser answers, and a revocation is in force there before
// Revoke answers, each as a durable job: late, at worst, and never lost.
//
// Keys: one signs, the next one is made and handed out before it is needed, and a
// retired one stays in the list for as long as a token signed by it may live; its
// private part is destroyed at once. Private keys lie in the unit's own table:
// whoever reads the database of this unit could as well write users into it.
//
// Epoch: every token carries that of the store, and is good in it only. A restored
// backup begins a new one (services/backup), so that no token of a lost line names
// somebody whom the restored store knows otherwise.
//
// Rules: TK-1 (12 hours), TK-2, TK-3 (revoking), TK-6 (looking up), AU-3.
package identity
