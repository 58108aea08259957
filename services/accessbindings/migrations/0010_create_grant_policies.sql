-- Grant policies: named bundles of bindings (SC-13). What they give stands among the
-- bindings, with the policy as its source. principal_type and principal_id are '' for
-- nobody. tags is a JSON array of texts; rules is a JSON array of objects with sets, the
-- names of permission sets, and organization, true for a rule of the whole organization.
CREATE TABLE access_grant_policies (
	id              {{text}} NOT NULL,
	organization_id {{text}} NOT NULL,
	created_at      BIGINT NOT NULL,
	updated_at      BIGINT NOT NULL,
	name            {{text}} NOT NULL,
	description     {{text}} NOT NULL,
	tags            {{text}} NOT NULL,
	principal_type  {{text}} NOT NULL,
	principal_id    {{text}} NOT NULL,
	rules           {{text}} NOT NULL,
	PRIMARY KEY (id)
) {{strict}};

CREATE UNIQUE INDEX access_grant_policies_name ON access_grant_policies (organization_id, name);
CREATE INDEX access_grant_policies_created ON access_grant_policies (organization_id, created_at, id);
CREATE INDEX access_grant_policies_principal ON access_grant_policies (principal_type, principal_id);

-- The clouds and folders of the rules, by the number of the rule and their place in it.
CREATE TABLE access_grant_places (
	policy_id     {{text}} NOT NULL,
	rule          BIGINT NOT NULL,
	place         BIGINT NOT NULL,
	resource_type {{text}} NOT NULL,
	resource_id   {{text}} NOT NULL,
	PRIMARY KEY (policy_id, rule, place)
) {{strict}};

CREATE INDEX access_grant_places_resource ON access_grant_places (resource_type, resource_id);

-- Steps that a program takes once over a store that an older one has made.
CREATE TABLE access_upgrades (
	name {{text}} NOT NULL,
	PRIMARY KEY (name)
) {{strict}};

-- A new store has nothing to give default groups to.
INSERT INTO access_upgrades (name)
SELECT 'default_groups' WHERE NOT EXISTS (SELECT 1 FROM access_resources WHERE type = 'organization-manager.organization');
