package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/backup"
	"github.com/bindery-iam/bindery/services/identity"
)

// owners are the units that have tables.
func owners() []server.Unit {
	var with []server.Unit
	for _, u := range units() {
		if len(u.Migrations) > 0 {
			with = append(with, u)
		}
	}
	return with
}

// backupUnits are the units as a backup knows them.
func backupUnits() []backup.Unit {
	var all []backup.Unit
	for _, u := range owners() {
		b := backup.Unit{Name: u.Name, Migrations: u.Migrations}
		switch u.Name {
		case accessbindings.Name:
			b.EpochTable, b.HeadTable = accessbindings.EpochTable, accessbindings.EpochTable
		case identity.Name:
			b.EpochTable = identity.EpochTable
		}
		all = append(all, b)
	}
	return all
}

// url is the database, whichever engine.
func (f storeFlags) url() string {
	if f.DatabaseURL != "" {
		return f.DatabaseURL
	}
	return filepath.Join(f.DataDir, "bindery.db")
}

// reader opens the tables of all units to read from, beside a server or without one.
func (f storeFlags) reader(ctx context.Context) (*sqldb.DB, error) {
	db, err := sqldb.Open(ctx, sqldb.Config{URL: f.url(), ReadOnly: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no database in %s: name the data directory (--data-dir) or the database (--database-url)", f.DataDir)
	}
	return db, err
}

type backupCommand struct {
	Out string `required:"" placeholder:"FILE" help:"File to make. It holds the signing keys: keep it as safe as the database."`
	storeFlags
}

// Run makes a backup. A server may run and write meanwhile.
func (c backupCommand) Run(ctx context.Context, out io.Writer) error {
	db, err := c.reader(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = db.Close() }() // it only read
	s, err := backup.Create(ctx, c.Out, db, backupUnits(), version, time.Now())
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: revision %d of epoch %d, %d rows\n", c.Out, s.Revision, s.Epoch, s.Rows)
	return err
}

type restoreCommand struct {
	In        string `required:"" placeholder:"FILE" help:"File of bindery backup."`
	KeepEpoch bool   `help:"Keep IAM tokens good that were issued before: for a planned move, when the server was stopped before the backup and nothing is lost."`
	storeFlags
}

// Run fills an empty installation. No server may run on it.
func (c restoreCommand) Run(ctx context.Context, out io.Writer) (err error) {
	file, err := backup.Open(ctx, c.In, backupUnits())
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it only read
	dbs, err := c.open(ctx, owners())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dbs.close()) }()
	all := dbs.db(owners()[0].Name)
	if all.Engine() == sqldb.PostgreSQL {
		if all, err = sqldb.Open(ctx, sqldb.Config{URL: c.url()}); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, all.Close()) }()
	}
	if err := file.Empty(ctx, all); err != nil {
		return err
	}
	for _, u := range owners() {
		if err := sqldb.Migrate(ctx, dbs.db(u.Name), u.Migrations...); err != nil {
			return fmt.Errorf("unit %s: %w", u.Name, err)
		}
	}
	epoch, err := file.Restore(ctx, all, backup.Options{KeepEpoch: c.KeepEpoch, Now: time.Now()})
	if err != nil {
		return err
	}
	tokens := "IAM tokens issued before are refused"
	if c.KeepEpoch {
		tokens = "IAM tokens issued before stay good"
	}
	_, err = fmt.Fprintf(out, "restored revision %d, %d rows, made %s; epoch %d: %s\n", file.Revision, file.Rows, file.MadeAt.Format(time.RFC3339), epoch, tokens)
	return err
}
