-- Billing accounts and, with a partner_id, subaccounts: they live one life. operation
-- is the one that makes, deletes or changes the account, '' when none is under way.
-- suspended_at is 0 unless the account is SUSPENDED. One that was deleted keeps its
-- row, since what was used in its time is still its own.
CREATE TABLE partner_accounts (
	id              {{text}} NOT NULL,
	partner_id      {{text}},
	organization_id {{text}} NOT NULL,
	name            TEXT NOT NULL,
	country_code    {{text}} NOT NULL,
	currency        {{text}} NOT NULL,
	state           {{text}} NOT NULL,
	phase           {{text}} NOT NULL,
	suspended_at    BIGINT NOT NULL,
	created_by      {{text}} NOT NULL,
	created_at      BIGINT NOT NULL,
	operation       {{text}} NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY (partner_id) REFERENCES partner_accounts (id),
	CONSTRAINT partner_accounts_state_check CHECK (state IN ('NEW', 'PENDING', 'PAYMENT_NOT_CONFIRMED', 'TRIAL_ACTIVE',
		'TRIAL_SUSPENDED', 'TRIAL_EXPIRED', 'FIRST_PAYMENT_REQUIRED', 'ACTIVE', 'PAYMENT_REQUIRED', 'SUSPENDED',
		'ACCEPTANCE_REQUIRED', 'INACTIVE')),
	CONSTRAINT partner_accounts_phase_check CHECK (phase IN ('CREATING', 'LIVING', 'DELETING', 'DELETED')),
	CONSTRAINT partner_accounts_operation_check CHECK (phase NOT IN ('CREATING', 'DELETING') OR operation <> '')
) {{strict}};

-- Lists: of all, of a partner.
CREATE INDEX partner_accounts_by_time ON partner_accounts (created_at, id);
CREATE INDEX partner_accounts_by_partner ON partner_accounts (partner_id, created_at, id);
-- Quota.
CREATE INDEX partner_accounts_by_creator ON partner_accounts (created_by);

-- Which account pays for a cloud, and which did (BI-1, BI-4). unlinked_at is 0 while
-- the link is in force.
CREATE TABLE partner_links (
	cloud_id    {{text}} NOT NULL,
	account_id  {{text}} NOT NULL,
	linked_at   BIGINT NOT NULL,
	unlinked_at BIGINT NOT NULL,
	linked_by   {{text}} NOT NULL,
	PRIMARY KEY (cloud_id, linked_at),
	FOREIGN KEY (account_id) REFERENCES partner_accounts (id),
	CONSTRAINT partner_links_unlinked_at_check CHECK (unlinked_at = 0 OR unlinked_at > linked_at)
) {{strict}};

-- BI-1: at most one account pays for a cloud.
CREATE UNIQUE INDEX partner_links_cloud_id_key ON partner_links (cloud_id) WHERE unlinked_at = 0;
-- Lists: of an account.
CREATE INDEX partner_links_by_account ON partner_links (account_id, linked_at, cloud_id);
