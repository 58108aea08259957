// Package operator is the client of the operator socket: how the command line
// reaches the process that serves a data directory.
package operator

import (
	"errors"
	"fmt"

	"google.golang.org/grpc"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/server"
)

// Dial connects to the process that serves a data directory. It fails with a text
// that says what to do when there is none.
func Dial(dataDir string) (*grpc.ClientConn, error) {
	conn, err := server.DialOperator(dataDir)
	if errors.Is(err, server.ErrNoOperator) {
		return nil, fmt.Errorf("no bindery serves the data directory %s: start one with bindery serve all --data-dir %s (%w)", dataDir, dataDir, err)
	}
	return conn, err
}

// Explain turns the error of a call into what a person at a terminal needs: the
// message and the reason.
func Explain(err error) error {
	if err == nil {
		return nil
	}
	var e *apierr.Error
	if !errors.As(apierr.FromRPC(err), &e) {
		return err
	}
	return fmt.Errorf("%s (%s)", e.Message, e.Reason)
}
