package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/server"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// roots are the authorities of a data directory, as SSL_CERT_FILE gives them to
// the official clients.
func roots(t *testing.T, dataDir string) *x509.CertPool {
	t.Helper()
	pem, err := os.ReadFile(server.CAPath(dataDir))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the file of the authority")
	}
	return pool
}

func TestOnePortSpeaksTLSAndPlaintext(t *testing.T) {
	w := start(t, nil)
	call := func(creds credentials.TransportCredentials) error {
		conn := w.Dial(grpc.WithTransportCredentials(creds))
		_, err := iamv1.NewUserAccountServiceClient(conn).Get(w.User("good"), &iamv1.GetUserAccountRequest{UserAccountId: "u"})
		return err
	}
	if err := w.get(w.User("good"), "u"); err != nil {
		t.Errorf("plaintext: %v", err)
	}
	pool := roots(t, w.DataDir)
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if err := call(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: name})); err != nil {
			t.Errorf("TLS as %s: %v", name, err)
		}
	}
	if err := call(credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "example.com"})); err == nil {
		t.Error("the certificate is good for any name")
	}
	if err := call(credentials.NewTLS(&tls.Config{ServerName: "localhost"})); err == nil {
		t.Error("trusted without its authority")
	}
	conn, err := tls.Dial("tcp", w.Addr(), &tls.Config{RootCAs: pool, ServerName: "localhost", NextProtos: []string{"h2", "http/1.1"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Errorf("ALPN offers %q", got)
	}
	if old, err := tls.Dial("tcp", w.Addr(), &tls.Config{RootCAs: pool, ServerName: "localhost", MaxVersion: tls.VersionTLS11}); err == nil {
		old.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

// The official clients ping every 30 seconds, also without calls (clients.md 6).
// Three pings that come too soon would end the connection.
func TestIdlePingsAreAllowed(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as four pings")
	}
	t.Parallel()
	w := start(t, nil)
	conn, err := net.Dial("tcp", w.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	acks := make(chan byte, 16)
	go func() {
		defer close(acks)
		for {
			frame, err := f.ReadFrame()
			if err != nil {
				return
			}
			switch frame := frame.(type) {
			case *http2.PingFrame:
				if frame.IsAck() {
					acks <- frame.Data[0]
				}
			case *http2.GoAwayFrame:
				t.Errorf("go away: %v %s", frame.ErrCode, frame.DebugData())
				return
			}
		}
	}()
	for i := range byte(4) {
		if i > 0 {
			time.Sleep(10100 * time.Millisecond) // MinTime is at most 20 s
		}
		if err := f.WritePing(false, [8]byte{i}); err != nil {
			t.Fatalf("ping %d: %v", i, err)
		}
		select {
		case got, ok := <-acks:
			if !ok || got != i {
				t.Fatalf("ping %d was not answered", i)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("ping %d was not answered", i)
		}
	}
}

func TestSilentConnectionsDoNotBlockOthers(t *testing.T) {
	w := start(t, nil)
	for range 20 {
		conn, err := net.Dial("tcp", w.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	ctx, cancel := context.WithTimeout(w.User("good"), 3*time.Second)
	defer cancel()
	if err := w.get(ctx, "u"); err != nil {
		t.Error(err)
	}
}

func TestHealthAndReadiness(t *testing.T) {
	w := start(t, nil)
	check := func(service string) healthv1.HealthCheckResponse_ServingStatus {
		resp, err := healthv1.NewHealthClient(w.Conn).Check(t.Context(), &healthv1.HealthCheckRequest{Service: service})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetStatus()
	}
	eventually(t, "serving", func() bool { return check("") == healthv1.HealthCheckResponse_SERVING })
	if got := check("yandex.cloud.iam.v1.UserAccountService"); got != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("the service is %v", got)
	}
	if code, _ := fetch(t, w, "/readyz"); code != http.StatusOK {
		t.Errorf("readyz %d", code)
	}
	w.ready.Store(false)
	eventually(t, "not serving", func() bool { return check("") == healthv1.HealthCheckResponse_NOT_SERVING })
	if got := check("yandex.cloud.iam.v1.UserAccountService"); got != healthv1.HealthCheckResponse_NOT_SERVING {
		t.Errorf("the service is %v", got)
	}
	if code, body := fetch(t, w, "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "unit fake: still loading") {
		t.Errorf("readyz %d %s", code, body)
	}
	if code, _ := fetch(t, w, "/healthz"); code != http.StatusOK {
		t.Errorf("healthz %d", code)
	}
}

func TestOpsPort(t *testing.T) {
	w := start(t, nil)
	_ = w.get(w.User("good"), "u")
	_ = w.get(w.User("good"), "missing")
	_ = w.get(t.Context(), "u")
	_, body := fetch(t, w, "/metrics")
	for _, want := range []string{
		`bindery_rpc_total{code="OK",method="/yandex.cloud.iam.v1.UserAccountService/Get"} 1`,
		`bindery_rpc_total{code="NotFound",method="/yandex.cloud.iam.v1.UserAccountService/Get"} 1`,
		`bindery_rpc_total{code="Unauthenticated",method="/yandex.cloud.iam.v1.UserAccountService/Get"} 1`,
		`bindery_rpc_duration_seconds_count{method="/yandex.cloud.iam.v1.UserAccountService/Get"} 3`,
		`bindery_authorization_total{result="allowed"}`,
		`bindery_authorization_total{result="unauthenticated"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s", want)
		}
	}
	if code, _ := fetch(t, w, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("a profiler answers %d", code)
	}
}

func TestReflection(t *testing.T) {
	w := start(t, nil)
	stream, err := reflectionv1.NewServerReflectionClient(w.Conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	resp, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range resp.GetListServicesResponse().GetService() {
		names = append(names, s.GetName())
	}
	if got := strings.Join(names, " "); !strings.Contains(got, "yandex.cloud.iam.v1.UserAccountService") || strings.Contains(got, "OperatorService") {
		t.Errorf("services %v", names)
	}
}

func TestTakenPortIsToldAtStart(t *testing.T) {
	w := start(t, nil)
	_, err := server.New(t.Context(), options(t, func(o *server.Options) { o.Listen = w.Addr() }, newFake().unit()))
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("got %v", err)
	}
}

func TestUnknownMethodIsUnimplemented(t *testing.T) {
	w := start(t, nil)
	err := w.Conn.Invoke(w.User("good"), "/yandex.cloud.iam.v1.RoleService/Get", &iamv1.GetRoleRequest{}, &iamv1.Role{})
	if apierr.CodeOf(err) != codes.Internal { // FromRPC: a caller among the units made a mistake
		t.Errorf("got %v", err)
	}
	if !strings.Contains(err.Error(), codes.Unimplemented.String()) {
		t.Errorf("got %v, want Unimplemented", err)
	}
}

func fetch(t *testing.T, w *world, path string) (int, string) {
	t.Helper()
	resp, err := http.Get("http://" + w.OpsAddr() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !is() {
		if time.Now().After(deadline) {
			t.Fatalf("never %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}
