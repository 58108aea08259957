-- aspect is what of the thing is asked for (a role on a resource), '' for the thing
-- itself. scope gathers requests for lists. decided_by_type is the type of who decided.
ALTER TABLE {{unit}}_requests ADD COLUMN aspect {{text}} NOT NULL DEFAULT '';
ALTER TABLE {{unit}}_requests ADD COLUMN scope {{text}} NOT NULL DEFAULT '';
ALTER TABLE {{unit}}_requests ADD COLUMN decided_by_type {{text}} NOT NULL DEFAULT '';

DROP INDEX {{unit}}_requests_live_key;
CREATE UNIQUE INDEX {{unit}}_requests_live_key
	ON {{unit}}_requests (thing_type, thing_id, aspect, requester_type, requester_id) WHERE state IN ('PENDING', 'APPROVED');

CREATE INDEX {{unit}}_requests_scope ON {{unit}}_requests (scope, created_at, id) WHERE scope <> '';
