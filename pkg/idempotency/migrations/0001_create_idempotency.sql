-- One row per write that came with an idempotency key: ref is the SHA-256 of
-- caller, method and key, request that of the request. What the write answered is
-- an operation, by its id, or a message, sealed by a key that nobody but the
-- caller can derive.
CREATE TABLE {{unit}}_idempotency (
	ref        {{blob}} NOT NULL,
	request    {{blob}} NOT NULL,
	operation  {{text}} NOT NULL,
	answer     {{blob}},
	created_at BIGINT NOT NULL,
	PRIMARY KEY (ref)
) {{strict}};

CREATE INDEX {{unit}}_idempotency_created ON {{unit}}_idempotency (created_at);
