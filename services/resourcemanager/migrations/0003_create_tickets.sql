-- Support tickets. attached and files count the bytes and the number of attachments,
-- those that are on their way included: room is taken before anything is sent. Their
-- comments are a thread with the id of the ticket.
CREATE TABLE resourcemanager_tickets (
	id              {{text}} NOT NULL,
	resource_type   {{text}} NOT NULL,
	resource_id     {{text}} NOT NULL,
	title           TEXT NOT NULL,
	state           {{text}} NOT NULL,
	created_by_type {{text}} NOT NULL,
	created_by      {{text}} NOT NULL,
	created_at      BIGINT NOT NULL,
	closed_by       {{text}} NOT NULL,
	closed_at       BIGINT NOT NULL,
	attached        BIGINT NOT NULL,
	files           BIGINT NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT resourcemanager_tickets_state_check CHECK (state IN ('OPEN', 'CLOSED')),
	CONSTRAINT resourcemanager_tickets_attached_check CHECK (attached >= 0 AND attached <= 104857600)
) {{strict}};

CREATE INDEX resourcemanager_tickets_resource ON resourcemanager_tickets (resource_type, resource_id, created_at, id);
CREATE INDEX resourcemanager_tickets_state ON resourcemanager_tickets (state, created_at, id);

-- Attachments of tickets. One that is not ready is on its way, and nobody sees it.
CREATE TABLE resourcemanager_attachments (
	id              {{text}} NOT NULL,
	ticket_id       {{text}} NOT NULL,
	name            TEXT NOT NULL,
	content_type    TEXT NOT NULL,
	size            BIGINT NOT NULL,
	sha256          {{text}} NOT NULL,
	created_by_type {{text}} NOT NULL,
	created_by      {{text}} NOT NULL,
	created_at      BIGINT NOT NULL,
	ready           BOOLEAN NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

CREATE INDEX resourcemanager_attachments_ticket ON resourcemanager_attachments (ticket_id, created_at, id);
CREATE INDEX resourcemanager_attachments_under_way ON resourcemanager_attachments (created_at) WHERE NOT ready;

-- Their content, in parts that are counted from 0 on.
CREATE TABLE resourcemanager_attachment_parts (
	attachment_id {{text}} NOT NULL,
	number        BIGINT NOT NULL,
	data          {{blob}} NOT NULL,
	PRIMARY KEY (attachment_id, number)
) {{strict}};
