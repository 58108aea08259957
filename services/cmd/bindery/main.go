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
	Migrate migrateCommand `cmd:"" help:"Bring the schemas of all units up to date."`
	User    struct {
		Create userCreateCommand `cmd:"" help:"Make a user and print its id, login and OAuth token as JSON."`
	} `cmd:"" help:"Manage users, through the running server's operator socket."`
	Token struct {
		Create tokenCreateCommand `cmd:"" help:"Print an IAM token of a user."`
	} `cmd:"" help:"Issue tokens, through the running server's operator socket."`
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
	var line cli
	parsed := kong.Parse(&line,
		kong.Name("bindery"),
		kong.Description("The identity and access control plane of a cloud."),
		kong.UsageOnError(),
		kong.BindTo(ctx, (*context.Context)(nil)),
		kong.BindTo(os.Stdout, (*io.Writer)(nil)),
	)
	parsed.FatalIfErrorf(parsed.Run())
}
