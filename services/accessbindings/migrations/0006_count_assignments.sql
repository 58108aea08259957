-- How many pairs of role and subject stand on an organization and all below it
-- (AB-13), kept by every write that makes or takes one.
CREATE TABLE access_assignments (
	organization_id {{text}} NOT NULL,
	pairs           BIGINT NOT NULL,
	PRIMARY KEY (organization_id)
) {{strict}};

INSERT INTO access_assignments (organization_id, pairs)
WITH RECURSIVE tree (type, id, organization) AS (
	SELECT type, id, id FROM access_resources WHERE type = 'organization-manager.organization' AND removed = 0
	UNION ALL
	SELECT r.type, r.id, t.organization
	FROM access_resources r JOIN tree t ON r.parent_type = t.type AND r.parent_id = t.id
	WHERE r.removed = 0
)
SELECT organization, COUNT(*)
FROM (
	SELECT DISTINCT t.organization, b.resource_type, b.resource_id, b.role_id, b.subject_type, b.subject_id
	FROM tree t JOIN access_bindings b ON b.resource_type = t.type AND b.resource_id = t.id
) AS pairs
GROUP BY organization;
