// Package sqldb opens the databases of bindery: PostgreSQL in production, one
// SQLite file on a laptop. It is a thin layer over database/sql, not a framework:
// services write their SQL by hand, one text for both engines, and find here
// what the engines do differently.
//
//   - PostgreSQL: one schema per unit, set as the search path of every
//     connection. SQLite: one file for all units of the process, with one
//     connection that writes and several that read.
//   - InTx is the only way to begin a transaction that writes; Snapshot reads
//     several things as of one moment.
//   - Migrate brings a database to the version of the program, forward only.
//   - A connection that was lost is made anew, and what can be done again without
//     harm is; Outward tells the caller of an RPC what remains.
//   - Layout and Contents read and write whole tables, in a form that is the same
//     on both engines: for backups.
//   - Unsafe and Unequal say why a database should not be trusted with anything.
//   - ConstraintName tells which constraint an error broke, by PostgreSQL's name
//     for it on both engines.
//
// What services keep to, so that one text serves: placeholders $1, $2; times as
// BIGINT microseconds UTC (Micros, Time); no arrays, no LIKE, no dialect tricks;
// text from outside passes CheckText; columns that are compared or ordered are
// declared {{text}}, which compares byte by byte.
//
// On PostgreSQL a transaction carries the id of its request, as a comment on its
// BEGIN and COMMIT.
package sqldb
