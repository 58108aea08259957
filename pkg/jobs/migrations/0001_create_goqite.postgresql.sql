-- The table of maragu.dev/goqite 0.4, with a random id that needs no extension.
CREATE TABLE goqite (
	id       TEXT PRIMARY KEY DEFAULT ('m_' || replace(gen_random_uuid()::text, '-', '')),
	created  TIMESTAMPTZ NOT NULL DEFAULT now(),
	updated  TIMESTAMPTZ NOT NULL DEFAULT now(),
	queue    TEXT NOT NULL,
	body     BYTEA NOT NULL,
	timeout  TIMESTAMPTZ NOT NULL DEFAULT now(),
	received INTEGER NOT NULL DEFAULT 0,
	priority INTEGER NOT NULL DEFAULT 0
);

CREATE INDEX goqite_queue_priority_created_idx ON goqite (queue, priority DESC, created);
