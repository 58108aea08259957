-- Organizations, clouds and folders: one table, since they live one life.
-- parent_id is NULL for an organization. labels is a JSON object. operation is
-- the one that makes or deletes the resource, '' when neither is under way;
-- delete_after is 0 unless a deletion is pending.
CREATE TABLE resourcemanager_resources (
	id           {{text}} NOT NULL,
	kind         {{text}} NOT NULL,
	parent_id    {{text}},
	name         {{text}} NOT NULL,
	title        TEXT NOT NULL,
	description  TEXT NOT NULL,
	labels       TEXT NOT NULL,
	status       {{text}} NOT NULL,
	created_by   {{text}} NOT NULL,
	created_at   BIGINT NOT NULL,
	delete_after BIGINT NOT NULL,
	operation    {{text}} NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY (parent_id) REFERENCES resourcemanager_resources (id),
	CONSTRAINT resourcemanager_resources_kind_check CHECK (kind IN ('organization', 'cloud', 'folder')),
	CONSTRAINT resourcemanager_resources_parent_check CHECK ((parent_id IS NULL) = (kind = 'organization')),
	CONSTRAINT resourcemanager_resources_status_check
		CHECK (status IN ('CREATING', 'ACTIVE', 'PENDING_DELETION', 'DELETING')),
	CONSTRAINT resourcemanager_resources_operation_check CHECK ((status = 'ACTIVE') = (operation = '')),
	CONSTRAINT resourcemanager_resources_delete_after_check CHECK ((status = 'PENDING_DELETION') = (delete_after > 0))
) {{strict}};

-- NM-3: folder names are unique in their cloud; those of clouds need not be.
CREATE UNIQUE INDEX resourcemanager_resources_parent_id_name_key
	ON resourcemanager_resources (parent_id, name) WHERE kind = 'folder';
-- Lists: of a parent, of a kind, by name.
CREATE INDEX resourcemanager_resources_by_parent ON resourcemanager_resources (parent_id, created_at, id);
CREATE INDEX resourcemanager_resources_by_kind ON resourcemanager_resources (kind, created_at, id);
CREATE INDEX resourcemanager_resources_by_name ON resourcemanager_resources (kind, name, created_at, id);
-- Quota of organizations, and the first cloud (CR-3).
CREATE INDEX resourcemanager_resources_by_creator ON resourcemanager_resources (created_by, kind);
