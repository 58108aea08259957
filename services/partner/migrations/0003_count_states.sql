-- Which change of the state an account is in, counted from 1: whoever is told of one that
-- came before another knows it by that.
ALTER TABLE partner_accounts ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
