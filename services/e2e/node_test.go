package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// cloudNames are the names at which the Node SDK looks for its services.
const cloudNames = "*.api.cloud.yandex.net"

// nodeClient starts the program around the Node SDK. The SDK takes neither an
// endpoint nor a CA for the exchange of an OAuth token and cannot do without TLS,
// so it runs as behind a company proxy: all its names lead to s.
func nodeClient(t *testing.T, s *server) *client {
	t.Helper()
	node := nodeProgram(t)
	proxy := startProxy(t, s)
	return startClient(t, []string{
		"grpc_proxy=http://" + proxy.address,
		"GRPC_DEFAULT_SSL_ROOTS_FILE_PATH=" + proxy.caFile,
	}, node, "nodesdk/main.js")
}

// nodeProgram returns node, with the packages of nodesdk installed as its lock
// file says. Without node or npm the test is skipped; BINDERY_REQUIRE_NODE=1
// makes that a failure.
func nodeProgram(t *testing.T) string {
	t.Helper()
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = exec.LookPath("npm")
	}
	if err != nil {
		if os.Getenv("BINDERY_REQUIRE_NODE") == "1" {
			t.Fatalf("Node is required (BINDERY_REQUIRE_NODE=1): %v", err)
		}
		t.Skipf("SKIPPED, NOT PASSED: this test needs node and npm: %v", err)
	}
	if upToDate("nodesdk/node_modules/.package-lock.json", "nodesdk/package-lock.json") {
		return node
	}
	install := exec.Command("npm", "ci", "--ignore-scripts")
	install.Dir = "nodesdk"
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
	return node
}

// upToDate says whether made exists and is not older than source.
func upToDate(made, source string) bool {
	m, err := os.Stat(made)
	if err != nil {
		return false
	}
	s, err := os.Stat(source)
	return err == nil && !m.ModTime().Before(s.ModTime())
}

// proxy answers CONNECT to any name: it shows a certificate for cloudNames there
// and hands on what it hears to the server, over TLS again.
type proxy struct {
	address string // of the proxy, HOST:PORT
	caFile  string // CA of the certificate it shows

	shown    *tls.Config
	upstream *tls.Config
	server   string
}

// startProxy starts a proxy that ends with the test.
func startProxy(t *testing.T, s *server) *proxy {
	t.Helper()
	caPEM, leaf := certificateFor(t, cloudNames)
	pem, err := os.ReadFile(s.caFile())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("no certificate in %s", s.caFile())
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	p := &proxy{
		address:  listener.Addr().String(),
		caFile:   filepath.Join(t.TempDir(), "proxy-ca.pem"),
		shown:    &tls.Config{Certificates: []tls.Certificate{leaf}, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12},
		upstream: &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS12},
		server:   s.grpc,
	}
	if err := os.WriteFile(p.caFile, caPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // the listener is closed
			}
			go p.serve(conn)
		}
	}()
	return p
}

// serve handles one connection: its CONNECT, then what flows through it. Errors
// need no telling: the client sees its connection end.
func (p *proxy) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	req, err := http.ReadRequest(in)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	if _, err := io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		return
	}
	client := tls.Server(conn, p.shown)
	up, err := tls.Dial("tcp", p.server, p.upstream)
	if err != nil {
		return
	}
	defer up.Close()
	ended := make(chan struct{}, 2)
	for _, way := range [][2]net.Conn{{up, client}, {client, up}} {
		go func() {
			_, _ = io.Copy(way[0], way[1])
			ended <- struct{}{}
		}()
	}
	<-ended
}

// certificateFor makes a CA and a certificate of it for names and addresses.
func certificateFor(t testing.TB, names ...string) (caPEM []byte, leaf tls.Certificate) {
	t.Helper()
	caKey, leafKey := newKey(t), newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of the tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, name)
		}
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, server, ca, leafKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	caPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return caPEM, tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: leafKey}
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
