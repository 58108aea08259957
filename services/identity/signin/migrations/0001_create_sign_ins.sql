-- Sign-in by providers. By which account of which issuer a user signs in. A user without an
-- address that its provider vouches for has its own id in email_folded, which is no
-- address and unique.
CREATE TABLE identity_external_logins (
	issuer       {{text}} NOT NULL,
	subject      {{text}} NOT NULL,
	user_id      {{text}} NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE,
	created_at   BIGINT NOT NULL,
	last_used_at BIGINT NOT NULL,
	PRIMARY KEY (issuer, subject)
) {{strict}};

CREATE INDEX identity_external_logins_user ON identity_external_logins (user_id);

-- What may be used once and was: the SHA-256 of states of sign-ins, until they would have
-- ended.
CREATE TABLE identity_spent (
	hash       {{blob}} PRIMARY KEY,
	expires_at BIGINT NOT NULL
) {{strict}};

CREATE INDEX identity_spent_expires ON identity_spent (expires_at);

-- Codes by which programs get sessions, of which only the SHA-256 is kept. session is that
-- of the person who allowed it.
CREATE TABLE identity_login_codes (
	hash       {{blob}} PRIMARY KEY,
	session    {{text}} NOT NULL REFERENCES identity_sessions (id) ON DELETE CASCADE,
	client_id  {{text}} NOT NULL,
	redirect   {{text}} NOT NULL,
	challenge  {{text}} NOT NULL,
	device     {{text}} NOT NULL,
	expires_at BIGINT NOT NULL
) {{strict}};

CREATE INDEX identity_login_codes_session ON identity_login_codes (session);
CREATE INDEX identity_login_codes_expires ON identity_login_codes (expires_at);

-- Programs that wait for a person elsewhere (RFC 8628). hash is the SHA-256 of what the
-- program holds. session is that of the person who said yes, '' before; denied is 1 for
-- one who said no.
CREATE TABLE identity_device_logins (
	hash       {{blob}} PRIMARY KEY,
	user_code  {{text}} NOT NULL UNIQUE,
	client_id  {{text}} NOT NULL,
	device     {{text}} NOT NULL,
	session    {{text}} NOT NULL,
	denied     BIGINT NOT NULL,
	asked_at   BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
) {{strict}};

CREATE INDEX identity_device_logins_expires ON identity_device_logins (expires_at);
