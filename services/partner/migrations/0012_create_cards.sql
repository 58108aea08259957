-- Cards of partners (PT-26). card is a JSON object, the message PartnerCard; published is 1
-- while everybody may see it.
CREATE TABLE partner_cards (
	account_id {{text}} NOT NULL,
	published  BIGINT NOT NULL,
	card       TEXT NOT NULL,
	updated_at BIGINT NOT NULL,
	PRIMARY KEY (account_id),
	FOREIGN KEY (account_id) REFERENCES partner_accounts (id)
) {{strict}};
