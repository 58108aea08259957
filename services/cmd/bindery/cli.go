package main

import (
	"fmt"
	"io"

	"github.com/alecthomas/kong"
)

// cli is the command line: the flags and the help text come from its tags.
type cli struct {
	Serve   serveCommand   `cmd:"" help:"Serve all units, or those named, until interrupted."`
	Migrate migrateCommand `cmd:"" help:"Bring the schemas of all units up to date, or of those named."`
	User    struct {
		Create userCreateCommand `cmd:"" help:"Make a user and print its id, login and OAuth token as JSON."`
	} `cmd:"" help:"Manage users, through the running server's operator socket."`
	Token struct {
		Create tokenCreateCommand `cmd:"" help:"Print an IAM token of a user."`
	} `cmd:"" help:"Issue tokens, through the running server's operator socket."`
	UnitKey struct {
		Create unitKeyCreateCommand `cmd:"" help:"Make the key by which a unit in a process of its own is known to the others."`
	} `cmd:"" help:"Manage the keys of units."`
	Key struct {
		Rotate keyRotateCommand `cmd:"" help:"Begin to sign IAM tokens with a new key; those of the old one stay good."`
	} `cmd:"" help:"Manage the keys that sign tokens, through the running server's operator socket."`
	Backup  backupCommand  `cmd:"" help:"Write everything into one file, beside a running server or without one."`
	Restore restoreCommand `cmd:"" help:"Make an empty installation, on either engine, what a backup was."`
	Doctor  doctorCommand  `cmd:"" help:"Look at an installation and say what is wrong with it; exit code 1 when something is."`
	Version versionCommand `cmd:"" help:"Print the version."`
}

type versionCommand struct{}

// Run prints the version alone on a line.
func (versionCommand) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, version)
	return err
}

// grammar is how the command line is read. Each flag may come by the environment:
// --tls-cert as BINDERY_TLS_CERT; what may be given several times is separated by
// semicolons there.
func grammar() []kong.Option {
	return []kong.Option{
		kong.Name("bindery"),
		kong.Description("The identity and access control plane of a cloud."),
		kong.UsageOnError(),
		kong.DefaultEnvars("BINDERY"),
	}
}
