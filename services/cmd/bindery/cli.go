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
		Create     userCreateCommand     `cmd:"" help:"Make a user and print its id, login and OAuth token as JSON."`
		List       userListCommand       `cmd:"" help:"Print the users, each as JSON on a line of its own."`
		Suspend    userSuspendCommand    `cmd:"" help:"Let a user do nothing any more, from now on."`
		Reactivate userReactivateCommand `cmd:"" help:"End a suspension."`
		Link       userLinkCommand       `cmd:"" help:"Let a user sign in by an account of an OpenID provider."`
		Unlink     userUnlinkCommand     `cmd:"" help:"End that somebody may sign in by an account of an OpenID provider."`
		Delete     userDeleteCommand     `cmd:"" help:"Delete a user for good, with its credentials, memberships and roles."`
	} `cmd:"" help:"Manage users, through the running server's operator socket."`
	Token struct {
		Show   tokenShowCommand   `cmd:"" default:"withargs" help:"Print an IAM token of the session that bindery login began."`
		Create tokenCreateCommand `cmd:"" help:"Print an IAM token of a user, through the running server's operator socket."`
	} `cmd:"" help:"Get IAM tokens."`
	Login   loginCommand  `cmd:"" help:"Sign in by a browser, and keep the session in a file."`
	Logout  logoutCommand `cmd:"" help:"End the session that bindery login began."`
	UnitKey struct {
		Create unitKeyCreateCommand `cmd:"" help:"Make the key by which a unit in a process of its own is known to the others."`
	} `cmd:"" help:"Manage the keys of units."`
	SealKey struct {
		Create sealKeyCreateCommand `cmd:"" help:"Make the key by which secrets in the database are sealed."`
		Rotate sealKeyRotateCommand `cmd:"" help:"Add a new key to the file, which seals from the next start on; the others still open."`
	} `cmd:"" help:"Manage the keys that seal secrets in the database."`
	Key struct {
		Rotate keyRotateCommand `cmd:"" help:"Begin to sign IAM tokens with a new key; those of the old one stay good."`
	} `cmd:"" help:"Manage the keys that sign tokens, through the running server's operator socket."`
	Quota   quotaCommands   `cmd:"" help:"Set limits and answer requests for other ones, through the running server's operator socket."`
	Billing billingCommands `cmd:"" help:"Set states of billing accounts and partner status, through the running server's operator socket."`
	Audit   struct {
		Export auditExportCommand `cmd:"" help:"Print the audit trail as JSON lines, newest first."`
	} `cmd:"" help:"Read the audit trail, through the operator socket of the server that has the gateway."`
	Notice struct {
		Create     noticeCreateCommand     `cmd:"" help:"Tell owners and subscribers of planned work, of an incident or of something else."`
		Deliveries noticeDeliveriesCommand `cmd:"" help:"Print who was told of what, and who could not be, as JSON lines."`
	} `cmd:"" help:"Tell people, through the running server's operator socket."`
	Product       productCommands       `cmd:"" help:"Review products of the marketplace, through the running server's operator socket."`
	AccessRequest accessRequestCommands `cmd:"" help:"See to requests for products, through the running server's operator socket."`
	Ticket        ticketCommands        `cmd:"" help:"Answer support tickets, through the running server's operator socket."`

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
