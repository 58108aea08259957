-- Access policies: what a template denies on a resource and below it. A template is
-- bound at most once on a resource. number is the binding's place in listings.
-- parameters is a JSON object of texts.
CREATE TABLE access_policies (
	resource_type {{text}} NOT NULL,
	resource_id   {{text}} NOT NULL,
	template_id   {{text}} NOT NULL,
	parameters    {{text}} NOT NULL,
	number        BIGINT NOT NULL,
	PRIMARY KEY (resource_type, resource_id, template_id)
) {{strict}};

CREATE UNIQUE INDEX access_policies_number ON access_policies (resource_type, resource_id, number);
