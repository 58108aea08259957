-- The line of the store within its epoch: another one since the database lost commits,
-- as in a failover. timeline is the one of the database's own log in which it is
-- ("" before it was looked at): a promoted standby has another.
ALTER TABLE access_revision ADD COLUMN line BIGINT NOT NULL DEFAULT 1;
ALTER TABLE access_revision ADD COLUMN timeline {{text}} NOT NULL DEFAULT '';
