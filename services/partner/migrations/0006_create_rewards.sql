-- What partners have earned and withdrawn: two ledgers, REBATE and REFERRAL. An amount is
-- units + nanos / 10^9, below zero for a withdrawal; what is left is the sum. base is what
-- a commission is a part of, in decimal, '' elsewhere.
CREATE TABLE partner_ledger (
	id         {{text}} NOT NULL,
	account_id {{text}} NOT NULL,
	ledger     {{text}} NOT NULL,
	units      BIGINT NOT NULL,
	nanos      BIGINT NOT NULL,
	base       {{text}} NOT NULL,
	link_id    {{text}} NOT NULL,
	comment    TEXT NOT NULL,
	created_by {{text}} NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY (account_id) REFERENCES partner_accounts (id),
	CONSTRAINT partner_ledger_ledger_check CHECK (ledger IN ('REBATE', 'REFERRAL'))
) {{strict}};

-- Lists, newest first, and sums.
CREATE INDEX partner_ledger_by_account ON partner_ledger (account_id, ledger, created_at, id);

-- Specializations of partners; revoked_at is 0 while one goes on.
CREATE TABLE partner_specializations (
	account_id {{text}} NOT NULL,
	name       {{text}} NOT NULL,
	granted_at BIGINT NOT NULL,
	revoked_at BIGINT NOT NULL,
	PRIMARY KEY (account_id, granted_at, name),
	FOREIGN KEY (account_id) REFERENCES partner_accounts (id)
) {{strict}};

-- One of a name goes on at a time.
CREATE UNIQUE INDEX partner_specializations_account_id_name_key ON partner_specializations (account_id, name) WHERE revoked_at = 0;

-- Referral links. active is 1 while what comes by the link earns something.
CREATE TABLE partner_referral_links (
	id         {{text}} NOT NULL,
	account_id {{text}} NOT NULL,
	name       TEXT NOT NULL,
	active     BIGINT NOT NULL,
	created_by {{text}} NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY (account_id) REFERENCES partner_accounts (id)
) {{strict}};

CREATE INDEX partner_referral_links_by_account ON partner_referral_links (account_id, created_at, id);
