-- Of the records that were taken before.
INSERT INTO partner_usage_nights
SELECT r.key, (r.used_at + 10800000000) / 86400000000, COUNT(*),
	SUM(CAST(r.quantity AS INTEGER)),
	SUM(CASE instr(r.quantity, '.') WHEN 0 THEN 0 ELSE CAST(substr(substr(r.quantity, instr(r.quantity, '.') + 1) || '000000000', 1, 9) AS INTEGER) END * CASE substr(r.quantity, 1, 1) WHEN '-' THEN -1 ELSE 1 END),
	SUM(CAST(r.cost AS INTEGER)),
	SUM(CASE instr(r.cost, '.') WHEN 0 THEN 0 ELSE CAST(substr(substr(r.cost, instr(r.cost, '.') + 1) || '000000000', 1, 9) AS INTEGER) END * CASE substr(r.cost, 1, 1) WHEN '-' THEN -1 ELSE 1 END),
	SUM(CAST(r.discount AS INTEGER)),
	SUM(CASE instr(r.discount, '.') WHEN 0 THEN 0 ELSE CAST(substr(substr(r.discount, instr(r.discount, '.') + 1) || '000000000', 1, 9) AS INTEGER) END * CASE substr(r.discount, 1, 1) WHEN '-' THEN -1 ELSE 1 END),
	SUM(CAST(r.reward AS INTEGER)),
	SUM(CASE instr(r.reward, '.') WHEN 0 THEN 0 ELSE CAST(substr(substr(r.reward, instr(r.reward, '.') + 1) || '000000000', 1, 9) AS INTEGER) END * CASE substr(r.reward, 1, 1) WHEN '-' THEN -1 ELSE 1 END),
	SUM(CAST(r.adjustment AS INTEGER)),
	SUM(CASE instr(r.adjustment, '.') WHEN 0 THEN 0 ELSE CAST(substr(substr(r.adjustment, instr(r.adjustment, '.') + 1) || '000000000', 1, 9) AS INTEGER) END * CASE substr(r.adjustment, 1, 1) WHEN '-' THEN -1 ELSE 1 END)
FROM partner_usage_records r JOIN partner_usage_keys k ON k.key = r.key
WHERE k.account_id <> '' AND (r.used_at + 10800000000) % 86400000000 < 10800000000
GROUP BY 1, 2;
