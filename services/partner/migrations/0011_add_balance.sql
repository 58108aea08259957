-- What is on an account, in decimal, as payments said last (US-8).
ALTER TABLE partner_accounts ADD COLUMN balance {{text}} NOT NULL DEFAULT '0';

-- The first day of a budget of the balance that begins later than it was made, until
-- somebody has looked at it then; 0 for any other.
ALTER TABLE partner_budgets ADD COLUMN begins BIGINT NOT NULL DEFAULT 0;
CREATE INDEX partner_budgets_by_beginning ON partner_budgets (begins) WHERE begins > 0;
