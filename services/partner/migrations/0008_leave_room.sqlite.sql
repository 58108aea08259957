-- SQLite changes a row where it lies.
SELECT 1;
