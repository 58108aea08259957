-- What was used, one row for each record that was ever taken: its id is what makes it
-- counted once. digest is of everything that the record says. Numbers are decimal, as the
-- record has them.
CREATE TABLE partner_usage_records (
	id         {{text}} NOT NULL,
	digest     {{blob}} NOT NULL,
	key        {{blob}} NOT NULL,
	used_at    BIGINT NOT NULL,
	quantity   {{text}} NOT NULL,
	cost       {{text}} NOT NULL,
	discount   {{text}} NOT NULL,
	reward     {{text}} NOT NULL,
	adjustment {{text}} NOT NULL,
	taken_at   BIGINT NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

-- What records have in common; key is the hash of all the rest. account_id is who paid at
-- the time, '' for nobody, and root_id the partner of that account or the account itself.
CREATE TABLE partner_usage_keys (
	key        {{blob}} NOT NULL,
	root_id    {{text}} NOT NULL,
	account_id {{text}} NOT NULL,
	cloud_id   {{text}} NOT NULL,
	folder_id  {{text}} NOT NULL,
	service_id {{text}} NOT NULL,
	sku_id     {{text}} NOT NULL,
	labels_id  {{text}} NOT NULL,
	PRIMARY KEY (key)
) {{strict}};

-- Reports: of a partner, of an account.
CREATE INDEX partner_usage_keys_by_account ON partner_usage_keys (root_id, account_id);

-- Sets of labels; labels_id is the hash of the set, '' for none.
CREATE TABLE partner_usage_labels (
	labels_id {{text}} NOT NULL,
	name      {{text}} NOT NULL,
	value     {{text}} NOT NULL,
	PRIMARY KEY (labels_id, name)
) {{strict}};

-- Sums of the records of a key, by day and by month, kept by what takes records: a report
-- adds up these. Days are counted from 1970-01-01 at UTC+3; month is the first day of one.
-- A sum is units + nanos / 10^9.
CREATE TABLE partner_usage_days (
	key              {{blob}} NOT NULL,
	day              BIGINT NOT NULL,
	month            BIGINT NOT NULL,
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

CREATE TABLE partner_usage_months (
	key              {{blob}} NOT NULL,
	month            BIGINT NOT NULL,
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
	PRIMARY KEY (key, month)
) {{strict}};
