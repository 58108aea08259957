-- How far the removals of resources of each type were followed: the place of the last
-- one in the log of accessbindings.
CREATE TABLE identity_removals (
	type     {{text}} PRIMARY KEY,
	epoch    BIGINT NOT NULL,
	revision BIGINT NOT NULL,
	id       {{text}} NOT NULL
) {{strict}};
