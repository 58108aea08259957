-- Which records are about what: one row for each step of a record's path, so that
-- the trail of a resource is that of everything below it, too.
CREATE TABLE {{unit}}_audit_resources (
	resource_type {{text}} NOT NULL,
	resource_id   {{text}} NOT NULL,
	event_time    BIGINT NOT NULL,
	id            {{text}} NOT NULL,
	event_type    {{text}} NOT NULL,
	subject_id    {{text}} NOT NULL,
	PRIMARY KEY (resource_type, resource_id, event_time, id)
) {{strict}};
CREATE INDEX {{unit}}_audit_resources_by_time ON {{unit}}_audit_resources (event_time);

-- The records that are there; no path of theirs has more than eight steps.
INSERT INTO {{unit}}_audit_resources (resource_type, resource_id, event_time, id, event_type, subject_id)
	SELECT DISTINCT s.step ->> 'resource_type', s.step ->> 'resource_id', s.event_time, s.id, s.event_type, s.subject_id
	FROM (
		SELECT a.record{{jsonb}} -> 'resource_metadata' -> 'path' -> n.n AS step, a.event_time, a.id, a.event_type,
			COALESCE(a.record{{jsonb}} -> 'authentication' ->> 'subject_id', '') AS subject_id
		FROM {{unit}}_audit a CROSS JOIN (
			SELECT 0 AS n UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3
			UNION ALL SELECT 4 UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7) n
	) s
	WHERE s.step ->> 'resource_id' IS NOT NULL;

ALTER TABLE {{unit}}_audit ADD COLUMN subject_id {{text}} NOT NULL DEFAULT '';
UPDATE {{unit}}_audit SET subject_id = COALESCE(record{{jsonb}} -> 'authentication' ->> 'subject_id', '');
CREATE INDEX {{unit}}_audit_by_time ON {{unit}}_audit (event_time, id);
