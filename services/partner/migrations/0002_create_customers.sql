-- Billing accounts with partner status (PT-2), and in which programs (PT-3).
CREATE TABLE partner_partners (
	account_id {{text}} NOT NULL,
	var        BIGINT NOT NULL,
	referral   BIGINT NOT NULL,
	PRIMARY KEY (account_id),
	FOREIGN KEY (account_id) REFERENCES partner_accounts (id),
	CONSTRAINT partner_partners_programs_check CHECK (var + referral > 0)
) {{strict}};

-- What is known of the customer of a subaccount. email is folded, '' for one whom the
-- partner serves itself; open is 1 until the subaccount is INACTIVE. person is a JSON
-- object. organization_id is '' until the customer has accepted, and is chosen before it
-- is made. suspended_by is 'PARTNER' or 'PLATFORM', '' unless it is suspended.
CREATE TABLE partner_customers (
	account_id      {{text}} NOT NULL,
	partner_id      {{text}} NOT NULL,
	email           {{text}} NOT NULL,
	open            BIGINT NOT NULL,
	person          TEXT NOT NULL,
	external_id     {{text}} NOT NULL,
	comment         TEXT NOT NULL,
	organization_id {{text}} NOT NULL,
	creator_type    {{text}} NOT NULL,
	creator_id      {{text}} NOT NULL,
	sends           BIGINT NOT NULL,
	suspended_by    {{text}} NOT NULL,
	reason          TEXT NOT NULL,
	PRIMARY KEY (account_id),
	FOREIGN KEY (account_id) REFERENCES partner_accounts (id) ON DELETE CASCADE
) {{strict}};

-- A partner has one customer of an address.
CREATE UNIQUE INDEX partner_customers_partner_id_email_key ON partner_customers (partner_id, email) WHERE open = 1 AND email <> '';
CREATE INDEX partner_customers_by_external_id ON partner_customers (partner_id, external_id);

-- Roles on an account for somebody who has no account of an address yet, or whom nobody
-- has looked for: they become bindings when that person first signs in (PT-20). given_by
-- is who gave them, whose right to do so is looked at again then; '' is the platform.
CREATE TABLE partner_pending_roles (
	account_id {{text}} NOT NULL,
	email      {{text}} NOT NULL,
	role_id    {{text}} NOT NULL,
	given_by   {{text}} NOT NULL,
	given_at   BIGINT NOT NULL,
	PRIMARY KEY (account_id, email, role_id),
	FOREIGN KEY (account_id) REFERENCES partner_accounts (id) ON DELETE CASCADE
) {{strict}};

CREATE INDEX partner_pending_roles_by_email ON partner_pending_roles (email);
