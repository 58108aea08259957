// Package backup writes everything that an installation knows into one file, and
// makes an installation out of one, on either engine.
//
// A backup is one moment of the tables of all units: one snapshot, taken beside the
// process that writes. What was acknowledged before it began is in it. It is read
// from the database and not asked of the units, since only one transaction over
// all tables sees them at one moment.
//
// The file:
//
//	bindery backup 1\n         magic and version of the format
//	gzip of lines of JSON      {"header":{…}}, then for each table {"table":{…}} and its rows, [v, …], then {"end":{…}}
//	sha256 <64 hex digits>\n   checksum of all bytes before it
//
// A value of a row is a JSON string, number or null; bytes are base64. The file
// holds the private halves of the signing keys: it is as secret as the database. The
// checksum finds damage; it does not tell who made the file.
//
// A restore goes into an empty installation, whole or not at all, and begins a new
// epoch: every IAM token issued before it is refused, also those that the lost line
// issued after the backup, and people exchange their OAuth tokens again. A store
// that is only moved, with nothing lost, keeps its epoch when told so.
package backup
