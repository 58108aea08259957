-- Ids of grants that give nothing any more: a late call that would give it again finds
-- its id here.
CREATE TABLE access_ended_grants (
	id {{text}} NOT NULL,
	PRIMARY KEY (id)
) {{strict}};
