package signin

import (
	"embed"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables of sign-in, which are of the unit identity and stand beside
// its own.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_signin", Unit: unit, FS: files}
}
