package outbound

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// privateForms are addresses where no issuer may be, at least one of each network that
// is not the public Internet, in the forms that a URL may give them.
var privateForms = []string{
	"0.0.0.0", "0.1.2.3",
	"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.255", // RFC 1918
	"100.64.0.1", "100.100.100.200", "100.127.255.254", // RFC 6598
	"127.0.0.1", "127.0.0.53", "127.1.2.3", "127.255.255.254",
	"169.254.0.1", "169.254.169.254", "169.254.170.2",
	"192.0.0.1", "192.0.0.170", "192.0.2.1", "198.51.100.7", "203.0.113.9", "192.88.99.1",
	"198.18.0.1", "198.19.255.254", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255",
	"[::]", "[::1]", "[::7f00:1]", "[::127.0.0.1]", "[0:0:0:0:0:0:0:1]",
	"[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::ffff:c0a8:1]", "[::ffff:0:127.0.0.1]", // mapped, translated
	"[64:ff9b::7f00:1]", "[64:ff9b::10.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::10.0.0.1]", // NAT64
	"[100::1]", "[2001::1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[2001:10::1]", "[2001:db8::1]", "[3fff::1]", // discard, Teredo, ORCHID, documentation
	"[2002:7f00:1::]", "[2002:a00:1::1]", "[2002:c0a8:101::1]", "[2002:a9fe:a9fe::1]", // 6to4
	"[fc00::1]", "[fd00::1]", "[fd00:ec2::254]", "[fe80::1]", "[fe80::a9fe:a9fe]", "[fe80::1%25lo]", "[fec0::1]",
	"[ff02::1]", "[ff05::1:3]", "[5f00::1]", "[4000::1]",
}

// loopbackForms are spellings of this machine that only a resolver may understand.
var loopbackForms = []string{
	"localhost", "LOCALHOST", "localhost.", "127.1", "0x7f.1", "0x7f000001", "2130706433", "0177.0.0.1", "017700000001", "127.0.0.1.", "①②⑦.0.0.1",
}

// trap listens on this machine and counts who comes.
type trap struct {
	port  uint16
	count atomic.Int64
}

func setTrap(t *testing.T) *trap {
	t.Helper()
	tr := &trap{}
	take := func(l net.Listener) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tr.count.Add(1)
			_ = conn.Close()
		}
	}
	all, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = all.Close() })
	tr.port = all.Addr().(*net.TCPAddr).AddrPort().Port()
	go take(all)
	return tr
}

func (tr *trap) url(host string) string { return fmt.Sprintf("https://%s:%d/keys", host, tr.port) }

// Nothing that is not public is connected to, however it is written.
func TestClientReachesNothingPrivate(t *testing.T) {
	tr := setTrap(t)
	var dialed []string
	c := newClient(Config{Ports: []uint16{tr.port}}, hooks{
		resolver: resolver(t, func(string, int) []string { return []string{"127.0.0.1", "::1"} }),
		dialed:   func(a string) error { dialed = append(dialed, a); return nil },
	})
	targets := 0
	for _, host := range append(append([]string(nil), privateForms...), loopbackForms...) {
		targets++
		if _, err := c.Get(t.Context(), tr.url(host)); err == nil {
			t.Errorf("%s was read", host)
		}
	}
	for _, host := range privateForms {
		ip, err := netip.ParseAddr(strings.ReplaceAll(strings.Trim(host, "[]"), "%25", "%"))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(tr.url(host)); !errors.Is(err, ErrAddress) {
			t.Errorf("%s as a URL: %v, want it to be refused", host, err)
		}
		for _, a := range []netip.Addr{ip, ip.Unmap()} { // as a resolver may give it
			network := "tcp6"
			if a.Is4() {
				network = "tcp4"
			}
			if err := c.safe(network, netip.AddrPortFrom(a, tr.port).String(), nil); !errors.Is(err, ErrAddress) {
				t.Errorf("dialing %s: %v, want it to be refused", a, err)
			}
		}
	}
	if targets < 60 {
		t.Errorf("%d targets, want 60 at least", targets)
	}
	if n := tr.count.Load(); n != 0 || len(dialed) != 0 {
		t.Errorf("%d connections came, dialed were %v", n, dialed)
	}
	for _, ip := range []string{"1.1.1.1", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "[2606:4700::1111]", "[2a02:6b8::1]"} {
		if err := c.Check(tr.url(ip)); err != nil {
			t.Errorf("%s is public: %v", ip, err)
		}
	}
}

func TestClientRefusesURLs(t *testing.T) {
	c := NewClient(Config{})
	for _, raw := range []string{
		"", "https://", "https:///keys", "issuer.example/keys", "//issuer.example/keys", "http://issuer.example/keys", "ftp://issuer.example/",
		"file:///etc/passwd", "gopher://issuer.example:70/", "https:issuer.example", "https://a:b@issuer.example/", "https://issuer.example/#keys",
		"https://issuer.example/#", "https://issuer.example:22/", "https://issuer.example:80/", "https://issuer.example:0/", "https://issuer.example:65536/",
		"https://issuer example/", "https://issuer.example/\x00", "http://127.0.0.1/", "http://localhost/", "https://[::1/", "javascript:alert(1)", "https://issuer.example/?a#b",
		"https://issuer.example/" + strings.Repeat("a", MaxURL),
	} {
		if err := c.Check(raw); !errors.Is(err, ErrAddress) {
			t.Errorf("%.60q: %v, want it to be refused", raw, err)
		}
		if _, err := c.Get(t.Context(), raw); !errors.Is(err, ErrAddress) {
			t.Errorf("%.60q: reading: %v, want it to be refused", raw, err)
		}
		if resp, err := c.HTTP().Get(raw); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%.60q was called", raw)
		}
	}
	for _, raw := range []string{"https://issuer.example", "https://issuer.example:8443/a/b?c=d", "https://xn--e1afmkfd.example/", "HTTPS://ISSUER.EXAMPLE/"} {
		if err := c.Check(raw); err != nil {
			t.Errorf("%s: %v", raw, err)
		}
	}
}

// resolver answers by what names hold now; it can change its answer each time.
func resolver(t *testing.T, answers func(name string, turn int) []string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	go serveDNS(conn, answers)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// A name whose answer changes gains nothing: each address is judged when it is dialed.
func TestClientJudgesWhatIsDialed(t *testing.T) {
	tr := setTrap(t)
	private := []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "100.64.0.1", "::1", "fd00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::"}
	errNoWay := errors.New("the test has no way there")
	var mu sync.Mutex
	var dialed []string
	c := newClient(Config{Ports: []uint16{tr.port}}, hooks{
		resolver: resolver(t, func(name string, turn int) []string {
			if strings.HasPrefix(name, "rebound") {
				if turn == 0 {
					return []string{"93.184.216.34"}
				}
				return private[turn%len(private):][:1]
			}
			return append([]string{"93.184.216.34"}, private...) // all at once
		}),
		dialed: func(a string) error {
			mu.Lock()
			defer mu.Unlock()
			dialed = append(dialed, a)
			return errNoWay
		},
	})
	for i := range 30 {
		if _, err := c.Get(t.Context(), tr.url("rebound.example")); err == nil || i == 0 && !errors.Is(err, errNoWay) {
			t.Errorf("reading a rebound name: %v", err)
		}
		if _, err := c.Get(t.Context(), tr.url("many"+strconv.Itoa(i)+".example")); err == nil {
			t.Error("a name of many addresses was read")
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(dialed) == 0 {
		t.Error("the public address was not dialed: the names were not resolved")
	}
	for _, a := range dialed {
		if a != "93.184.216.34:"+strconv.Itoa(int(tr.port)) {
			t.Errorf("%s was dialed", a)
		}
	}
	if n := tr.count.Load(); n != 0 {
		t.Errorf("%d connections came", n)
	}
}

// issuerServer is a server with a certificate that the client trusts, at an address
// that the operator admits.
func issuerServer(t *testing.T, h http.HandlerFunc) (*httptest.Server, Config) {
	t.Helper()
	srv := httptest.NewTLSServer(h)
	t.Cleanup(srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(srv.Certificate())
	at := netip.MustParseAddrPort(srv.Listener.Addr().String())
	return srv, Config{Allow: []netip.Prefix{netip.PrefixFrom(at.Addr(), 32)}, Ports: []uint16{at.Port()}, Roots: roots}
}

// Redirects are not followed, whatever they lead to.
func TestClientFollowsNoRedirect(t *testing.T) {
	tr := setTrap(t)
	var calls atomic.Int64
	srv, conf := issuerServer(t, func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		code, err := strconv.Atoi(r.URL.Query().Get("code"))
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("Location", r.URL.Query().Get("to"))
		w.Header().Set("Refresh", "0; url="+r.URL.Query().Get("to"))
		w.WriteHeader(code)
		_, _ = w.Write([]byte(`{"keys":[]}`))
	})
	conf.Ports = append(conf.Ports, tr.port)
	c := NewClient(conf)
	want := int64(0)
	for _, code := range []int{300, 301, 302, 303, 305, 307, 308} {
		for _, to := range []string{tr.url("127.0.0.1"), tr.url("localhost"), "http://169.254.169.254/latest", srv.URL + "/again", "//127.0.0.1/", "/again"} {
			c.hosts = newHostLimits() // they are another test's subject
			want++
			if _, err := c.Get(t.Context(), srv.URL+"/?code="+strconv.Itoa(code)+"&to="+url.QueryEscape(to)); !errors.Is(err, ErrUnread) {
				t.Errorf("%d to %s: %v", code, to, err)
			}
		}
	}
	if n := calls.Load(); n != want || tr.count.Load() != 0 {
		t.Errorf("%d calls and %d connections elsewhere, want %d and none", n, tr.count.Load(), want)
	}
}

// No proxy is asked, no foreign certificate taken, and no other port called.
func TestClientAsksNoProxy(t *testing.T) {
	srv, conf := issuerServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a proxy was asked") }))
	defer proxy.Close()
	t.Setenv("HTTPS_PROXY", proxy.URL)
	t.Setenv("HTTP_PROXY", proxy.URL)
	if body, err := NewClient(conf).Get(t.Context(), srv.URL); err != nil || string(body) != "ok" {
		t.Errorf("%q, %v", body, err)
	}
	stranger := conf
	stranger.Roots = x509.NewCertPool()
	if _, err := NewClient(stranger).Get(t.Context(), srv.URL); !errors.Is(err, ErrUnread) {
		t.Errorf("a certificate of nobody's: %v", err)
	}
	narrow := conf
	narrow.Ports = nil
	if _, err := NewClient(narrow).Get(t.Context(), srv.URL); !errors.Is(err, ErrAddress) {
		t.Errorf("another port: %v", err)
	}
}

// Plain http is for the machine itself, by the operator's word alone.
func TestClientLoopback(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) }))
	defer srv.Close()
	if _, err := NewClient(Config{Loopback: true}).Get(t.Context(), srv.URL); err != nil {
		t.Error(err)
	}
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewClient(Config{Loopback: true}).Get(t.Context(), "http://localhost:"+port); err != nil {
		t.Error(err)
	}
	for _, host := range []string{"10.0.0.1", "169.254.169.254", "issuer.example"} {
		if err := NewClient(Config{Loopback: true}).Check("http://" + host); !errors.Is(err, ErrAddress) {
			t.Errorf("http://%s: %v", host, err)
		}
	}
	allowed := Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	if _, err := NewClient(allowed).Get(t.Context(), srv.URL); !errors.Is(err, ErrAddress) {
		t.Errorf("plain http to a network that is admitted: %v", err)
	}
}

// Answers end by size and time.
func TestClientBounds(t *testing.T) {
	over := make(chan struct{})
	srv, conf := issuerServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/most":
			_, _ = w.Write(make([]byte, MaxBody))
		case "/long":
			_, _ = w.Write(make([]byte, MaxBody+1))
		case "/endless":
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		case "/packed": // is not unpacked
			w.Header().Set("Content-Encoding", "gzip")
			z := gzip.NewWriter(w)
			_, _ = z.Write(make([]byte, 64<<20))
			_ = z.Close()
		case "/header":
			w.Header().Set("X", strings.Repeat("x", 64<<10))
		case "/silent":
			_, _ = w.Write([]byte("{"))
			_ = http.NewResponseController(w).Flush()
			<-over
		}
	})
	t.Cleanup(func() { close(over) }) // before the server waits for its handlers
	c := NewClient(conf)
	if body, err := c.Get(t.Context(), srv.URL+"/most"); err != nil || len(body) != MaxBody {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	for _, path := range []string{"/long", "/endless", "/header"} {
		if _, err := c.Get(t.Context(), srv.URL+path); !errors.Is(err, ErrUnread) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if body, err := c.Get(t.Context(), srv.URL+"/packed"); err != nil || !bytes.HasPrefix(body, []byte{0x1f, 0x8b}) {
		t.Errorf("packed: %v, want it as it came", err)
	}
	c.http.Timeout = 200 * time.Millisecond
	if _, err := c.Get(t.Context(), srv.URL+"/silent"); !errors.Is(err, ErrUnread) {
		t.Errorf("silent: %v", err)
	}
}

// One host is called at a bounded rate, whatever is named there, others notwithstanding.
func TestClientHostLimits(t *testing.T) {
	h := newHostLimits()
	allowed := 0
	for range 10 * hostBurst {
		if h.allow("a.example") {
			allowed++
		}
	}
	if allowed < hostBurst || allowed > 5*hostBurst { // a slow machine earns some back
		t.Errorf("%d calls of one host, want about %d", allowed, hostBurst)
	}
	if !h.allow("b.example") {
		t.Error("another host paid for it")
	}
	for i := range 2 * mostHosts {
		h.allow(strconv.Itoa(i) + ".example")
	}
	if len(h.hosts) > mostHosts {
		t.Errorf("%d hosts are kept", len(h.hosts))
	}
}

// Calls that hang leave the others their answer: busy, at once.
func TestClientSlots(t *testing.T) {
	srv, conf := issuerServer(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })
	c := NewClient(conf)
	for range mostCalls {
		c.slots <- struct{}{}
	}
	if _, err := c.Get(t.Context(), srv.URL); !errors.Is(err, errBusy) {
		t.Errorf("%v, want busy", err)
	}
	<-c.slots
	if _, err := c.Get(t.Context(), srv.URL); err != nil {
		t.Error(err)
	}
}
