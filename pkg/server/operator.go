package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// The operator socket is how the operator of an installation reaches it: a socket
// in a directory of mode 0700, and the kernel says which user is on the other end.
// Paths of sockets are short; for a long data directory the socket lies in a
// directory of its own for temporary files and a file tells where.
const (
	operatorDir     = "operator"
	operatorSocket  = "operator.sock"
	operatorPointer = "operator.path"
	maxSocketPath   = 104
)

// ErrNoOperator means that no process serves the data directory.
var ErrNoOperator = errors.New("no running bindery serves this data directory")

// DialOperator connects to the process that serves a data directory;
// ErrNoOperator when there is none.
func DialOperator(dataDir string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	path, err := operatorPath(dataDir)
	if err != nil {
		return nil, err
	}
	probe, err := net.DialTimeout("unix", path, time.Second)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoOperator, err)
	}
	_ = probe.Close() // it was only to tell a live socket from a stale one
	return grpc.NewClient("passthrough:///bindery-operator", append(opts,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}))...)
}

// operatorPath returns the path of the socket that was made last.
func operatorPath(dataDir string) (string, error) {
	dir, err := filepath.Abs(filepath.Join(dataDir, operatorDir))
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, operatorSocket)
	if len(path) <= maxSocketPath {
		return path, nil
	}
	raw, err := os.ReadFile(filepath.Join(dir, operatorPointer)) //nolint:gosec // below the data directory
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrNoOperator, err)
	}
	return strings.TrimSpace(string(raw)), nil
}

// listenOperator makes the socket, taking the place of one that a dead process
// left.
func listenOperator(dataDir string) (net.Listener, error) {
	dir, err := filepath.Abs(filepath.Join(dataDir, operatorDir))
	if err != nil {
		return nil, err
	}
	if err := privateDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, operatorSocket)
	if len(path) > maxSocketPath {
		if path, err = shortSocket(dir); err != nil {
			return nil, err
		}
	}
	if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
		_ = conn.Close() // somebody is there: that is all to know
		return nil, fmt.Errorf("another process serves %s", dataDir)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	return net.Listen("unix", path)
}

// privateDir makes a directory for this user alone.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // a directory needs x
}

// shortSocket returns a path below the directory for temporary files: the one of
// the pointer file if that is still ours, else a new one.
func shortSocket(dir string) (string, error) {
	pointer := filepath.Join(dir, operatorPointer)
	if raw, err := os.ReadFile(pointer); err == nil { //nolint:gosec // below the data directory
		path := strings.TrimSpace(string(raw))
		//nolint:gosec // the pointer is in our own directory of mode 0700
		if st, err := os.Lstat(filepath.Dir(path)); err == nil && st.IsDir() && st.Mode().Perm() == 0o700 && ownedByUs(st) {
			return path, nil
		}
	}
	tmp, err := os.MkdirTemp("", "bindery-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(tmp, operatorSocket)
	if len(path) > maxSocketPath {
		return "", fmt.Errorf("the path of the socket, %s, is longer than %d bytes: set TMPDIR to a short one", path, maxSocketPath)
	}
	return path, os.WriteFile(pointer, []byte(path+"\n"), 0o600)
}

func ownedByUs(st os.FileInfo) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	return ok && int(sys.Uid) == os.Geteuid()
}

// operatorCreds admit the peers of a socket that run as our user or as root.
type operatorCreds struct{}

var errNotOperator = errors.New("the peer is another user")

// ServerHandshake asks the kernel who is on the other end.
func (operatorCreds) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, nil, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil, nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return nil, nil, fmt.Errorf("credentials of the peer: %w", err)
	}
	if err := admitUser(cred.Uid, os.Geteuid()); err != nil {
		return nil, nil, err
	}
	return conn, plaintextInfo{}, nil
}

// admitUser admits root and the user that runs the process.
func admitUser(uid uint32, own int) error {
	if uid != 0 && int(uid) != own {
		return fmt.Errorf("%w: %d", errNotOperator, uid)
	}
	return nil
}

// ClientHandshake is not for servers.
func (operatorCreds) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("server credentials cannot dial")
}

// Info names the protocol.
func (operatorCreds) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix"}
}

// Clone copies the credentials.
func (c operatorCreds) Clone() credentials.TransportCredentials { return c }

// OverrideServerName is not for servers.
func (operatorCreds) OverrideServerName(string) error { return nil }
