-- Which billing account pays for a cloud, '' for none any more, and which accounts are
-- stopped. version is that of the change that is in force, counted by their owner.
CREATE TABLE access_payers (
	cloud_id   {{text}} NOT NULL,
	account_id {{text}} NOT NULL,
	version    BIGINT NOT NULL,
	PRIMARY KEY (cloud_id)
) {{strict}};

CREATE TABLE access_stopped_payers (
	account_id {{text}} NOT NULL,
	stopped    BIGINT NOT NULL,
	version    BIGINT NOT NULL,
	PRIMARY KEY (account_id),
	CONSTRAINT access_stopped_payers_stopped_check CHECK (stopped IN (0, 1))
) {{strict}};
