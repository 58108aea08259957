-- SAML federations. Times are microseconds UTC, 0 for none. labels is a JSON object.
-- operation is the one that makes or deletes the federation, '' when none is under
-- way.
CREATE TABLE identity_saml_federations (
	id                   {{text}} PRIMARY KEY,
	organization_id      {{text}} NOT NULL,
	name                 {{text}} NOT NULL,
	description          TEXT NOT NULL,
	labels               TEXT NOT NULL,
	cookie_max_age       BIGINT NOT NULL,
	auto_create          BOOLEAN NOT NULL,
	issuer               TEXT NOT NULL,
	sso_binding          {{text}} NOT NULL,
	sso_url              TEXT NOT NULL,
	encrypted_assertions BOOLEAN NOT NULL,
	force_authn          BOOLEAN NOT NULL,
	case_insensitive     BOOLEAN NOT NULL,
	state                {{text}} NOT NULL,
	operation            {{text}} NOT NULL,
	created_at           BIGINT NOT NULL,
	CONSTRAINT identity_saml_federations_state_check CHECK (state IN ('CREATING', 'ACTIVE', 'DELETING'))
) {{strict}};

-- NM-3: names are unique in the organization.
CREATE UNIQUE INDEX identity_saml_federations_organization_id_name_key ON identity_saml_federations (organization_id, name);
CREATE INDEX identity_saml_federations_by_organization ON identity_saml_federations (organization_id, created_at, id);

-- The certificates by which what an identity provider says is checked, in DER. An
-- empty name is no name.
CREATE TABLE identity_saml_certificates (
	id            {{text}} PRIMARY KEY,
	federation_id {{text}} NOT NULL REFERENCES identity_saml_federations (id) ON DELETE CASCADE,
	name          {{text}} NOT NULL,
	description   TEXT NOT NULL,
	certificate   {{blob}} NOT NULL,
	created_at    BIGINT NOT NULL
) {{strict}};

CREATE UNIQUE INDEX identity_saml_certificates_federation_id_name_key ON identity_saml_certificates (federation_id, name) WHERE name <> '';
CREATE INDEX identity_saml_certificates_by_federation ON identity_saml_certificates (federation_id, created_at, id);

-- Users of federations are users: login is the name id. login_folded and
-- email_folded of them are their own id, since neither is unique among all.
ALTER TABLE identity_users ADD COLUMN federation_id {{text}} NOT NULL DEFAULT '';

-- What else a user of a federation has. name_key is the name id as the federation
-- compares them, name_folded in lower case. attributes is a JSON object of lists of
-- texts. operation is the one that adds or deletes the user, '' when none is under way.
CREATE TABLE identity_federated_users (
	user_id       {{text}} PRIMARY KEY REFERENCES identity_users (id) ON DELETE CASCADE,
	federation_id {{text}} NOT NULL REFERENCES identity_saml_federations (id),
	name_key      {{text}} NOT NULL,
	name_folded   {{text}} NOT NULL,
	attributes    TEXT NOT NULL,
	operation     {{text}} NOT NULL,
	created_at    BIGINT NOT NULL
) {{strict}};

CREATE UNIQUE INDEX identity_federated_users_federation_id_name_key_key ON identity_federated_users (federation_id, name_key);
CREATE INDEX identity_federated_users_by_federation ON identity_federated_users (federation_id, created_at, user_id);

-- Domains of federations. claimed is the domain while it is proven, so that it is so
-- in one federation only.
CREATE TABLE identity_saml_domains (
	federation_id {{text}} NOT NULL REFERENCES identity_saml_federations (id) ON DELETE CASCADE,
	domain        {{text}} NOT NULL,
	claimed       {{text}} UNIQUE,
	status        {{text}} NOT NULL,
	status_code   {{text}} NOT NULL,
	challenge     {{text}} NOT NULL,
	created_at    BIGINT NOT NULL,
	updated_at    BIGINT NOT NULL,
	validated_at  BIGINT NOT NULL,
	PRIMARY KEY (federation_id, domain),
	CONSTRAINT identity_saml_domains_status_check CHECK (status IN ('NEED_TO_VALIDATE', 'VALID', 'INVALID'))
) {{strict}};

-- Which groups of an identity provider are which groups of the organization.
-- external_key is the SHA-256 of external_group_id, which may be too long for an index.
CREATE TABLE identity_group_mappings (
	federation_id {{text}} PRIMARY KEY REFERENCES identity_saml_federations (id) ON DELETE CASCADE,
	enabled       BOOLEAN NOT NULL
) {{strict}};

CREATE TABLE identity_group_mapping_items (
	federation_id     {{text}} NOT NULL REFERENCES identity_group_mappings (federation_id) ON DELETE CASCADE,
	external_group_id {{text}} NOT NULL,
	external_key      {{blob}} NOT NULL,
	internal_group_id {{text}} NOT NULL,
	PRIMARY KEY (federation_id, external_key, internal_group_id)
) {{strict}};

CREATE INDEX identity_group_mapping_items_group ON identity_group_mapping_items (internal_group_id);

-- Groups in which a user is because the identity provider said so: those that go when
-- it says so no more.
CREATE TABLE identity_mapped_members (
	user_id  {{text}} NOT NULL REFERENCES identity_users (id) ON DELETE CASCADE,
	group_id {{text}} NOT NULL,
	PRIMARY KEY (user_id, group_id)
) {{strict}};

-- The key of a federation, by which requests are signed and assertions for it are
-- encrypted: a certificate in DER, and the private key, sealed.
CREATE TABLE identity_saml_keys (
	federation_id {{text}} PRIMARY KEY REFERENCES identity_saml_federations (id) ON DELETE CASCADE,
	certificate   {{blob}} NOT NULL,
	private_key   {{blob}} NOT NULL
) {{strict}};
