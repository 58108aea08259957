-- When a subject ends to act, in microseconds UTC, 0 for never; and which change of
-- its owner the row is, so that a late call puts nothing older in force.
ALTER TABLE access_subjects ADD COLUMN expires_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE access_subjects ADD COLUMN version BIGINT NOT NULL DEFAULT 0;

-- Removals of a type in their order, for those who follow them.
CREATE INDEX access_resources_removed ON access_resources (type, removed, id) WHERE removed > 0;
