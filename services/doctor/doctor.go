// Package doctor looks at an installation and says in words what is wrong with it:
// its files, its certificates, its database, and whether what the units keep fits
// together. It reads only, beside a running server or without one, and mends
// nothing.
//
// It reads the tables of all units in one snapshot, which no unit could do for it:
// what it compares is what one unit keeps with what another one does.
package doctor

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/sqldb"
)

// State is how a check went.
type State string

// The states. A note is nothing wrong, and good to know.
const (
	OK    State = "ok"
	Note  State = "note"
	Wrong State = "wrong"
)

// Finding is what one check has to say.
type Finding struct {
	Check string `json:"check"`
	State State  `json:"state"`
	Text  string `json:"text"`
}

// Report is all findings, in the order of the checks.
type Report []Finding

// Healthy reports whether nothing is wrong.
func (r Report) Healthy() bool {
	for _, f := range r {
		if f.State == Wrong {
			return false
		}
	}
	return true
}

// Unit is a unit with tables.
type Unit struct {
	Name       string
	Migrations []sqldb.Migrations
	Sealed     []secret.Column // columns of sealed values
}

// Options say what to look at. All are required but as told.
type Options struct {
	DataDir string
	CertPEM string // file of the certificate that is served; empty means the one in the data directory
	SealKey string // file of the keys that seal
	Units   []Unit
	Now     func() time.Time

	// Open opens the database without a schema, to read. It fails with
	// fs.ErrNotExist when there is none.
	Open func(ctx context.Context) (*sqldb.DB, error)
}

// doctor collects findings.
type doctor struct {
	Options
	db     *sqldb.DB
	report Report
}

func (d *doctor) say(check string, state State, format string, args ...any) {
	d.report = append(d.report, Finding{check, state, strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")})
}

// check runs one check. What it complains about is told; without complaints it is
// fine, as fine says. An error of its own is a complaint too.
func (d *doctor) check(name, fine string, look func() (complaints []string, err error)) {
	complaints, err := look()
	if err != nil {
		complaints = append(complaints, fmt.Sprintf("could not be looked at: %v", err))
	}
	for _, c := range complaints {
		d.say(name, Wrong, "%s", c)
	}
	if len(complaints) == 0 {
		d.say(name, OK, "%s", fine)
	}
}

// Run makes all checks that can be made.
func Run(ctx context.Context, o Options) Report {
	d := &doctor{Options: o}
	d.files()
	d.certificates()
	d.socket(ctx)
	d.database(ctx)
	return d.report
}

// database looks at the database and at what is in it.
func (d *doctor) database(ctx context.Context) {
	opening, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	db, err := d.Open(opening)
	if err != nil {
		d.say("database", Wrong, "cannot be opened: %v", err)
		return
	}
	d.db = db
	defer func() { _ = db.Close() }() // it only read
	d.engine(ctx)
	if d.schemas(ctx) {
		d.facts(ctx)
	}
}

// facts looks at what the units keep, as of one moment.
func (d *doctor) facts(ctx context.Context) {
	err := sqldb.Snapshot(ctx, d.db, func(ctx context.Context, tx *sql.Tx) error {
		f := &facts{doctor: d, tx: tx}
		f.line(ctx)
		f.tree(ctx)
		f.bindings(ctx)
		f.units(ctx)
		f.jobs(ctx)
		f.operations(ctx)
		f.sealed(ctx)
		return ctx.Err()
	})
	if err != nil {
		d.say("facts", Wrong, "could not be looked at: %v", err)
	}
}
