-- Service accounts. Times are microseconds UTC, 0 for none. labels is a JSON
-- object. version counts the changes of status and expires_at, which the permission
-- checker is told in this order. operation is the one that makes, changes or
-- deletes the account, '' when none is under way. What belongs to an account refers to it
-- ON DELETE CASCADE (SK-2).
CREATE TABLE identity_service_accounts (
	id                    {{text}} PRIMARY KEY,
	folder_id             {{text}} NOT NULL,
	cloud_id              {{text}} NOT NULL,
	name                  {{text}} NOT NULL,
	description           TEXT NOT NULL,
	labels                TEXT NOT NULL,
	status                {{text}} NOT NULL,
	version               BIGINT NOT NULL,
	operation             {{text}} NOT NULL,
	created_by            {{text}} NOT NULL,
	created_at            BIGINT NOT NULL,
	expires_at            BIGINT NOT NULL,
	last_authenticated_at BIGINT NOT NULL,
	CONSTRAINT identity_service_accounts_status_check CHECK (status IN ('CREATING', 'ACTIVE', 'SUSPENDED', 'DELETING')),
	CONSTRAINT identity_service_accounts_operation_check CHECK (status IN ('ACTIVE', 'SUSPENDED') OR operation <> '')
) {{strict}};

-- NM-3: names are unique in the cloud.
CREATE UNIQUE INDEX identity_service_accounts_cloud_id_name_key ON identity_service_accounts (cloud_id, name);
-- Lists: of a folder.
CREATE INDEX identity_service_accounts_by_folder ON identity_service_accounts (folder_id, created_at, id);
