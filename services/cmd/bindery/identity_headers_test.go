package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/authn"
	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/server"
	"github.com/bindery-iam/bindery/pkg/server/servertest"
	"github.com/bindery-iam/bindery/pkg/sqldb"
	"github.com/bindery-iam/bindery/pkg/sqldb/sqldbtest"
	rmv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/resourcemanager/v1"
)

// disguise is what a caller sends beside, or instead of, its own token. Whatever it
// is, the caller is itself or nobody.
type disguise struct {
	name    string
	headers [][2]string
	alone   bool // without the caller's own header
	refused bool // over gRPC: no call at all
	dropped bool // over REST it has no effect, where it is refused over gRPC

	onlyREST bool // HTTP/2 does not have the header
}

// listed is the method that is called: it says nothing of its caller, the log does.
const listed = "/yandex.cloud.resourcemanager.v1.CloudService/List"

// TestNoHeaderBecomesAnIdentity calls through both doors with every header that
// somewhere means an identity, in every spelling, holding the token of another user:
// the log must show the caller's own subject and no unit, or nobody.
func TestNoHeaderBecomesAnIdentity(t *testing.T) {
	w, logs := newLoggedWorld(t)
	me, victim := w.person(), w.person()
	all := disguises(t, me, victim)
	if len(all) < 200 {
		t.Fatalf("only %d variants", len(all))
	}
	for _, d := range all {
		own := d.headers
		if !d.alone {
			own = append([][2]string{{"authorization", "Bearer " + me.token}}, own...)
		}
		if !d.onlyREST {
			logs.TakeAll()
			code := w.callWith(own)
			seen(t, "gRPC, "+d.name, logs, me, code, d.refused)
		}
		logs.TakeAll()
		code := w.getWith(own)
		seen(t, "REST, "+d.name, logs, me, code, d.refused && !d.dropped)
	}
	t.Logf("%d variants through each of two doors", len(all))
}

// newLoggedWorld is the whole process with its log.
func newLoggedWorld(t *testing.T) (*accessWorld, *observer.ObservedLogs) {
	t.Helper()
	c, err := catalog.Load()
	if err != nil {
		t.Fatal(err)
	}
	core, logs := observer.New(zapcore.InfoLevel)
	w := &accessWorld{t: t, catalog: c}
	w.World = servertest.Start(t, servertest.Options{
		Units: units(), DB: sqldbtest.Open(t, sqldb.SQLite, "bindery", nil), Catalog: c, Log: zap.New(core),
	})
	if w.socket, err = server.DialOperator(w.DataDir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.socket.Close() }) // the test is over
	return w, logs
}

// seen judges one call by its line in the log.
func seen(t *testing.T, name string, logs *observer.ObservedLogs, me person, code codes.Code, refused bool) {
	t.Helper()
	if (code != codes.OK) != refused || (refused && code != codes.Unauthenticated) {
		t.Errorf("%s: got %s", name, code)
	}
	var line map[string]any
	for deadline := time.Now().Add(5 * time.Second); line == nil && time.Now().Before(deadline); {
		for _, e := range logs.FilterMessage("rpc").All() {
			if e.ContextMap()["method"] == listed {
				line = e.ContextMap()
			}
		}
	}
	want := "userAccount:" + me.id
	if refused {
		want = ""
	}
	if line["unit"] != "" || line["subject"] != want {
		t.Errorf("%s: seen as %q, unit %q; want %q", name, line["subject"], line["unit"], want)
	}
}

func (w *accessWorld) callWith(headers [][2]string) codes.Code {
	ctx := w.t.Context()
	for _, h := range headers {
		ctx = metadata.AppendToOutgoingContext(ctx, h[0], h[1])
	}
	_, err := rmv1.NewCloudServiceClient(w.Conn).List(ctx, &rmv1.ListCloudsRequest{})
	return status.Code(err)
}

func (w *accessWorld) getWith(headers [][2]string) codes.Code {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.HTTPAddr()+"/resource-manager/v1/clouds", nil)
	w.must(err)
	for _, h := range headers {
		req.Header[h[0]] = append(req.Header[h[0]], h[1]) // in the spelling that is given
	}
	resp, err := http.DefaultClient.Do(req)
	w.must(err)
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	w.must(err)
	switch resp.StatusCode {
	case http.StatusOK:
		return codes.OK
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	default:
		return codes.Unknown
	}
}

// identityHeaders are names that mean an identity to some proxy, gateway or server.
var identityHeaders = []string{
	"bindery-subject", "bindery-user", "bindery-principal", "x-bindery-unit", "x-bindery-subject", "bindery-operator", "x-subject", "x-subject-id",
	"x-user", "x-user-id", "x-userid", "x-remote-user", "remote-user", "x-authenticated-user", "x-authenticated-userid", "x-auth-user", "x-auth-token",
	"x-iam-token", "x-yc-iam-token", "x-access-token", "x-api-key", "x-amz-security-token", "x-goog-iap-jwt-assertion", "x-goog-authenticated-user-id",
	"x-ms-client-principal", "x-consumer-id", "x-credential-identifier", "x-forwarded-user", "x-forwarded-email", "x-forwarded-for", "x-forwarded-host",
	"x-forwarded-proto", "x-forwarded-client-cert", "x-real-ip", "forwarded", "x-client-cert", "ssl-client-cert", "x-ssl-client-s-dn", "x-impersonate-user",
	"impersonate-user", "x-original-authorization", "x-original-url", "x-rewrite-url", "proxy-authorization", "cookie", "x-csrf-token", "x-tenant-id",
	"grpcgateway-authorization", "grpcgateway-cookie", "grpcgateway-bindery-unit", "grpc-metadata-authorization", "grpc-metadata-bindery-unit",
	"grpc-metadata-grpcgateway-authorization", "x-http-method-override", "x-method-override", "baggage", "tracestate", "x-request-id", "traceparent", "idempotency-key",
}

// disguises makes the variants.
func disguises(t *testing.T, me, victim person) []disguise {
	t.Helper()
	var all []disguise
	bearer := "Bearer " + victim.token
	for _, name := range identityHeaders {
		for _, spelling := range []string{name, strings.ToUpper(name), strings.ReplaceAll(name, "-", "_"), name + "-bin"} {
			all = append(all, disguise{name: "with " + spelling, headers: [][2]string{{spelling, bearer}}})
		}
		if !slices.Contains([]string{"x-request-id", "traceparent", "idempotency-key"}, name) {
			all = append(all, disguise{name: "only " + name, headers: [][2]string{{name, bearer}}, alone: true, refused: true})
		}
	}
	for _, value := range []string{bearer, "Bearer " + me.token, "", "Basic YTpi", victim.token} {
		all = append(all,
			disguise{name: "a second authorization " + value[:min(len(value), 8)], headers: [][2]string{{"authorization", value}}, refused: true},
			disguise{name: "authorization in another case " + value[:min(len(value), 8)], headers: [][2]string{{"AUTHORIZATION", value}}, refused: true},
			disguise{name: "authorization-bin " + value[:min(len(value), 8)], headers: [][2]string{{"authorization-bin", value}}})
	}
	all = append(all, unitStatements(t, victim)...)
	for _, nominated := range []string{"authorization", "bindery-unit", "x-request-id, authorization", "close, x-forwarded-user", "te"} {
		all = append(all, disguise{name: "connection names " + nominated, headers: [][2]string{{"Connection", nominated}}, onlyREST: true})
	}
	return append(all, badTokens(me, victim)...)
}

// unitStatements are statements of units in the one header that a unit sends, and in those
// that look like it.
func unitStatements(t *testing.T, victim person) []disguise {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := authn.NewUnitSigner("gateway", "resourcemanager", key, time.Now).GetRequestMetadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all []disguise
	for _, value := range []string{forged[authn.UnitHeader], "gateway", "operator", "u1.gateway.resourcemanager.9999999999.", "u1....", "*", victim.token} {
		for _, spelling := range []string{authn.UnitHeader, "Bindery-Unit", "BINDERY-UNIT"} {
			all = append(all, disguise{
				name: spelling + " " + value[:min(len(value), 12)], headers: [][2]string{{spelling, value}}, refused: true, dropped: true,
			})
		}
		for _, spelling := range []string{"bindery_unit", "bindery-unit-bin", "bindery-unit2", "grpcgateway-Bindery-Unit", "Grpc-Metadata-Bindery-Unit"} {
			all = append(all, disguise{name: spelling + " " + value[:min(len(value), 12)], headers: [][2]string{{spelling, value}}})
		}
	}
	return all
}

// badTokens are tokens cut off, put together and spelt in other ways.
func badTokens(me, victim person) []disguise {
	mine, theirs := strings.Split(me.token, "."), strings.Split(victim.token, ".")
	values := map[string]string{
		"empty": "Bearer ", "no scheme": victim.token, "basic": "Basic " + victim.token, "two spaces": "Bearer  " + victim.token,
		"two tokens": "Bearer " + me.token + " " + victim.token, "comma": "Bearer " + me.token + ",Bearer " + victim.token,
		"padded": "Bearer " + victim.token + "=", "padded twice": "Bearer " + victim.token + "==", "dot": "Bearer " + victim.token + ".",
		"their claims, my signature": "Bearer " + strings.Join([]string{theirs[0], theirs[1], mine[2]}, "."),
		"my claims, their signature": "Bearer " + strings.Join([]string{mine[0], mine[1], theirs[2]}, "."),
		"other version":              "Bearer t2." + theirs[1] + "." + theirs[2], "no claims": "Bearer t1.." + theirs[2], "no signature": "Bearer t1." + theirs[1] + ".",
		"upper case": "Bearer " + strings.ToUpper(victim.token), "garbage": "Bearer " + strings.Repeat("z", 300), "long": "Bearer " + strings.Repeat("z", 5000),
		"standard alphabet": "Bearer " + strings.NewReplacer("-", "+", "_", "/").Replace(victim.token) + "+",
		"last bits":         "Bearer " + respelt(victim.token), "JWT": "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.", "oauth": "Bearer " + victim.oauth,
	}
	for n := 1; n < len(victim.token); n += 9 {
		values["cut "+string(rune('a'+n%26))+victim.token[n:n+1]] = "Bearer " + victim.token[:n]
	}
	var all []disguise
	for name, value := range values {
		all = append(all, disguise{name: "token: " + name, headers: [][2]string{{"authorization", value}}, alone: true, refused: true})
	}
	return all
}

// respelt changes bits of the last character that lenient decoders leave out.
func respelt(token string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, token[len(token)-1])
	return token[:len(token)-1] + string(alphabet[last^1])
}
