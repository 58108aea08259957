package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestCommandLine runs the scripts of testdata on the built program. They find a
// running server's data directory in $DATA, and its addresses in $GRPC, $HTTP and
// $OPS; logins must differ from script to script.
func TestCommandLine(t *testing.T) {
	bin := binary(t)
	s := startServer(t, "")
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", filepath.Dir(bin)+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("DATA", s.dataDir)
			env.Setenv("GRPC", s.grpc)
			env.Setenv("HTTP", s.http)
			env.Setenv("OPS", s.ops)
			return nil
		},
	})
}
