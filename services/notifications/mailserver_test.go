package notifications

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"mime"
	"net"
	netmail "net/mail"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// mailServer is a server that takes mail over the wire, and can be told to refuse.
type mailServer struct {
	port int

	mu        sync.Mutex
	got       []letter
	refuse    error  // of the recipient
	password  string // required when set
	afterData func() // runs when a letter is there, before the server says so
}

// letter is one mail that was taken.
type letter struct {
	from, to string
	header   netmail.Header
	subject  string
	raw      string
	secure   bool
}

// startMail serves on a port of its own until the test ends.
func startMail(t *testing.T, conf *tls.Config) *mailServer {
	t.Helper()
	m := new(mailServer)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.serve(t, l, conf, false)
	return m
}

// serve takes mail on a listener; implicit is TLS from the first byte on.
func (m *mailServer) serve(t *testing.T, l net.Listener, conf *tls.Config, implicit bool) {
	t.Helper()
	m.port = l.Addr().(*net.TCPAddr).Port
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		_, secure := c.TLSConnectionState()
		return &mailSession{server: m, secure: secure || implicit}, nil
	}))
	s.Domain, s.ReadTimeout, s.WriteTimeout = "mail.example", 10*time.Second, 10*time.Second
	if implicit {
		l = tls.NewListener(l, conf)
	} else {
		s.TLSConfig = conf
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = s.Close() // what is under way is of no matter any more
		if err := <-done; err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			t.Errorf("mail server: %v", err)
		}
	})
}

// set changes how the server behaves.
func (m *mailServer) set(change func(m *mailServer)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// letters are those to an address, "" for all.
func (m *mailServer) letters(to string) []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []letter
	for _, l := range m.got {
		if to == "" || l.to == to {
			all = append(all, l)
		}
	}
	return all
}

// mailSession is one connection.
type mailSession struct {
	server   *mailServer
	secure   bool
	known    bool
	from, to string
}

var _ smtp.AuthSession = (*mailSession)(nil)

// AuthMechanisms offers to sign in.
func (s *mailSession) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth signs in.
func (s *mailSession) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		s.server.mu.Lock()
		defer s.server.mu.Unlock()
		if user != "bindery" || password != s.server.password {
			return smtp.ErrAuthFailed
		}
		s.known = true
		return nil
	}), nil
}

// Mail begins a letter.
func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	if s.server.password != "" && !s.known {
		return smtp.ErrAuthRequired
	}
	s.from = from
	return nil
}

// Rcpt names a recipient.
func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.to = to
	return s.server.refuse
}

// Data takes the letter.
func (s *mailSession) Data(r io.Reader) error {
	raw, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	msg, err := netmail.ReadMessage(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(msg.Header.Get("Subject"))
	if err != nil {
		return err
	}
	s.server.mu.Lock()
	s.server.got = append(s.server.got, letter{s.from, s.to, msg.Header, subject, string(raw), s.secure})
	after := s.server.afterData
	s.server.mu.Unlock()
	if after != nil {
		after()
	}
	return nil
}

// Reset forgets the letter.
func (s *mailSession) Reset() { s.from, s.to = "", "" }

// Logout ends the connection.
func (*mailSession) Logout() error { return nil }

// authority makes a certificate authority and a certificate for 127.0.0.1, ::1 and
// receiver.example.
func authority(t *testing.T) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"receiver.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return pool, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// serverTLS and clientTLS are configurations that trust each other.
func serverTLS(cert tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
}

func clientTLS(ca *x509.CertPool) *tls.Config {
	return &tls.Config{RootCAs: ca, MinVersion: tls.VersionTLS12}
}
