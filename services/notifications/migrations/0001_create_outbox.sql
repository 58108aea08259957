-- What people are to be told, and each attempt to tell one of them. Times are
-- microseconds UTC, 0 for none.

-- id is the caller's, so that the same notice is taken once. body is an encoded
-- bindery.notification.v1.Notice; once it is routed, with the names of its path.
CREATE TABLE notifications_notices (
	id        {{text}} NOT NULL,
	event     {{text}} NOT NULL,
	body      {{blob}} NOT NULL,
	taken_by  {{text}} NOT NULL,
	taken_at  BIGINT NOT NULL,
	routed_at BIGINT NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

CREATE INDEX notifications_notices_taken ON notifications_notices (taken_at);

-- One recipient of one notice. target is the mail address or the id of the
-- subscriber whose webhook it is. next_at is when it is tried again, 0 once it is
-- not; failure is why the last attempt failed.
CREATE TABLE notifications_deliveries (
	id         {{text}} NOT NULL,
	notice_id  {{text}} NOT NULL,
	channel    {{text}} NOT NULL,
	target     {{text}} NOT NULL,
	state      {{text}} NOT NULL,
	attempts   BIGINT NOT NULL,
	failure    TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	next_at    BIGINT NOT NULL,
	ended_at   BIGINT NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY (notice_id) REFERENCES notifications_notices (id),
	CONSTRAINT notifications_deliveries_channel_check CHECK (channel IN ('mail', 'webhook')),
	CONSTRAINT notifications_deliveries_state_check CHECK (state IN ('PENDING', 'DELIVERED', 'DEAD', 'DROPPED'))
) {{strict}};

CREATE UNIQUE INDEX notifications_deliveries_once ON notifications_deliveries (notice_id, channel, target);
CREATE INDEX notifications_deliveries_state ON notifications_deliveries (state, created_at, id);
