-- Jobs are taken by the time since which they are due, so that whoever looks for one does
-- not read those that others have taken. Nothing gives a job a priority.
CREATE INDEX goqite_queue_timeout_idx ON goqite (queue, timeout);
DROP INDEX goqite_queue_priority_created_idx;
