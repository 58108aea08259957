-- Members are listed in the order in which they joined: number is made as that of
-- a binding is, of revision and seq, and so above those of what was there before.
ALTER TABLE access_members ADD COLUMN number BIGINT NOT NULL DEFAULT 0;

UPDATE access_members SET number = placed.number
FROM (
	SELECT container_type, container_id, subject_type, subject_id,
		ROW_NUMBER() OVER (ORDER BY container_type, container_id, subject_type, subject_id) AS number
	FROM access_members
) AS placed
WHERE access_members.container_type = placed.container_type AND access_members.container_id = placed.container_id
	AND access_members.subject_type = placed.subject_type AND access_members.subject_id = placed.subject_id;

CREATE INDEX access_members_number ON access_members (container_type, container_id, number);

-- What groups are called. container_id and external_id are those of an external
-- group (GR-4), else ''. labels is a JSON object.
CREATE TABLE access_groups (
	id              {{text}} NOT NULL,
	organization_id {{text}} NOT NULL,
	created_at      BIGINT NOT NULL,
	name            {{text}} NOT NULL,
	description     {{text}} NOT NULL,
	container_id    {{text}} NOT NULL,
	external_id     {{text}} NOT NULL,
	labels          {{text}} NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

CREATE UNIQUE INDEX access_groups_name ON access_groups (organization_id, name);
CREATE UNIQUE INDEX access_groups_external ON access_groups (container_id, external_id) WHERE external_id <> '';
CREATE INDEX access_groups_created ON access_groups (organization_id, created_at, id);
