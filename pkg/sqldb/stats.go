package sqldb

import "database/sql"

// PoolStats is the state of one pool of connections.
type PoolStats struct {
	Pool string // what it is for: "all", or "write" and "read" on SQLite
	sql.DBStats
}

// Stats tells the state of the pools, without asking the database.
func (db *DB) Stats() []PoolStats {
	if db.read == db.write {
		return []PoolStats{{"all", db.write.Stats()}}
	}
	return []PoolStats{{"write", db.write.Stats()}, {"read", db.read.Stats()}}
}
