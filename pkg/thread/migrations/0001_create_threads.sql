-- A conversation and how many messages it has: the row that is locked to add one.
CREATE TABLE {{unit}}_threads (
	id       {{text}} NOT NULL,
	messages BIGINT NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT {{unit}}_threads_messages_check CHECK (messages >= 0 AND messages <= 1000)
) {{strict}};

-- Messages never change. number counts those of a thread from 1 on, without gaps.
CREATE TABLE {{unit}}_thread_messages (
	thread_id   {{text}} NOT NULL,
	number      BIGINT NOT NULL,
	side        {{text}} NOT NULL,
	author_type {{text}} NOT NULL,
	author_id   {{text}} NOT NULL,
	body        TEXT NOT NULL,
	created_at  BIGINT NOT NULL,
	PRIMARY KEY (thread_id, number)
) {{strict}};

-- Up to which message a side has read.
CREATE TABLE {{unit}}_thread_reads (
	thread_id {{text}} NOT NULL,
	side      {{text}} NOT NULL,
	number    BIGINT NOT NULL,
	PRIMARY KEY (thread_id, side)
) {{strict}};
