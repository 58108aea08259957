-- Authorized keys (SK-3), of which the public part alone is kept, in DER. Each is of
-- one service account or one user, and goes with it (SK-2). last_used_at is 0 while
-- the key was never used.
CREATE TABLE identity_authorized_keys (
	id           {{text}} PRIMARY KEY,
	account_id   {{text}} REFERENCES identity_service_accounts (id) ON DELETE CASCADE,
	user_id      {{text}} REFERENCES identity_users (id) ON DELETE CASCADE,
	algorithm    {{text}} NOT NULL,
	public_key   {{blob}} NOT NULL,
	description  TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL,
	CONSTRAINT identity_authorized_keys_holder_check CHECK ((account_id IS NULL) <> (user_id IS NULL)),
	CONSTRAINT identity_authorized_keys_algorithm_check CHECK (algorithm IN ('RSA_2048', 'RSA_4096'))
) {{strict}};

CREATE INDEX identity_authorized_keys_by_account ON identity_authorized_keys (account_id, created_at, id);
CREATE INDEX identity_authorized_keys_by_user ON identity_authorized_keys (user_id, created_at, id);
