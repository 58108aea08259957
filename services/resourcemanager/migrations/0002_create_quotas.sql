-- Limits that an operator changed (QL-3). resource_id is '' for the installation's
-- default of a quota; a quota without a row has the default of the catalogue.
CREATE TABLE resourcemanager_quota_limits (
	quota_id    {{text}} NOT NULL,
	resource_id {{text}} NOT NULL,
	value       BIGINT NOT NULL,
	PRIMARY KEY (quota_id, resource_id),
	CONSTRAINT resourcemanager_quota_limits_value_check CHECK (value >= 0)
) {{strict}};

-- Requests for other limits of one resource (QL-4).
CREATE TABLE resourcemanager_quota_requests (
	id            {{text}} NOT NULL,
	resource_type {{text}} NOT NULL,
	resource_id   {{text}} NOT NULL,
	status        {{text}} NOT NULL,
	created_by    {{text}} NOT NULL,
	created_at    BIGINT NOT NULL,
	PRIMARY KEY (id),
	CONSTRAINT resourcemanager_quota_requests_status_check
		CHECK (status IN ('PENDING', 'PROCESSING', 'PROCESSED', 'CANCELED', 'DELETING'))
) {{strict}};

-- Lists: of a resource, of all.
CREATE INDEX resourcemanager_quota_requests_by_resource
	ON resourcemanager_quota_requests (resource_type, resource_id, created_at, id);
CREATE INDEX resourcemanager_quota_requests_by_time ON resourcemanager_quota_requests (created_at, id);

-- The quotas of a request, in the order asked for. approved is 0 until an operator
-- has approved something; modified_by is who changed the row last, '' for nobody.
CREATE TABLE resourcemanager_quota_request_limits (
	request_id  {{text}} NOT NULL,
	position    BIGINT NOT NULL,
	quota_id    {{text}} NOT NULL,
	desired     BIGINT NOT NULL,
	approved    BIGINT NOT NULL,
	status      {{text}} NOT NULL,
	message     TEXT NOT NULL,
	modified_by {{text}} NOT NULL,
	PRIMARY KEY (request_id, quota_id),
	FOREIGN KEY (request_id) REFERENCES resourcemanager_quota_requests (id) ON DELETE CASCADE,
	CONSTRAINT resourcemanager_quota_request_limits_status_check
		CHECK (status IN ('PENDING', 'PROCESSING', 'PARTIAL_APPROVED', 'APPROVED', 'REJECTED', 'CANCELED'))
) {{strict}};
