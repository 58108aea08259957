-- Users, what they sign in with, and the keys that sign IAM tokens. Times are
-- microseconds UTC. Logins and e-mail addresses are unique without regard to case:
-- the folded columns hold them in lower case.

CREATE TABLE identity_users (
	id                    {{text}} PRIMARY KEY,
	login                 {{text}} NOT NULL,
	login_folded          {{text}} NOT NULL UNIQUE,
	email                 {{text}} NOT NULL,
	email_folded          {{text}} NOT NULL UNIQUE,
	state                 {{text}} NOT NULL,
	created_at            BIGINT NOT NULL,
	last_authenticated_at BIGINT NOT NULL,
	CONSTRAINT identity_users_state_check CHECK (state IN ('CREATING', 'ACTIVE'))
) {{strict}};

-- OAuth-style tokens, of which only the SHA-256 is kept.
CREATE TABLE identity_oauth_tokens (
	hash       {{blob}} PRIMARY KEY,
	user_id    {{text}} NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE,
	created_at BIGINT NOT NULL
) {{strict}};

CREATE INDEX identity_oauth_tokens_user ON identity_oauth_tokens (user_id);

-- One key is NEXT, one ACTIVE, the others RETIRED; a retired key has no private
-- part any more.
CREATE TABLE identity_signing_keys (
	id          {{text}} PRIMARY KEY,
	state       {{text}} NOT NULL,
	public_key  {{blob}} NOT NULL,
	private_key {{blob}} NOT NULL,
	created_at  BIGINT NOT NULL,
	retired_at  BIGINT NOT NULL,
	CONSTRAINT identity_signing_keys_state_check CHECK (state IN ('NEXT', 'ACTIVE', 'RETIRED'))
) {{strict}};
