-- One row per change, in the order of number; record is JSON.
CREATE TABLE {{unit}}_audit (
	number     {{identity}},
	id         {{text}} NOT NULL UNIQUE,
	event_time BIGINT NOT NULL,
	event_type {{text}} NOT NULL,
	record     TEXT NOT NULL
) {{strict}};
