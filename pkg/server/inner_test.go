package server

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// conn is one end of a pipe with an address of its own.
type conn struct {
	net.Conn
	local, remote net.Addr
}

func (c conn) LocalAddr() net.Addr  { return c.local }
func (c conn) RemoteAddr() net.Addr { return c.remote }

func TestPlaintextIsForLoopback(t *testing.T) {
	loopback := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
	other := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7)}
	own := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}
	for _, tt := range []struct {
		name   string
		remote net.Addr
		allow  bool
		ok     bool
	}{
		{"loopback", loopback, false, true},
		{"loopback of IPv6", &net.TCPAddr{IP: net.IPv6loopback}, false, true},
		{"our own address", own, false, true},
		{"another machine", other, false, false},
		{"another machine, allowed", other, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			client, srv := net.Pipe()
			defer client.Close()
			go func() { _, _ = client.Write([]byte("PRI * HTTP/2.0\r\n")) }()
			got, _, err := newEitherCreds(&tls.Config{}, tt.allow).ServerHandshake(conn{srv, own, tt.remote})
			if (err == nil) != tt.ok || (err != nil && !errors.Is(err, errPlaintext)) {
				t.Fatalf("got %v, want accepted %v", err, tt.ok)
			}
			if err != nil {
				return
			}
			b := make([]byte, 16)
			if _, err := io.ReadFull(got, b); err != nil || string(b) != "PRI * HTTP/2.0\r\n" {
				t.Errorf("read %q %v: the peeked byte is lost", b, err)
			}
		})
	}
}

func TestOperatorIsOurUserOrRoot(t *testing.T) {
	for _, tt := range []struct {
		uid uint32
		own int
		ok  bool
	}{{1000, 1000, true}, {0, 1000, true}, {1001, 1000, false}, {1000, 0, false}} {
		if err := admitUser(tt.uid, tt.own); (err == nil) != tt.ok {
			t.Errorf("user %d to a process of %d: %v", tt.uid, tt.own, err)
		}
	}
}

func TestCertificatesAreMadeOnceAndRenewed(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	read := func() (leaf, ca *x509.Certificate) {
		t.Helper()
		conf, err := loadTLS(CertFiles{}, dir, now)
		if err != nil {
			t.Fatal(err)
		}
		if leaf, err = x509.ParseCertificate(conf.Certificates[0].Certificate[0]); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(CAPath(dir))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(raw)
		if ca, err = x509.ParseCertificate(block.Bytes); err != nil {
			t.Fatal(err)
		}
		if err := leaf.CheckSignatureFrom(ca); err != nil {
			t.Error(err)
		}
		return leaf, ca
	}
	leaf, ca := read()
	for _, name := range []string{"ca-key.pem", "localhost-key.pem"} {
		if st, err := os.Stat(filepath.Join(dir, "tls", name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, st.Mode(), err)
		}
	}
	if again, caAgain := read(); !again.Equal(leaf) || !caAgain.Equal(ca) {
		t.Error("made anew at the second start")
	}
	now = now.Add(leafLife - renewBefore + time.Hour)
	renewed, sameCA := read()
	if renewed.Equal(leaf) || !sameCA.Equal(ca) {
		t.Error("near its end the leaf is renewed, under the same authority")
	}
	now = now.Add(caLife)
	if last, newCA := read(); newCA.Equal(ca) || last.Equal(renewed) {
		t.Error("the authority is not renewed")
	}
	if err := os.WriteFile(filepath.Join(dir, "tls", "localhost.pem"), []byte("cut off"), 0o600); err != nil {
		t.Fatal(err)
	}
	read()
}

func TestTraceID(t *testing.T) {
	const good = "0af7651916cd43dd8448eb211c80319c"
	for parent, want := range map[string]string{
		"00-" + good + "-b7ad6b7169203331-01": good,
		"":                                    "",
		"00-" + good:                          "",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01":    "",
		"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01":    "",
		"00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01":     "",
		"00-0af7651916cd43dd8448eb211c8031\n9-b7ad6b7169203331-01-x": "",
	} {
		if got := traceID(parent); got != want {
			t.Errorf("%q: %q, want %q", parent, got, want)
		}
	}
}
