-- The processes that answer checks from memory: a row is a lease (pkg/lease), renewed
-- while its process lives. A write is acknowledged when each of them has applied it;
-- the row of one that is silent for too long is taken away, so that it cannot renew.
CREATE TABLE access_replicas (
	id        {{text}} PRIMARY KEY,
	renewals  BIGINT NOT NULL,
	applied   BIGINT NOT NULL,
	joined_at BIGINT NOT NULL
) {{strict}};

-- The write that made the head: two lines of the store that have the same revision,
-- as after a failover that lost commits, differ in it.
ALTER TABLE access_revision ADD COLUMN write_id {{text}} NOT NULL DEFAULT '';
