// Command bindery is the whole program: it serves the units, brings their
// schemas up to date, and makes the first users and tokens.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"

	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/services/accessbindings"
	"github.com/bindery-iam/bindery/services/gateway"
	"github.com/bindery-iam/bindery/services/identity"
	"github.com/bindery-iam/bindery/services/marketplacerequests"
	"github.com/bindery-iam/bindery/services/notifications"
	"github.com/bindery-iam/bindery/services/partner"
	"github.com/bindery-iam/bindery/services/resourcemanager"
)

// version is set by the linker.
var version = "dev"

// units are the services of the suite, by name.
func units() []server.Unit {
	return []server.Unit{
		accessbindings.Unit(), identity.Unit(), resourcemanager.Unit(), notifications.Unit(), partner.Unit(), marketplacerequests.Unit(), gateway.Unit(),
	}
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
