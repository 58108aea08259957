-- The table of maragu.dev/goqite 0.4. One queue per unit, named after it.
CREATE TABLE goqite (
	id       TEXT PRIMARY KEY DEFAULT ('m_' || lower(hex(randomblob(16)))),
	created  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	updated  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	queue    TEXT NOT NULL,
	body     BLOB NOT NULL,
	timeout  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ')),
	received INTEGER NOT NULL DEFAULT 0,
	priority INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX goqite_queue_priority_created_idx ON goqite (queue, priority DESC, created);
