-- Programs that may ask people to sign in to them. Lists are JSON arrays. Times are
-- microseconds UTC.
CREATE TABLE identity_oauth_clients (
	id                        {{text}} PRIMARY KEY,
	folder_id                 {{text}} NOT NULL,
	cloud_id                  {{text}} NOT NULL,
	name                      {{text}} NOT NULL,
	profile                   {{text}} NOT NULL,
	pkce_required             BOOLEAN NOT NULL,
	redirect_uris             TEXT NOT NULL,
	post_logout_redirect_uris TEXT NOT NULL,
	scopes                    TEXT NOT NULL,
	authentication_methods    TEXT NOT NULL,
	created_at                BIGINT NOT NULL
) {{strict}};

CREATE INDEX identity_oauth_clients_by_folder ON identity_oauth_clients (folder_id, created_at, id);
CREATE INDEX identity_oauth_clients_by_cloud ON identity_oauth_clients (cloud_id);

-- Of the value only its SHA-256 is kept, and its end.
CREATE TABLE identity_oauth_client_secrets (
	id          {{text}} PRIMARY KEY,
	client_id   {{text}} NOT NULL REFERENCES identity_oauth_clients (id) ON DELETE CASCADE,
	hash        {{blob}} NOT NULL UNIQUE,
	mask        {{text}} NOT NULL,
	description TEXT NOT NULL,
	created_at  BIGINT NOT NULL
) {{strict}};

CREATE INDEX identity_oauth_client_secrets_by_client ON identity_oauth_client_secrets (client_id, created_at, id);
