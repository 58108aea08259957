-- Login sessions, each known by the id of its refresh token. session_id is in the
-- IAM tokens of the session, 16 bytes. REVOKED lasts until the permission checker
-- knows it; then the session is gone. uses counts the refresh tokens that were spent.
CREATE TABLE identity_sessions (
	id                   {{text}} PRIMARY KEY,
	session_id           {{blob}} NOT NULL,
	user_id              {{text}} NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE,
	client_id            {{text}} NOT NULL,
	client_instance_info {{text}} NOT NULL,
	state                {{text}} NOT NULL,
	created_at           BIGINT NOT NULL,
	expires_at           BIGINT NOT NULL,
	last_used_at         BIGINT NOT NULL,
	uses                 BIGINT NOT NULL,
	CONSTRAINT identity_sessions_state_check CHECK (state IN ('ACTIVE', 'REVOKED'))
) {{strict}};

CREATE INDEX identity_sessions_by_user ON identity_sessions (user_id, created_at, id);
CREATE INDEX identity_sessions_expires ON identity_sessions (expires_at);

-- Refresh tokens, of which only the SHA-256 is kept: of each session the one to use
-- next, and those that were used, so that one that is used again is noticed.
CREATE TABLE identity_refresh_tokens (
	hash    {{blob}} PRIMARY KEY,
	session {{text}} NOT NULL REFERENCES identity_sessions (id) ON DELETE CASCADE,
	used    BOOLEAN NOT NULL
) {{strict}};

CREATE INDEX identity_refresh_tokens_session ON identity_refresh_tokens (session);
