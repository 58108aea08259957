-- Trust in issuers of tokens elsewhere. Times are microseconds UTC, 0 for none; labels
-- is a JSON object, audiences a JSON array, never empty. operation is the one that makes
-- or deletes the federation, '' when none is under way.
CREATE TABLE identity_workload_federations (
	id          {{text}} PRIMARY KEY,
	folder_id   {{text}} NOT NULL,
	cloud_id    {{text}} NOT NULL,
	name        {{text}} NOT NULL,
	description TEXT NOT NULL,
	labels      TEXT NOT NULL,
	disabled    BOOLEAN NOT NULL,
	audiences   TEXT NOT NULL,
	issuer      TEXT NOT NULL,
	jwks_url    TEXT NOT NULL,
	state       {{text}} NOT NULL,
	operation   {{text}} NOT NULL,
	created_by  {{text}} NOT NULL,
	created_at  BIGINT NOT NULL,
	CONSTRAINT identity_workload_federations_state_check CHECK (state IN ('CREATING', 'ACTIVE', 'DELETING')),
	CONSTRAINT identity_workload_federations_operation_check CHECK ((state = 'ACTIVE') = (operation = ''))
) {{strict}};

CREATE UNIQUE INDEX identity_workload_federations_folder_id_name_key ON identity_workload_federations (folder_id, name);
CREATE INDEX identity_workload_federations_by_folder ON identity_workload_federations (folder_id, created_at, id);
CREATE INDEX identity_workload_federations_by_cloud ON identity_workload_federations (cloud_id);

-- Which workloads act as which service accounts. subject may be too long for an index,
-- so its SHA-256 stands beside it. session_id is in the IAM tokens that were issued for
-- the credential, 16 bytes; when they are to end, they get another one.
CREATE TABLE identity_federated_credentials (
	id            {{text}} PRIMARY KEY,
	account_id    {{text}} NOT NULL REFERENCES identity_service_accounts (id) ON DELETE CASCADE,
	federation_id {{text}} NOT NULL REFERENCES identity_workload_federations (id) ON DELETE CASCADE,
	subject       TEXT NOT NULL,
	subject_hash  {{blob}} NOT NULL,
	session_id    {{blob}} NOT NULL,
	created_at    BIGINT NOT NULL,
	last_used_at  BIGINT NOT NULL
) {{strict}};

CREATE UNIQUE INDEX identity_federated_credentials_once ON identity_federated_credentials (account_id, subject_hash, federation_id);
CREATE INDEX identity_federated_credentials_by_account ON identity_federated_credentials (account_id, created_at, id);
CREATE INDEX identity_federated_credentials_by_federation ON identity_federated_credentials (federation_id);
