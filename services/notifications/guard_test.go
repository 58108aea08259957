package notifications

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"code.dny.dev/ssrf"
)

// privateForms are addresses that lead to where no webhook may: one at least of each
// network that is not the public Internet, in the forms that a URL or a resolver may
// give them.
var privateForms = []string{
	"0.0.0.0", "0.1.2.3", // this network
	"10.0.0.0", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.254", "192.168.0.1", "192.168.255.255", // private
	"100.64.0.1", "100.100.100.200", "100.127.255.254", // carrier-grade NAT
	"127.0.0.1", "127.0.0.53", "127.1.2.3", "127.255.255.254", // loopback
	"169.254.0.1", "169.254.169.254", "169.254.170.2", // link-local, and the metadata of machines
	"192.0.0.1", "192.0.0.170", "192.0.0.192", "192.0.2.1", "198.51.100.7", "203.0.113.9", // protocols, documentation
	"192.88.99.1", "192.31.196.1", "192.52.193.1", "192.175.48.6", // relays and sinks
	"198.18.0.1", "198.19.255.254", // benchmarks
	"224.0.0.1", "224.0.0.251", "239.255.255.250", "240.0.0.1", "255.255.255.255", // multicast, reserved, broadcast
	"::", "::1", "::2", "::7f00:1", "::127.0.0.1", // unspecified, loopback, IPv4-compatible
	"::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:c0a8:1", "::ffff:0:127.0.0.1", // IPv4-mapped and -translated
	"64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::10.0.0.1", "64:ff9b:1:ffff::1", // NAT64
	"100::1", "100:0:0:1::1", // discard
	"2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:10::1", "2001:20::1", // Teredo, benchmarks, ORCHID
	"2001:db8::1", "2001:db8:ffff::1", "3fff::1", // documentation
	"2002:7f00:1::", "2002:a00:1::1", "2002:c0a8:101::1", "2002:a9fe:a9fe::1", // 6to4
	"2620:4f:8000::1",                                   // AS112
	"fc00::1", "fd00::1", "fd00:ec2::254", "fdff::ffff", // unique local
	"fe80::1", "fe80::a9fe:a9fe", "febf::1", "fec0::1", // link-local, site-local
	"ff02::1", "ff02::fb", "ff05::1:3", "ff0e::1", // multicast
	"5f00::1", "4000::1", "8000::1", "e000::1", // not given out
}

// Nothing private can be dialed: neither by its address nor by a name that leads there.
func TestWebhooksReachNoPrivateAddress(t *testing.T) {
	if len(privateForms) < 60 {
		t.Fatalf("%d forms, want 60 at least", len(privateForms))
	}
	guard := newGuard(Config{}.withDefaults())
	client := newWebhookClient(guard, nil)
	for _, form := range privateForms {
		addr := netip.MustParseAddr(form)
		network := "tcp6"
		if addr.Is4() {
			network = "tcp4"
		}
		for _, a := range []netip.Addr{addr, addr.Unmap()} {
			if err := guard.Safe(network, netip.AddrPortFrom(a, 443).String(), nil); err == nil {
				t.Errorf("%s may be dialed", a)
			}
		}
		if err := (&Service{cfg: Config{}.withDefaults(), guard: guard}).checkWebhook(hook("https://" + bracket(form) + "/hook")); err == nil {
			t.Errorf("https://%s was taken as a webhook", bracket(form))
		}
		if err := try(t.Context(), client, "https://"+bracket(form)+"/hook"); !errors.Is(err, ssrf.ErrProhibitedIP) && !unreachable(err) {
			t.Errorf("calling %s: %v, want it to be refused", form, err)
		}
	}
	for _, form := range []string{"1.1.1.1", "8.8.8.8", "93.184.216.34", "172.15.255.255", "172.32.0.1", "100.63.255.255", "100.128.0.1", "2606:4700::1111", "2a00:1450::1", "2a02:6b8::1"} {
		addr := netip.MustParseAddr(form)
		if err := guard.SafeAddrPort(netip.AddrPortFrom(addr, 443)); err != nil {
			t.Errorf("%s may not be dialed: %v", form, err)
		}
	}
}

// unreachable reports whether the machine itself refused before the guard was asked:
// for lack of IPv6, say.
func unreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial" && !strings.Contains(err.Error(), "refused")
}

func bracket(form string) string {
	if strings.Contains(form, ":") {
		return "[" + form + "]"
	}
	return form
}

// try calls a URL and says how that ended.
func try(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(nil))
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Names and old forms of numbers lead to loopback only once they are resolved: the
// server there sees no connection.
func TestWebhooksReachNoPrivateAddressByName(t *testing.T) {
	_, cert := authority(t)
	server := startReceiver(t, cert)
	c := Config{WebhookPorts: []uint16{server.port}}.withDefaults()
	client := newWebhookClient(newGuard(c), nil)
	port := server.Listener.Addr().(*net.TCPAddr).AddrPort().String()
	port = port[strings.LastIndexByte(port, ':'):]
	for _, host := range []string{"localhost", "LOCALHOST", "localhost.", "127.0.0.1", "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "017700000001"} {
		if err := try(t.Context(), client, "https://"+host+port+"/"); err == nil {
			t.Errorf("%s was called", host)
		}
	}
	if n := len(server.got()); n != 0 {
		t.Errorf("%d calls came", n)
	}
}

// A name whose answer changes between two looks gains nothing: every address that is
// dialed is judged.
func TestWebhooksJudgeWhatIsDialed(t *testing.T) {
	_, cert := authority(t)
	server := startReceiver(t, cert)
	c := Config{WebhookPorts: []uint16{server.port}}.withDefaults()
	guard := newGuard(c)
	client := newWebhookClient(guard, nil)
	transport := client.Transport.(*http.Transport)
	dial := transport.DialContext
	dialed := 0
	transport.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		dialed++ // the name was found to be public; now it leads here
		return dial(ctx, network, server.Listener.Addr().String())
	}
	if err := try(t.Context(), client, "https://rebound.example/"); !errors.Is(err, ssrf.ErrProhibitedIP) {
		t.Errorf("calling: %v, want it to be refused", err)
	}
	if dialed != 1 || len(server.got()) != 0 {
		t.Errorf("dialed %d times, %d calls came", dialed, len(server.got()))
	}
}

// Redirects are not followed, proxies not asked, other ports not dialed; what the
// operator allows is.
func TestWebhookClient(t *testing.T) {
	ca, cert := authority(t)
	server := startReceiver(t, cert)
	server.set(func(r *receiver) { r.status = http.StatusTemporaryRedirect })
	proxied := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a proxy was asked") }))
	defer proxied.Close()
	t.Setenv("HTTPS_PROXY", proxied.URL)
	allow := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	client := newWebhookClient(newGuard(Config{WebhookAllow: allow, WebhookPorts: []uint16{server.port}}.withDefaults()), clientTLS(ca))
	w := &webhookSender{client: client}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect || len(server.got()) != 1 {
		t.Errorf("status %d, %d calls; want the redirect itself and one call", resp.StatusCode, len(server.got()))
	}
	narrow := newWebhookClient(newGuard(Config{WebhookAllow: allow}.withDefaults()), clientTLS(ca))
	if err := try(t.Context(), narrow, server.URL); !errors.Is(err, ssrf.ErrProhibitedPort) {
		t.Errorf("another port: %v, want it to be refused", err)
	}
	untrusting := newWebhookClient(newGuard(Config{WebhookAllow: allow, WebhookPorts: []uint16{server.port}}.withDefaults()), nil)
	if err := try(t.Context(), untrusting, server.URL); err == nil {
		t.Error("a certificate of nobody's was taken")
	}
}
