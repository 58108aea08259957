package sqldb

import (
	"errors"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// ConstraintName returns the name of the constraint that a statement broke, as
// PostgreSQL names it by default, and "" for any other error:
//
//	folders_pkey                 primary key of folders
//	folders_cloud_id_name_key    unique (cloud_id, name), or a unique index of that name
//	folders_cloud_id_fkey        foreign key; SQLite does not say which, so ForeignKey
//	folders_status_check         a check, when the schema names it so
//
// Unique indexes must be given the name of the pattern <table>_<columns>_key,
// and checks a name, since SQLite reports columns and names respectively.
func ConstraintName(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		if pg.Code == "23503" {
			return ForeignKey
		}
		return pg.ConstraintName
	}
	var lite *sqlite.Error
	if !errors.As(err, &lite) {
		return ""
	}
	switch lite.Code() {
	case sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY, sqlite3.SQLITE_CONSTRAINT_ROWID:
		table, _ := uniqueColumns(lite.Error())
		return table + "_pkey"
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE:
		table, columns := uniqueColumns(lite.Error())
		return strings.Join(append([]string{table}, append(columns, "key")...), "_")
	case sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
		return ForeignKey
	case sqlite3.SQLITE_CONSTRAINT_CHECK:
		return after(lite.Error(), "CHECK constraint failed: ")
	}
	return ""
}

// ForeignKey is what ConstraintName returns for any broken foreign key: SQLite
// does not tell them apart.
const ForeignKey = "foreign key"

// uniqueColumns reads "UNIQUE constraint failed: folders.cloud_id, folders.name".
func uniqueColumns(msg string) (table string, columns []string) {
	for part := range strings.SplitSeq(after(msg, "UNIQUE constraint failed: "), ", ") {
		t, c, _ := strings.Cut(part, ".")
		table, columns = t, append(columns, c)
	}
	return table, columns
}

// after returns what follows marker in a message of SQLite, without the code in
// parentheses that the driver appends.
func after(msg, marker string) string {
	_, s, _ := strings.Cut(msg, marker)
	if i := strings.LastIndex(s, " ("); i >= 0 {
		s = s[:i]
	}
	return s
}
