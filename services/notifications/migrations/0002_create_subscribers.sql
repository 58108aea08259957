-- Who is told of what becomes of a resource, beside its owners. user_id is '' for a
-- webhook, url '' for a person. secret is sealed; events is a JSON array, [] for all.
-- failing_since is when a webhook last began to fail, 0 while it does not. gone_at is
-- when its resource was found to be removed, 0 while it is there.
CREATE TABLE notifications_subscribers (
	id            {{text}} NOT NULL,
	resource_type {{text}} NOT NULL,
	resource_id   {{text}} NOT NULL,
	user_id       {{text}} NOT NULL,
	url           TEXT NOT NULL,
	events        TEXT NOT NULL,
	secret        {{blob}} NOT NULL,
	state         {{text}} NOT NULL,
	failing_since BIGINT NOT NULL,
	created_by    {{text}} NOT NULL,
	created_at    BIGINT NOT NULL,
	gone_at       BIGINT NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT notifications_subscribers_state_check CHECK (state IN ('ACTIVE', 'DISABLED')),
	CONSTRAINT notifications_subscribers_kind_check CHECK ((user_id = '') <> (url = ''))
) {{strict}};

CREATE INDEX notifications_subscribers_by_resource ON notifications_subscribers (resource_type, resource_id, created_at, id);
CREATE UNIQUE INDEX notifications_subscribers_user_key ON notifications_subscribers (resource_type, resource_id, user_id) WHERE user_id <> '';
CREATE INDEX notifications_subscribers_gone ON notifications_subscribers (gone_at) WHERE gone_at > 0;

-- How far the removals of resources of a type were followed.
CREATE TABLE notifications_removals (
	type     {{text}} NOT NULL,
	epoch    BIGINT NOT NULL,
	revision BIGINT NOT NULL,
	id       {{text}} NOT NULL,
	PRIMARY KEY (type)
) {{strict}};
