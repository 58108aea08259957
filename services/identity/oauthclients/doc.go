// Package oauthclients keeps the OAuth clients of an installation: the programs that may
// ask people to sign in to them, and the secrets by which they prove themselves (RFC 6749,
// RFC 7591). The unit identity serves it.
//
// It owns the tables identity_oauth_clients and identity_oauth_client_secrets, and serves
// yandex.cloud.iam.v1: OAuthClientService, OAuthClientSecretService.
//
// A client lies in a folder and goes with it (DL-6); rights on it are those on the folder,
// since it has no access bindings of its own (RH-9). Its profile says which kind of
// program it is, and what may be said of it: where it may send people back to, how it
// proves itself, and that it proves to have begun what it ends (RFC 7636). A secret is
// shown once; its hash is what is kept.
//
// Rules: RH-9, DL-6, AU-2.
package oauthclients
