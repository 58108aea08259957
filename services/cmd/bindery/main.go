// Command bindery is the whole program: it serves the units, brings their
// schemas up to date, and makes the first users and tokens.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/gateway"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// version is set by the linker.
var version = "dev"

// units are the services of the suite, by name.
func units() []server.Unit {
	return []server.Unit{accessbindings.Unit(), identity.Unit(), resourcemanager.Unit(), gateway.Unit()}
}

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
	Version versionCommand `cmd:"" help:"Print the version."`
}

type versionCommand struct{}

// Run prints the version alone on a line.
func (versionCommand) Run(out io.Writer) error {
	_, err := fmt.Fprintln(out, version)
	return err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	parser := kong.Must(new(cli), append(grammar(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(os.Stdout, (*io.Writer)(nil)),
	)...)
	parsed, err := parser.Parse(os.Args[1:])
	parser.FatalIfErrorf(err)
	parsed.FatalIfErrorf(parsed.Run())
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
