-- Publishers. placed says that the tree has it.
CREATE TABLE marketplacerequests_publishers (
	id                 {{text}} NOT NULL,
	billing_account_id {{text}} NOT NULL,
	name               TEXT NOT NULL,
	description        TEXT NOT NULL,
	placed             BOOLEAN NOT NULL,
	leaving            BOOLEAN NOT NULL,
	created_by         {{text}} NOT NULL,
	created_at         BIGINT NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

CREATE UNIQUE INDEX marketplacerequests_publishers_billing_account_id_key ON marketplacerequests_publishers (billing_account_id);
CREATE INDEX marketplacerequests_publishers_created ON marketplacerequests_publishers (created_at, id);

-- Products. opened is the number of the grant by which everybody has access, 0 for
-- none; openings counts those that there were.
CREATE TABLE marketplacerequests_products (
	id           {{text}} NOT NULL,
	publisher_id {{text}} NOT NULL,
	slug         {{text}} NOT NULL,
	type         {{text}} NOT NULL,
	names        TEXT NOT NULL,
	description  TEXT NOT NULL,
	access       {{text}} NOT NULL,
	state        {{text}} NOT NULL,
	review       TEXT NOT NULL,
	opened       BIGINT NOT NULL,
	openings     BIGINT NOT NULL,
	placed       BOOLEAN NOT NULL,
	created_by   {{text}} NOT NULL,
	created_at   BIGINT NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

CREATE INDEX marketplacerequests_products_publisher ON marketplacerequests_products (publisher_id, created_at, id);
CREATE INDEX marketplacerequests_products_state ON marketplacerequests_products (state, created_at, id);

-- Names in links, for good: also of products that are gone.
CREATE TABLE marketplacerequests_slugs (
	slug       {{text}} NOT NULL,
	product_id {{text}} NOT NULL,
	PRIMARY KEY (slug)
) {{strict}};

-- Installed products.
CREATE TABLE marketplacerequests_instances (
	id         {{text}} NOT NULL,
	folder_id  {{text}} NOT NULL,
	product_id {{text}} NOT NULL,
	name       {{text}} NOT NULL,
	state      {{text}} NOT NULL,
	created_by {{text}} NOT NULL,
	created_at BIGINT NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

CREATE UNIQUE INDEX marketplacerequests_instances_folder_id_name_key ON marketplacerequests_instances (folder_id, name);
CREATE INDEX marketplacerequests_instances_folder ON marketplacerequests_instances (folder_id, created_at, id);

-- How far the removal of resources was followed, by their type.
CREATE TABLE marketplacerequests_removals (
	type     {{text}} NOT NULL,
	epoch    BIGINT NOT NULL,
	revision BIGINT NOT NULL,
	id       {{text}} NOT NULL,
	PRIMARY KEY (type)
) {{strict}};
