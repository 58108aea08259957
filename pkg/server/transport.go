package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
)

// firstByteOfTLS begins every TLS connection: the record type handshake.
const firstByteOfTLS = 0x16

// handshakeTimeout bounds how long a connection may take to shake hands, by TLS and
// by HTTP/2. grpc sets it on the connection and takes it off at the end of both.
const handshakeTimeout = 10 * time.Second

// eitherCreds let one port speak TLS and plaintext h2c: the first byte of a
// connection tells which. Plaintext is for loopback peers, unless plaintext
// allows it to all.
type eitherCreds struct {
	credentials.TransportCredentials // TLS
	plaintext                        bool
}

// newEitherCreds returns the credentials of a port. conf offers h2 by ALPN.
func newEitherCreds(conf *tls.Config, plaintext bool) credentials.TransportCredentials {
	conf = conf.Clone()
	conf.NextProtos = []string{"h2"}
	conf.MinVersion = tls.VersionTLS12
	return &eitherCreds{TransportCredentials: credentials.NewTLS(conf), plaintext: plaintext}
}

var errPlaintext = errors.New("plaintext is for loopback only")

// ServerHandshake looks at the first byte and shakes hands accordingly.
func (c *eitherCreds) ServerHandshake(raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	peeked := &peekedConn{Conn: raw, r: bufio.NewReaderSize(raw, 16)}
	first, err := peeked.r.Peek(1)
	if err != nil {
		return nil, nil, fmt.Errorf("read first byte: %w", err)
	}
	if first[0] == firstByteOfTLS {
		return c.TransportCredentials.ServerHandshake(peeked)
	}
	if !c.plaintext && !staysHere(raw) {
		return nil, nil, fmt.Errorf("%w: %s", errPlaintext, raw.RemoteAddr())
	}
	return peeked, plaintextInfo{}, nil
}

// ClientHandshake is not for servers.
func (c *eitherCreds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server credentials cannot dial")
}

// Clone copies the credentials.
func (c *eitherCreds) Clone() credentials.TransportCredentials {
	return &eitherCreds{TransportCredentials: c.TransportCredentials.Clone(), plaintext: c.plaintext}
}

// peekedConn gives back what was peeked, then reads on.
type peekedConn struct {
	net.Conn
	r *bufio.Reader
}

// Read reads the peeked bytes first.
func (c *peekedConn) Read(b []byte) (int, error) {
	if c.r != nil && c.r.Buffered() > 0 {
		return c.r.Read(b)
	}
	c.r = nil
	return c.Conn.Read(b)
}

// plaintextInfo is the AuthInfo of h2c.
type plaintextInfo struct{}

// AuthType is "insecure", as grpc calls it.
func (plaintextInfo) AuthType() string { return "insecure" }

// staysHere reports whether a connection does not leave the machine: over loopback,
// or from and to one address, which the kernel takes from no network.
func staysHere(conn net.Conn) bool {
	from, isTCP := conn.RemoteAddr().(*net.TCPAddr)
	to, alsoTCP := conn.LocalAddr().(*net.TCPAddr)
	return isLoopback(conn.RemoteAddr()) || isTCP && alsoTCP && from.IP.Equal(to.IP)
}

func isLoopback(addr net.Addr) bool {
	switch a := addr.(type) {
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	case *net.UnixAddr:
		return true
	default:
		return false
	}
}
