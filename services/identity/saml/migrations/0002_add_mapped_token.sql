-- Who noted a membership last, so that a sign-in takes back what it read, and not what
-- another one has noted meanwhile.
ALTER TABLE identity_mapped_members ADD COLUMN token {{text}} NOT NULL DEFAULT '';
