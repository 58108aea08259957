package server_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/server"
	accessservicev2 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/priv/accessservice/v2"
)

// rawBytes sends bytes as they are: what no generated client would.
type rawBytes struct{}

func (rawBytes) Name() string { return "proto" }

func (rawBytes) Marshal(v any) ([]byte, error) {
	b, ok := v.([]byte)
	if !ok {
		return nil, fmt.Errorf("%T is no bytes", v)
	}
	return b, nil
}

func (rawBytes) Unmarshal([]byte, any) error { return nil }

func TestBytesThatAreNoRequest(t *testing.T) {
	w := start(t, nil)
	const get = "/yandex.cloud.iam.v1.UserAccountService/Get"
	const authorize = "/yandex.cloud.priv.accessservice.v2.AccessService/Authorize"
	for _, tt := range []struct{ name, method, send, field string }{
		{"a cut message", get, "\x0a\x05a", "request"},
		{"another wire type that ends early", get, "\x0d\x01", "request"},
		{"text that is not UTF-8", get, "\x0a\x03a\xffb", "user_account_id"},
		{"in a list of messages", authorize, "\x2a\x02\x0a\x00\x2a\x03\x12\x01\xff", "resource_path[1].type"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var trailer metadata.MD
			err := w.Conn.Invoke(with(w.User("good"), idHeader, "r-1"), tt.method, []byte(tt.send), new([]byte),
				grpc.ForceCodec(rawBytes{}), grpc.Trailer(&trailer))
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
			if got := violations(err); got != tt.field {
				t.Errorf("%v names %q, want %q", err, got, tt.field)
			}
			if strings.Contains(err.Error(), "proto") || len(trailer.Get(idHeader)) != 1 {
				t.Errorf("%v, trailer %v", err, trailer)
			}
		})
	}
	_, body := fetch(t, w, "/metrics")
	if want := `bindery_rpc_total{code="InvalidArgument",method="` + get + `"} 3`; !strings.Contains(body, want) {
		t.Errorf("not counted: no %s", want)
	}
	stream, err := w.Conn.NewStream(t.Context(), &grpc.StreamDesc{ServerStreams: true},
		"/grpc.health.v1.Health/Watch", grpc.ForceCodec(rawBytes{}))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.SendMsg([]byte("\x0a\x01\xff")); err != nil {
		t.Fatal(err)
	}
	wantCode(t, stream.RecvMsg(new([]byte)), codes.InvalidArgument, apierr.ReasonInvalid)
}

// violations are the fields that an error names.
func violations(err error) string {
	var names []string
	for _, d := range status.Convert(err).Details() {
		if bad, ok := d.(*errdetails.BadRequest); ok {
			for _, v := range bad.GetFieldViolations() {
				names = append(names, v.GetField())
			}
		}
	}
	return strings.Join(names, " ")
}

func TestTextOfRequests_NM9(t *testing.T) {
	w := start(t, nil)
	for id, refused := range map[string]bool{"plain": false, "é日": false, "two\nlines": false, "a\x00b": true, "a\x1b[1m": true, "a\u202Eb": true} {
		err := w.get(w.User("good"), id)
		if refused {
			wantCode(t, err, codes.InvalidArgument, apierr.ReasonInvalid)
			if got := violations(err); got != "user_account_id" {
				t.Errorf("%q: names %q", id, got)
			}
		} else if err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
}

func TestSizesAreBounded(t *testing.T) {
	w := start(t, nil)
	err := w.get(w.User("good"), strings.Repeat("a", 4<<20))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a message of 4 MiB and more: %v", err)
	}
	many := make([]string, 0, 64)
	for i := range 32 {
		many = append(many, fmt.Sprintf("x-more-%d", i), strings.Repeat("a", 600))
	}
	if err := w.get(with(w.User("good"), many...), "u"); err == nil {
		t.Error("18 KiB of metadata pass")
	}
	if err := w.get(w.User("good"), "u"); err != nil {
		t.Errorf("after them: %v", err)
	}
}

func TestOverloadIsShedAndChecksLast(t *testing.T) {
	w := start(t, func(o *server.Options) { o.MaxCalls = 2 })
	var slow sync.WaitGroup
	defer slow.Wait()
	for range 2 {
		slow.Go(func() {
			if err := w.get(w.User("good"), "slow"); err != nil {
				t.Errorf("a call that was let in: %v", err)
			}
		})
		<-w.entered
	}
	w.seen.Store(nil)
	err := w.get(w.User("good"), "u")
	wantCode(t, err, codes.Unavailable, apierr.ReasonOverloaded)
	var retry *errdetails.RetryInfo
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*errdetails.RetryInfo); ok {
			retry = r
		}
	}
	if retry.GetRetryDelay().AsDuration() != time.Second {
		t.Errorf("come again after %v", retry)
	}
	if w.seen.Load() != nil {
		t.Error("the handler was called")
	}
	if _, err := accessservicev2.NewAccessServiceClient(w.Conn).Authorize(w.User("good"), &accessservicev2.AuthorizeRequest{
		Identity: &accessservicev2.AuthorizeRequest_IamToken{IamToken: "t1.a.b"}, Permission: "p",
		ResourcePath: []*accessservicev2.Resource{{Type: "t", Id: "i"}},
	}); err != nil {
		t.Errorf("a check: %v", err)
	}
	if _, err := healthv1.NewHealthClient(w.Conn).Check(t.Context(), &healthv1.HealthCheckRequest{}); err != nil {
		t.Errorf("health: %v", err)
	}
	close(w.release)
	slow.Wait()
	if err := w.get(w.User("good"), "u"); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if _, body := fetch(t, w, "/metrics"); !strings.Contains(body, "bindery_rpc_shed_total 1") {
		t.Error("not counted")
	}
}

// rawConn speaks HTTP/2 by hand.
type rawConn struct {
	*http2.Framer
	net.Conn
}

func (w *world) raw(t *testing.T) rawConn {
	t.Helper()
	conn, err := net.Dial("tcp", w.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() }) // the test is over
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	f := http2.NewFramer(conn, conn)
	if err := f.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return rawConn{f, conn}
}

// halfSent begins a call and sends the length and a part of its message.
func (c rawConn) halfSent(t *testing.T, stream uint32) {
	t.Helper()
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, h := range [][2]string{
		{":method", "POST"},
		{":scheme", "http"},
		{":path", "/yandex.cloud.iam.v1.UserAccountService/Get"},
		{":authority", "localhost"},
		{"content-type", "application/grpc"},
		{"te", "trailers"},
	} {
		if err := enc.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: []byte(block.String()), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	body := binary.BigEndian.AppendUint32([]byte{0}, 1000)
	if err := c.WriteData(stream, false, append(body, "half"...)); err != nil {
		t.Fatal(err)
	}
}

// seen returns when the server has read all that was sent, and frees the places that
// calls may hold until their message comes: at least one is free from then on.
func (c rawConn) seen(t *testing.T, get func() error) {
	t.Helper()
	if err := c.WritePing(false, [8]byte{}); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second)) // a TCP connection takes one
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if ping, ok := frame.(*http2.PingFrame); ok && ping.IsAck() {
			break
		}
	}
	eventually(t, "a place", func() bool { return get() == nil })
}

// A call that comes while too many are under way is refused by its headers: it need
// not send its message.
func TestOverloadIsShedBeforeTheMessage(t *testing.T) {
	w := start(t, func(o *server.Options) { o.MaxCalls = 1 })
	var slow sync.WaitGroup
	slow.Go(func() {
		if err := w.get(w.User("good"), "slow"); err != nil {
			t.Errorf("a call that was let in: %v", err)
		}
	})
	<-w.entered
	c := w.raw(t)
	c.halfSent(t, 1)
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second)) // a TCP connection takes one
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if headers, ok := frame.(*http2.MetaHeadersFrame); ok {
			status := ""
			for _, f := range headers.RegularFields() {
				if f.Name == "grpc-status" {
					status = f.Value
				}
			}
			if status != "14" || !headers.StreamEnded() {
				t.Errorf("refused by %v", headers.Fields)
			}
			break
		}
	}
	err := w.get(with(w.User("good"), idHeader, "r-7"), "u")
	wantCode(t, err, codes.Unavailable, apierr.ReasonOverloaded)
	var named string
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.RequestInfo); ok {
			named = info.GetRequestId()
		}
	}
	if named != "r-7" {
		t.Errorf("the refusal is of request %q", named)
	}
	close(w.release)
	slow.Wait()
	if _, body := fetch(t, w, "/metrics"); !strings.Contains(body, "bindery_rpc_shed_total 2") ||
		!strings.Contains(body, `bindery_rpc_total{code="Unavailable",method="/yandex.cloud.iam.v1.UserAccountService/Get"} 2`) {
		t.Error("not counted")
	}
}

// Calls whose messages do not come hold their places for a moment, and no longer.
func TestHalfSentBodiesHoldNobody(t *testing.T) {
	w := start(t, func(o *server.Options) { o.MaxCalls = 4 })
	c := w.raw(t)
	for i := range uint32(300) {
		c.halfSent(t, 2*i+1)
	}
	get := func() error { return w.get(w.User("good"), "u") }
	c.seen(t, get)
	for range 20 {
		if err := get(); err != nil {
			t.Fatalf("a call between them: %v", err)
		}
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	w := start(t, nil)
	frame, err := w.raw(t).ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := frame.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("first frame %v", frame)
	}
	for id, want := range map[http2.SettingID]uint32{http2.SettingMaxConcurrentStreams: 1000, http2.SettingMaxHeaderListSize: 16 << 10} {
		if got, _ := settings.Value(id); got != want {
			t.Errorf("%v is %d, want %d", id, got, want)
		}
	}
}

// A connection that has not said all of its greeting after ten seconds is closed,
// however much of it was said.
func TestUnfinishedHandshakesAreCut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as a handshake may")
	}
	t.Parallel()
	w := start(t, nil)
	var all sync.WaitGroup
	defer all.Wait()
	for name, greeting := range map[string]string{
		"nothing": "", "one byte of HTTP/2": "P", "most of HTTP/2": http2.ClientPreface[:20], "one byte of TLS": "\x16", "some of TLS": "\x16\x03\x01\x02\x00\x01",
	} {
		all.Go(func() {
			conn, err := net.Dial("tcp", w.Addr())
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, greeting); err != nil {
				t.Error(err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(15 * time.Second)) // a TCP connection takes one
			if _, err := io.Copy(io.Discard, conn); err != nil && strings.Contains(err.Error(), "i/o timeout") {
				t.Errorf("%s: the connection stays open", name)
			}
		})
	}
}
