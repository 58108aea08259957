-- What the first three hours of a day at UTC+3 add to its sums: they are of the day before
-- at UTC. So the sums of a day of UTC are those of its day, without these of that day, and
-- with these of the next (PT-44).
CREATE TABLE partner_usage_nights (
	key              {{blob}} NOT NULL,
	day              BIGINT NOT NULL,
	records          BIGINT NOT NULL,
	quantity_units   BIGINT NOT NULL,
	quantity_nanos   BIGINT NOT NULL,
	cost_units       BIGINT NOT NULL,
	cost_nanos       BIGINT NOT NULL,
	discount_units   BIGINT NOT NULL,
	discount_nanos   BIGINT NOT NULL,
	reward_units     BIGINT NOT NULL,
	reward_nanos     BIGINT NOT NULL,
	adjustment_units BIGINT NOT NULL,
	adjustment_nanos BIGINT NOT NULL,
	PRIMARY KEY (key, day)
) {{strict}};
