package server

import (
	"context"
	"net"
	"strconv"

	"google.golang.org/grpc"
)

// dialDoor returns a connection to the process's own public port that carries no
// credential of any unit. addr is asked at each dial, since the port is not open
// yet when units are built.
func dialDoor(addr func() net.Addr, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///door", append(more,
		grpc.WithTransportCredentials(loopbackCreds()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", reachable(addr()))
		}),
		grpc.WithNoProxy(),
	)...)
}

// reachable returns addr as one dials it on this machine: a port on all addresses
// is reached by localhost.
func reachable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return addr.String()
	}
	if !tcp.IP.IsUnspecified() {
		return tcp.String()
	}
	return net.JoinHostPort("localhost", strconv.Itoa(tcp.Port))
}
