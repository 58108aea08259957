-- Budgets of accounts. spec is a JSON object, the message Budget.
CREATE TABLE partner_budgets (
	id         {{text}} NOT NULL,
	account_id {{text}} NOT NULL,
	created_at BIGINT NOT NULL,
	spec       TEXT NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY (account_id) REFERENCES partner_accounts (id)
) {{strict}};

CREATE INDEX partner_budgets_by_account ON partner_budgets (account_id, created_at, id);

-- What people were told of: each threshold of a budget once in each of its periods.
CREATE TABLE partner_budget_alerts (
	budget_id {{text}} NOT NULL,
	period    BIGINT NOT NULL,
	threshold BIGINT NOT NULL,
	passed_at BIGINT NOT NULL,
	PRIMARY KEY (budget_id, period, threshold),
	FOREIGN KEY (budget_id) REFERENCES partner_budgets (id)
) {{strict}};
