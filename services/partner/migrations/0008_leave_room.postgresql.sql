-- Sums are added to again and again: with room beside them the new version of a row lies
-- on the same page, and the index is not written.
ALTER TABLE partner_usage_days SET (fillfactor = 70);
ALTER TABLE partner_usage_months SET (fillfactor = 50);
