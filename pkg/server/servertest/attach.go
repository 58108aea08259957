package servertest

import (
	"crypto/ed25519"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Remote is a program that runs beside the test and has all units.
type Remote struct {
	Addr, HTTPAddr, OpsAddr string             // HOST:PORT each
	DataDir                 string             // where its operator socket is
	UnitKey                 ed25519.PrivateKey // that it was given for its units
	Dial                    []grpc.DialOption  // added to those of every connection to it
}

// Attach returns the world around a program that runs already: Conn, Dial, Unit and
// Context work as with Start. It has no Metrics, and nothing stops the program.
func Attach(t testing.TB, r Remote) *World {
	t.Helper()
	w := &World{DataDir: r.DataDir, t: t, now: time.Now, key: r.UnitKey, stop: func() {}, remote: r}
	w.Conn = w.Dial(grpc.WithTransportCredentials(insecure.NewCredentials()))
	return w
}

// Addr is the address of the gRPC port.
func (w *World) Addr() string {
	if w.Process == nil {
		return w.remote.Addr
	}
	return w.Process.Addr()
}

// HTTPAddr is the address of the HTTP port, "" when there is none.
func (w *World) HTTPAddr() string {
	if w.Process == nil {
		return w.remote.HTTPAddr
	}
	return w.Process.HTTPAddr()
}

// OpsAddr is the address of metrics and health.
func (w *World) OpsAddr() string {
	if w.Process == nil {
		return w.remote.OpsAddr
	}
	return w.Process.OpsAddr()
}
