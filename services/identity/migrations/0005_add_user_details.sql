-- What else is known about users. suspended_at is 0 while a user may act; deleting
-- is 1 once its deletion was asked for.
ALTER TABLE identity_users ADD COLUMN given_name {{text}} NOT NULL DEFAULT '';
ALTER TABLE identity_users ADD COLUMN family_name {{text}} NOT NULL DEFAULT '';
ALTER TABLE identity_users ADD COLUMN phone {{text}} NOT NULL DEFAULT '';
ALTER TABLE identity_users ADD COLUMN suspended_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE identity_users ADD COLUMN suspend_reason {{text}} NOT NULL DEFAULT '';
ALTER TABLE identity_users ADD COLUMN deleting BIGINT NOT NULL DEFAULT 0;
