-- What was, for questions about the past (EX-9): a row for each fact and each span of
-- revisions over which it stayed the same, from began on and before ended, 0 for what
-- still is. It is made of the log, soon after the write. Kinds are those of the log
-- (fact is an encoded bindery.access.v1.Change). about is the resource, subject or
-- container; who is the subject of a binding or membership, or the parent of a
-- resource; name is a role or a template. granted says when that which holds over the
-- span was granted, and author by whom.
CREATE TABLE access_history (
	kind         {{text}} NOT NULL,
	about_type   {{text}} NOT NULL,
	about_id     {{text}} NOT NULL,
	who_type     {{text}} NOT NULL,
	who_id       {{text}} NOT NULL,
	name         {{text}} NOT NULL,
	began        BIGINT NOT NULL,
	ended        BIGINT NOT NULL,
	granted      BIGINT NOT NULL,
	granted_at   BIGINT NOT NULL,
	author_type  {{text}} NOT NULL,
	author_id    {{text}} NOT NULL,
	fact         {{blob}} NOT NULL,
	PRIMARY KEY (kind, about_type, about_id, who_type, who_id, name, began)
) {{strict}};

CREATE INDEX access_history_who ON access_history (kind, who_type, who_id);
CREATE INDEX access_history_ended ON access_history (ended) WHERE ended > 0;

-- How far the history is made, and from which revision on it is kept: the state at
-- that one is the oldest that can be told.
CREATE TABLE access_history_head (
	one     BIGINT PRIMARY KEY,
	written BIGINT NOT NULL,
	kept    BIGINT NOT NULL,
	CONSTRAINT access_history_head_one_check CHECK (one = 1)
) {{strict}};

INSERT INTO access_history_head (one, written, kept) VALUES (1, 0, 0);
