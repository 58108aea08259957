package saml

import (
	"embed"

	"github.com/bindery-iam/bindery/pkg/sqldb"
)

//go:embed migrations
var files embed.FS

// Migrations makes the tables of SAML federations and their users, beside those of
// the unit.
func Migrations(unit string) sqldb.Migrations {
	return sqldb.Migrations{Name: unit + "_saml", Unit: unit, FS: files}
}
