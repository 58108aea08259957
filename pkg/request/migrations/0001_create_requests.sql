-- Requests of one kind. body is the unit's own. Times are microseconds UTC, 0 for
-- none. settled says that the last decision is in force.
CREATE TABLE {{unit}}_requests (
	id             {{text}} NOT NULL,
	thing_type     {{text}} NOT NULL,
	thing_id       {{text}} NOT NULL,
	requester_type {{text}} NOT NULL,
	requester_id   {{text}} NOT NULL,
	reason         TEXT NOT NULL,
	state          {{text}} NOT NULL,
	steps          TEXT NOT NULL,
	step           BIGINT NOT NULL,
	created_at     BIGINT NOT NULL,
	pending_until  BIGINT NOT NULL,
	lasts          BIGINT NOT NULL,
	ends_at        BIGINT NOT NULL,
	decided_by     {{text}} NOT NULL,
	decided_at     BIGINT NOT NULL,
	decision       TEXT NOT NULL,
	plea_by        {{text}} NOT NULL,
	plea_at        BIGINT NOT NULL,
	plea           TEXT NOT NULL,
	ended_by       {{text}} NOT NULL,
	ended_at       BIGINT NOT NULL,
	end_reason     TEXT NOT NULL,
	settled        BOOLEAN NOT NULL,
	body           {{blob}} NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

-- At most one live request of a requester for a thing.
CREATE UNIQUE INDEX {{unit}}_requests_live_key
	ON {{unit}}_requests (thing_type, thing_id, requester_type, requester_id) WHERE state IN ('PENDING', 'APPROVED');

CREATE INDEX {{unit}}_requests_thing ON {{unit}}_requests (thing_type, thing_id, created_at, id);
CREATE INDEX {{unit}}_requests_thing_state ON {{unit}}_requests (thing_type, thing_id, state, created_at, id);
CREATE INDEX {{unit}}_requests_requester ON {{unit}}_requests (requester_type, requester_id, created_at, id);
CREATE INDEX {{unit}}_requests_pleas ON {{unit}}_requests (plea_at, id) WHERE plea_at > 0 AND state = 'APPROVED';
CREATE INDEX {{unit}}_requests_pending_until ON {{unit}}_requests (pending_until) WHERE pending_until > 0 AND state = 'PENDING';
CREATE INDEX {{unit}}_requests_ends_at ON {{unit}}_requests (ends_at) WHERE ends_at > 0 AND state = 'APPROVED';

-- Who has approved at which step: one person once, at one step of a request.
CREATE TABLE {{unit}}_request_votes (
	request_id {{text}} NOT NULL,
	voter      {{text}} NOT NULL,
	step       BIGINT NOT NULL,
	voted_at   BIGINT NOT NULL,
	PRIMARY KEY (request_id, voter)
) {{strict}};
