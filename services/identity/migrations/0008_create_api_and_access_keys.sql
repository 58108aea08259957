-- Credentials of service accounts that are secrets: API keys, of which only the
-- SHA-256 is kept, and access keys, whose secrets are sealed, since verifying a
-- signature needs them. Times are microseconds UTC, 0 for none.

-- scopes is a JSON array, never empty; mask the last characters of the secret.
CREATE TABLE identity_api_keys (
	id           {{text}} PRIMARY KEY,
	account_id   {{text}} NOT NULL REFERENCES identity_service_accounts (id) ON DELETE CASCADE,
	hash         {{blob}} NOT NULL UNIQUE,
	mask         {{text}} NOT NULL,
	scopes       TEXT NOT NULL,
	description  TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	expires_at   BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL
) {{strict}};

CREATE INDEX identity_api_keys_by_account ON identity_api_keys (account_id, created_at, id);

-- key_id names the key in what it signs. session is '' for a static key, and what a
-- temporary one was made for, which has an end.
CREATE TABLE identity_access_keys (
	id           {{text}} PRIMARY KEY,
	account_id   {{text}} NOT NULL REFERENCES identity_service_accounts (id) ON DELETE CASCADE,
	key_id       {{text}} NOT NULL UNIQUE,
	secret       {{blob}} NOT NULL,
	session      TEXT NOT NULL,
	description  TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	expires_at   BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL,
	CONSTRAINT identity_access_keys_temporary_check CHECK ((session = '') = (expires_at = 0))
) {{strict}};

CREATE INDEX identity_access_keys_by_account ON identity_access_keys (account_id, created_at, id);
CREATE INDEX identity_access_keys_ending ON identity_access_keys (expires_at) WHERE expires_at > 0;
