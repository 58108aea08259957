-- The resource on which view_permission is checked, where it is not the one that
-- the operation works on; both empty else.
ALTER TABLE {{unit}}_operations ADD COLUMN view_type {{text}} NOT NULL DEFAULT '';
ALTER TABLE {{unit}}_operations ADD COLUMN view_id {{text}} NOT NULL DEFAULT '';
