package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/secret"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
)

// canaryRun is the program in a process of its own, everything it calls, and all that
// either of them shows.
type canaryRun struct {
	t testing.TB
	*canaries
	shown shown

	dir, dataDir string
	env          []string // names the database
	unitKey      ed25519.PrivateKey
	cert         tls.Certificate // of the servers that it calls
	caFile       string
	hook         *httptest.Server
	remote       servertest.Remote
	cmd          *exec.Cmd
	after        func()        // keeps what there is to see when the program has ended
	said         chan struct{} // closed when its output has ended
}

// secretText is a canary: it can be told from all other text.
func secretText() string { return "canary-" + rand.Text() + "-" + rand.Text() }

// setting returns a secret of the configuration.
func (r *canaryRun) setting(kind string) string {
	s := secretText()
	r.add(kind, s)
	return s
}

// program starts the program with a secret in every setting that takes one, at its
// lowest level of logging, and waits until it is ready.
func (r *canaryRun) program() {
	r.t.Helper()
	r.certify()
	_, r.unitKey = r.unitKeys()
	r.must(os.WriteFile(filepath.Join(r.dir, "smtp-password"), []byte(r.setting("smtp-password")), 0o600))
	r.hook = r.receiver()
	hook, err := url.Parse(r.hook.URL)
	r.must(err)
	r.cmd = exec.Command(os.Args[0], "serve", "all",
		"--data-dir", r.dataDir, "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--log-level", "debug", "--pprof",
		"--unit-key", filepath.Join(r.dir, "unit.key"), "--trust-unit", "metering="+filepath.Join(r.dir, "unit.key.pub"), "--otlp-endpoint", r.collector(),
		"--smtp", fmt.Sprintf("smtp://bindery@127.0.0.1:%d", r.mail()), "--smtp-password-file", filepath.Join(r.dir, "smtp-password"),
		"--mail-from", "bindery@example.com", "--webhook-allow", "127.0.0.0/8", "--webhook-port", hook.Port(), "--webhook-port", "443")
	r.cmd.Env = r.environment()
	stderr, err := r.cmd.StderrPipe()
	r.must(err)
	stdout, err := r.cmd.StdoutPipe()
	r.must(err)
	r.must(r.cmd.Start())
	r.t.Cleanup(func() { _ = r.cmd.Process.Kill() }) // it has ended, unless the test failed
	logged := make(chan struct{})
	go func() { defer close(logged); r.keep("log", stderr, nil) }()
	ready := make(chan []string, 1)
	r.said = make(chan struct{})
	go func() { defer close(r.said); r.keep("standard output", stdout, ready); <-logged }()
	select {
	case at := <-ready:
		r.remote = servertest.Remote{Addr: at[1], HTTPAddr: at[2], OpsAddr: at[3], DataDir: r.dataDir, UnitKey: r.unitKey}
	case <-r.said:
		r.t.Fatalf("the program ended before it was ready:\n%s", r.shown.at["log"])
	case <-time.After(time.Minute):
		r.t.Fatal("the program was not ready within a minute")
	}
	r.settle()
}

// settle notes the secrets of the files that the program made.
func (r *canaryRun) settle() {
	r.t.Helper()
	seal, err := os.ReadFile(filepath.Join(r.dataDir, secret.SealKeyFile))
	r.must(err)
	for line := range strings.Lines(string(seal)) {
		if _, key, ok := strings.Cut(strings.TrimSpace(line), "seal1."); ok {
			raw, err := base64.RawURLEncoding.DecodeString(key)
			r.must(err)
			r.add("seal key", string(raw))
		}
	}
	files, err := filepath.Glob(filepath.Join(r.dataDir, "tls", "*key*.pem"))
	r.must(err)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		r.must(err)
		r.private("TLS key", string(raw))
	}
}

func (r *canaryRun) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// environment is that of the program: the authority of the servers that it calls, and
// a token for the collector.
func (r *canaryRun) environment() []string {
	return append(append(os.Environ(), r.env...), asProgram+"=1", "SSL_CERT_FILE="+r.caFile,
		"OTEL_EXPORTER_OTLP_HEADERS=x-collector-token="+r.setting("collector-token"),
		"GRPC_GO_LOG_SEVERITY_LEVEL=info", "GRPC_GO_LOG_VERBOSITY_LEVEL=99")
}

// readyForm is the line by which the program says that it is ready.
var readyForm = regexp.MustCompile(`^bindery ready grpc=(\S+) http=(\S+) ops=(\S+)$`)

// keep keeps what the program writes.
func (r *canaryRun) keep(where string, from io.Reader, ready chan<- []string) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		r.shown.add(where, bytes.Clone(lines.Bytes()))
		if m := readyForm.FindStringSubmatch(lines.Text()); m != nil && ready != nil {
			ready <- m
		}
	}
}

// end ends the program as an operator does, and waits for the last that it says.
func (r *canaryRun) end() {
	r.t.Helper()
	r.must(r.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-r.said:
	case <-time.After(30 * time.Second):
		r.t.Fatal("the program did not end")
	}
	r.must(r.cmd.Wait())
}

// command runs the program with other arguments to its end, keeps what it says, and
// returns how it ended.
func (r *canaryRun) command(env []string, args ...string) error {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(append(os.Environ(), asProgram+"=1", "DATABASE_URL="), env...)
	out, err := cmd.CombinedOutput()
	r.shown.add("commands", []byte(fmt.Sprintf("$ bindery %s\n%s", args[0], out)))
	return err
}

// unitKeys makes a key for the units, as the command of it does.
func (r *canaryRun) unitKeys() (ed25519.PublicKey, ed25519.PrivateKey) {
	r.t.Helper()
	file := filepath.Join(r.dir, "unit.key")
	_, err := authn.CreateUnitKey(file)
	r.must(err)
	key, err := authn.ReadUnitKey(file)
	r.must(err)
	r.add("unit key", string(key.Seed()))
	public, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		r.t.Fatalf("public key %T", key.Public())
	}
	return public, key
}

// certify makes a certificate for the servers that the program calls.
func (r *canaryRun) certify() {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	r.must(err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "canary"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	r.must(err)
	r.cert = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	r.caFile = filepath.Join(r.dir, "called-ca.pem")
	r.must(os.WriteFile(r.caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

func (r *canaryRun) tlsConfig() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{r.cert}, MinVersion: tls.VersionTLS12}
}

// collector takes spans, and keeps all that comes with them.
func (r *canaryRun) collector() (endpoint string) {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	s := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(s, spanKeeper{run: r})
	go func() { _ = s.Serve(l) }() // ends by Stop
	r.t.Cleanup(s.Stop)
	return "http://" + l.Addr().String()
}

type spanKeeper struct {
	collectorv1.UnimplementedTraceServiceServer
	run *canaryRun
}

// Export keeps spans.
func (k spanKeeper) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	k.run.shown.add("traces", []byte(protojson.Format(req)))
	return new(collectorv1.ExportTraceServiceResponse), nil
}

// receiver is where webhooks lead. It answers the first call by what it was sent, as a
// program that shows errors to the world does.
func (r *canaryRun) receiver() *httptest.Server {
	calls := 0
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body) // what came is kept
		r.shown.add("webhooks", body)
		if calls++; calls == 1 {
			w.WriteHeader(http.StatusInternalServerError)
			_ = req.Header.Write(w) // nothing to be done
			_, _ = w.Write(body)
		}
	}))
	s.TLS = r.tlsConfig()
	s.StartTLS()
	r.t.Cleanup(s.Close)
	return s
}

// mail is a server that takes mail, at a port. It refuses whoever signs in first, and
// repeats what it was sent.
func (r *canaryRun) mail() (port int) {
	r.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	r.must(err)
	refused := make(chan struct{}, 1)
	s := smtp.NewServer(smtp.BackendFunc(func(*smtp.Conn) (smtp.Session, error) { return mailKeeper{run: r, refused: refused}, nil }))
	s.Domain, s.TLSConfig, s.ReadTimeout, s.WriteTimeout = "mail.example", r.tlsConfig(), 10*time.Second, 10*time.Second
	go func() { _ = s.Serve(l) }()        // ends by Close
	r.t.Cleanup(func() { _ = s.Close() }) // the test is over
	addr, _ := l.Addr().(*net.TCPAddr)    // what tcp has
	return addr.Port
}

type mailKeeper struct {
	run     *canaryRun
	refused chan struct{}
}

var _ smtp.AuthSession = mailKeeper{}

// AuthMechanisms offers to sign in.
func (mailKeeper) AuthMechanisms() []string { return []string{sasl.Plain} }

// Auth takes any password but the first, whose refusal holds it.
func (k mailKeeper) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		select {
		case k.refused <- struct{}{}:
			return &smtp.SMTPError{Code: 535, EnhancedCode: smtp.EnhancedCode{5, 7, 8}, Message: "no such account: " + user + " " + password + " " + base64.StdEncoding.EncodeToString([]byte("\x00"+user+"\x00"+password))}
		default:
			return nil
		}
	}), nil
}

// Mail takes a sender.
func (mailKeeper) Mail(string, *smtp.MailOptions) error { return nil }

// Rcpt takes a recipient.
func (mailKeeper) Rcpt(string, *smtp.RcptOptions) error { return nil }

// Data keeps a letter.
func (k mailKeeper) Data(from io.Reader) error {
	text, err := io.ReadAll(from)
	k.run.shown.add("mail", text)
	return err
}

// Reset forgets.
func (mailKeeper) Reset() {}

// Logout ends.
func (mailKeeper) Logout() error { return nil }
