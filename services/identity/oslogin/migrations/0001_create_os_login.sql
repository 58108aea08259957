-- How the people of organizations sign in to machines. Times are microseconds UTC, 0 for
-- none.

-- An organization without a row has everything off.
CREATE TABLE identity_os_login_settings (
	organization_id {{text}} PRIMARY KEY,
	ssh_keys        BOOLEAN NOT NULL,
	own_keys        BOOLEAN NOT NULL,
	certificates    BOOLEAN NOT NULL
) {{strict}};

CREATE TABLE identity_os_login_profiles (
	id              {{text}} PRIMARY KEY,
	organization_id {{text}} NOT NULL,
	subject_id      {{text}} NOT NULL,
	login           {{text}} NOT NULL,
	uid             BIGINT NOT NULL,
	home_directory  TEXT NOT NULL,
	shell           TEXT NOT NULL,
	is_default      BOOLEAN NOT NULL,
	created_at      BIGINT NOT NULL,
	CONSTRAINT identity_os_login_profiles_organization_id_login_key UNIQUE (organization_id, login),
	CONSTRAINT identity_os_login_profiles_organization_id_uid_key UNIQUE (organization_id, uid)
) {{strict}};

CREATE UNIQUE INDEX identity_os_login_profiles_default ON identity_os_login_profiles (organization_id, subject_id) WHERE is_default;
CREATE INDEX identity_os_login_profiles_by_organization ON identity_os_login_profiles (organization_id, created_at, id);
CREATE INDEX identity_os_login_profiles_by_subject ON identity_os_login_profiles (subject_id);

-- data is a line of an authorized_keys file.
CREATE TABLE identity_user_ssh_keys (
	id              {{text}} PRIMARY KEY,
	organization_id {{text}} NOT NULL,
	subject_id      {{text}} NOT NULL,
	name            TEXT NOT NULL,
	data            TEXT NOT NULL,
	fingerprint     {{text}} NOT NULL,
	created_at      BIGINT NOT NULL,
	expires_at      BIGINT NOT NULL,
	UNIQUE (organization_id, subject_id, fingerprint)
) {{strict}};

CREATE INDEX identity_user_ssh_keys_by_organization ON identity_user_ssh_keys (organization_id, created_at, id);
CREATE INDEX identity_user_ssh_keys_by_subject ON identity_user_ssh_keys (subject_id);

-- Who signs the SSH certificates of an organization; the private key is sealed.
CREATE TABLE identity_ssh_authorities (
	organization_id {{text}} PRIMARY KEY,
	private_key     {{blob}} NOT NULL,
	created_at      BIGINT NOT NULL
) {{strict}};
