-- Of the records that were taken before.
INSERT INTO partner_usage_nights
SELECT r.key, (r.used_at + 10800000000) / 86400000000, COUNT(*),
	CAST(SUM(trunc(CAST(r.quantity AS numeric))) AS BIGINT),
	CAST(SUM((CAST(r.quantity AS numeric) - trunc(CAST(r.quantity AS numeric))) * 1000000000) AS BIGINT),
	CAST(SUM(trunc(CAST(r.cost AS numeric))) AS BIGINT),
	CAST(SUM((CAST(r.cost AS numeric) - trunc(CAST(r.cost AS numeric))) * 1000000000) AS BIGINT),
	CAST(SUM(trunc(CAST(r.discount AS numeric))) AS BIGINT),
	CAST(SUM((CAST(r.discount AS numeric) - trunc(CAST(r.discount AS numeric))) * 1000000000) AS BIGINT),
	CAST(SUM(trunc(CAST(r.reward AS numeric))) AS BIGINT),
	CAST(SUM((CAST(r.reward AS numeric) - trunc(CAST(r.reward AS numeric))) * 1000000000) AS BIGINT),
	CAST(SUM(trunc(CAST(r.adjustment AS numeric))) AS BIGINT),
	CAST(SUM((CAST(r.adjustment AS numeric) - trunc(CAST(r.adjustment AS numeric))) * 1000000000) AS BIGINT)
FROM partner_usage_records r JOIN partner_usage_keys k ON k.key = r.key
WHERE k.account_id <> '' AND (r.used_at + 10800000000) % 86400000000 < 10800000000
GROUP BY 1, 2;

ALTER TABLE partner_usage_nights SET (fillfactor = 70);
