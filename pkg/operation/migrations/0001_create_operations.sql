-- metadata, response (google.protobuf.Any) and error (google.rpc.Status) are
-- encoded messages; a missing one is NULL.
CREATE TABLE {{unit}}_operations (
	id              {{text}} NOT NULL,
	resource_type   {{text}} NOT NULL,
	resource_id     {{text}} NOT NULL,
	view_permission {{text}} NOT NULL,
	description     TEXT NOT NULL,
	created_by      {{text}} NOT NULL,
	created_at      BIGINT NOT NULL,
	modified_at     BIGINT NOT NULL,
	done            BOOLEAN NOT NULL,
	metadata        {{blob}},
	error           {{blob}},
	response        {{blob}},
	PRIMARY KEY (id),
	CONSTRAINT {{unit}}_operations_result_check CHECK (error IS NULL OR response IS NULL)
) {{strict}};

CREATE INDEX {{unit}}_operations_resource ON {{unit}}_operations (resource_type, resource_id, created_at, id);
