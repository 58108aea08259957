package oauthclients

import "github.com/bindery-iam/bindery/pkg/apierr"

// Reasons of refusals.
const (
	ReasonClientNotFound = "OAUTH_CLIENT_NOT_FOUND"
	ReasonSecretNotFound = "OAUTH_CLIENT_SECRET_NOT_FOUND"
	ReasonNoSecrets      = "OAUTH_CLIENT_HAS_NO_SECRETS"
)

// Every "no" about OAuth clients.
var (
	errClientNotFound = apierr.NotFound(ReasonClientNotFound, "OAuth client not found")
	errSecretNotFound = apierr.NotFound(ReasonSecretNotFound, "OAuth client secret not found")
	errNoSecrets      = apierr.Precondition(ReasonNoSecrets, "the OAuth client proves itself by nothing: its authentication method is %s", methodNone)
)
