-- Services and products with their prices, as the operator loaded them. pricing is a JSON
-- array of the versions of the price, oldest first.
CREATE TABLE partner_services (
	id          {{text}} NOT NULL,
	name        {{text}} NOT NULL,
	description TEXT NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

CREATE TABLE partner_skus (
	id           {{text}} NOT NULL,
	service_id   {{text}} NOT NULL,
	name         {{text}} NOT NULL,
	description  TEXT NOT NULL,
	pricing_unit {{text}} NOT NULL,
	pricing      TEXT NOT NULL,
	PRIMARY KEY (id),
	FOREIGN KEY (service_id) REFERENCES partner_services (id)
) {{strict}};

-- Lists: of a service.
CREATE INDEX partner_skus_by_service ON partner_skus (service_id, id);
