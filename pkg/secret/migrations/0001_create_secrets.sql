CREATE TABLE {{unit}}_secrets (
	name       {{text}} NOT NULL,
	value      {{blob}} NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (name)
) {{strict}};
