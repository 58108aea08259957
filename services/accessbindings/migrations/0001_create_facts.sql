-- The deciding facts. Every write takes the next revision from the one row of
-- access_revision, which is locked for the whole transaction, so that the order
-- of commits is the order of revisions. Times are microseconds UTC.

CREATE TABLE access_revision (
	one      BIGINT PRIMARY KEY,
	revision BIGINT NOT NULL,
	epoch    BIGINT NOT NULL,
	CONSTRAINT access_revision_one_check CHECK (one = 1)
) {{strict}};

INSERT INTO access_revision (one, revision, epoch) VALUES (1, 0, 1);

-- The tree. A removed resource stays as a tombstone (removed > 0, the revision):
-- its id is never used again.
CREATE TABLE access_resources (
	type        {{text}} NOT NULL,
	id          {{text}} NOT NULL,
	parent_type {{text}} NOT NULL,
	parent_id   {{text}} NOT NULL,
	removed     BIGINT NOT NULL,
	PRIMARY KEY (type, id)
) {{strict}};

CREATE INDEX access_resources_parent ON access_resources (parent_type, parent_id);

-- One row per source of a pair. number is the pair's place in listings: the same
-- for all its sources, higher for pairs that came into force later.
CREATE TABLE access_bindings (
	resource_type {{text}} NOT NULL,
	resource_id   {{text}} NOT NULL,
	role_id       {{text}} NOT NULL,
	subject_type  {{text}} NOT NULL,
	subject_id    {{text}} NOT NULL,
	source_kind   BIGINT NOT NULL,
	source_id     {{text}} NOT NULL,
	expires_at    BIGINT NOT NULL,
	number        BIGINT NOT NULL,
	PRIMARY KEY (resource_type, resource_id, role_id, subject_type, subject_id, source_kind, source_id)
) {{strict}};

CREATE INDEX access_bindings_number ON access_bindings (resource_type, resource_id, number);
CREATE INDEX access_bindings_subject ON access_bindings (subject_type, subject_id);
CREATE INDEX access_bindings_expires ON access_bindings (expires_at) WHERE expires_at > 0;

-- state is SetSubjectRequest.State; deleted subjects stay.
CREATE TABLE access_subjects (
	type  {{text}} NOT NULL,
	id    {{text}} NOT NULL,
	state BIGINT NOT NULL,
	PRIMARY KEY (type, id)
) {{strict}};

CREATE TABLE access_members (
	container_type {{text}} NOT NULL,
	container_id   {{text}} NOT NULL,
	subject_type   {{text}} NOT NULL,
	subject_id     {{text}} NOT NULL,
	PRIMARY KEY (container_type, container_id, subject_type, subject_id)
) {{strict}};

CREATE INDEX access_members_subject ON access_members (subject_type, subject_id, container_type, container_id);

CREATE TABLE access_revoked_tokens (
	token_id   {{blob}} NOT NULL,
	expires_at BIGINT NOT NULL,
	PRIMARY KEY (token_id)
) {{strict}};

CREATE INDEX access_revoked_tokens_expires ON access_revoked_tokens (expires_at);

-- The log: what each revision changed, in the order of seq. payload is an encoded
-- bindery.access.v1.Change; write_id is the same for all rows of one write and
-- tells its writer that it is committed.
CREATE TABLE access_changes (
	revision   BIGINT NOT NULL,
	seq        BIGINT NOT NULL,
	kind       {{text}} NOT NULL,
	payload    {{blob}} NOT NULL,
	write_id   {{text}} NOT NULL,
	changed_at BIGINT NOT NULL,
	PRIMARY KEY (revision, seq)
) {{strict}};
