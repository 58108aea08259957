-- Whether a process has, or had since it joined, services elsewhere that decide by what
-- it sends them. They may answer for as long as a lease after it is gone: its row is not
-- taken away before. Where the store is not shared the one process has a row while it has
-- followers, and who finds one waits for as long.
ALTER TABLE access_replicas ADD COLUMN followed BIGINT NOT NULL DEFAULT 0;
