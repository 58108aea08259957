package servertest

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// FreeAddress returns an address that nobody listens on, for a process whose peers
// must know where it is before it is there. The port is below those that systems
// give to outgoing connections, so that none takes it while its server is down; and
// whoever calls this, in this process or another, leaves it alone until the test
// ends, since the UDP port of the same number, which nobody uses, stands for it.
func FreeAddress(t testing.TB) string {
	t.Helper()
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(20000)) //nolint:gosec // no secret
		claim, err := net.ListenPacket("udp", address)
		if err != nil {
			continue
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			_ = claim.Close()
			continue
		}
		_ = l.Close()
		t.Cleanup(func() { _ = claim.Close() })
		return address
	}
	t.Fatal("no port is free")
	return ""
}
