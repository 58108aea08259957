-- Invitations. Times are microseconds UTC, 0 for none. email is in lower case. One
-- that nobody answered stays PENDING after expires_at until a writer meets it; readers
-- go by the time. ACCEPTING is one whose membership is being made by operation.
CREATE TABLE identity_invitations (
	id                {{text}} PRIMARY KEY,
	organization_id   {{text}} NOT NULL,
	organization_name {{text}} NOT NULL,
	email             {{text}} NOT NULL,
	state             {{text}} NOT NULL,
	created_by        {{text}} NOT NULL,
	created_at        BIGINT NOT NULL,
	expires_at        BIGINT NOT NULL,
	sends             BIGINT NOT NULL,
	sent_at           BIGINT NOT NULL,
	answered_by       {{text}} NOT NULL,
	ended_at          BIGINT NOT NULL,
	operation         {{text}} NOT NULL,
	CONSTRAINT identity_invitations_state_check CHECK (state IN ('PENDING', 'ACCEPTING', 'ACCEPTED', 'REJECTED', 'REVOKED', 'EXPIRED')),
	CONSTRAINT identity_invitations_operation_check CHECK ((state = 'ACCEPTING') = (operation <> ''))
) {{strict}};

-- One that can be answered for each address and organization.
CREATE UNIQUE INDEX identity_invitations_open_key ON identity_invitations (organization_id, email) WHERE state IN ('PENDING', 'ACCEPTING');
-- Lists: of an organization, and of a person.
CREATE INDEX identity_invitations_by_organization ON identity_invitations (organization_id, created_at, id);
CREATE INDEX identity_invitations_by_email ON identity_invitations (email, created_at, id);
