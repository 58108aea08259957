package outbound

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"
)

// Bounds of one call.
const (
	MaxURL  = 8000            // characters
	MaxBody = 256 << 10       // bytes of an answer
	Timeout = 8 * time.Second // all of it, from looking the name up to the last byte

	dialTimeout = 4 * time.Second
	maxHeader   = 16 << 10 // bytes of the header of an answer
	mostCalls   = 32       // at a time
)

// Refusals. What wraps them is for the log: it tells what is behind an address.
var (
	// ErrAddress is a URL that is not called, whatever is there.
	ErrAddress = errors.New("the address must not be called")
	// ErrUnread is a document that could not be read.
	ErrUnread = errors.New("the document could not be read")

	errTooLong = fmt.Errorf("%w: it is longer than %d bytes", ErrUnread, MaxBody)
	errBusy    = fmt.Errorf("%w: too many calls are under way", ErrUnread)
)

// Client calls addresses that tenants named (WI-2). Safe for concurrent use.
type Client struct {
	http     *http.Client
	guard    *ssrf.Guardian
	ports    []uint16
	loopback bool
	slots    chan struct{}
	hosts    *hostLimits
}

// NewClient returns a client.
func NewClient(c Config) *Client { return newClient(c, hooks{}) }

// hooks are what tests put in.
type hooks struct {
	resolver *net.Resolver
	dialed   func(address string) error // is told each address that may be dialed
}

func newClient(c Config, h hooks) *Client {
	var v4, v6 []netip.Prefix
	for _, p := range c.Allow {
		if p.Addr().Is4() {
			v4 = append(v4, p)
		} else {
			v6 = append(v6, p)
		}
	}
	cl := &Client{
		guard: ssrf.New(ssrf.WithPorts(c.ports()...), ssrf.WithAllowedV4Prefixes(v4...), ssrf.WithAllowedV6Prefixes(v6...)),
		ports: c.ports(), loopback: c.Loopback, slots: make(chan struct{}, mostCalls), hosts: newHostLimits(),
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.Roots}
	cl.http = &http.Client{
		Timeout:       Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &transport{client: cl, https: cl.transport(conf, h, cl.safe), plain: cl.transport(conf, h, cl.safeLoopback)},
	}
	return cl
}

// HTTP is the client for libraries that make their requests themselves: the same
// bounds hold for each of them, of which an answer over MaxBody ends in an error.
func (c *Client) HTTP() *http.Client { return c.http }

func (c *Client) transport(conf *tls.Config, h hooks, safe func(network, address string, _ syscall.RawConn) error) *http.Transport {
	control := safe
	if h.dialed != nil {
		control = func(network, address string, conn syscall.RawConn) error {
			if err := safe(network, address, conn); err != nil {
				return err
			}
			return h.dialed(address)
		}
	}
	dialer := &net.Dialer{Timeout: dialTimeout, Control: control, KeepAlive: -1, Resolver: h.resolver}
	return &http.Transport{
		DialContext: dialer.DialContext, TLSClientConfig: conf.Clone(), TLSHandshakeTimeout: dialTimeout,
		ResponseHeaderTimeout: Timeout, MaxResponseHeaderBytes: maxHeader, DisableKeepAlives: true, DisableCompression: true,
	}
}

// safe judges an address that is about to be dialed.
func (c *Client) safe(network, address string, conn syscall.RawConn) error {
	if c.loopback && c.safeLoopback(network, address, conn) == nil {
		return nil
	}
	if err := c.guard.Safe(network, address, nil); err != nil {
		return fmt.Errorf("%w: %w", ErrAddress, err)
	}
	return nil
}

// safeLoopback admits the machine itself, where the operator says so.
func (c *Client) safeLoopback(_, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil || !c.loopback || !at.Addr().IsLoopback() {
		return fmt.Errorf("%w: it is not the machine itself", ErrAddress)
	}
	return nil
}

// Check refuses a URL that would never be called: another scheme than https, a user,
// a fragment, an address or a port that is not admitted. What a name leads to is
// judged when it is dialed. Fails: ErrAddress, with what is wrong in words for whoever
// named it.
func (c *Client) Check(raw string) error {
	if len(raw) > MaxURL {
		return fmt.Errorf("%w: it has more than %d characters", ErrAddress, MaxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("%w: it is no URL", ErrAddress)
	}
	if strings.Contains(raw, "#") {
		return fmt.Errorf("%w: it has a fragment", ErrAddress)
	}
	return c.check(u)
}

func (c *Client) check(u *url.URL) error {
	host := u.Hostname()
	ip, noIP := netip.ParseAddr(host)
	local := c.loopback && (host == "localhost" || noIP == nil && ip.IsLoopback())
	switch {
	case u.Scheme != "https" && (u.Scheme != "http" || !local):
		return fmt.Errorf("%w: it does not begin with https://", ErrAddress)
	case u.Opaque != "" || host == "" || strings.ContainsAny(host, " %"):
		return fmt.Errorf("%w: it names no host", ErrAddress)
	case u.User != nil:
		return fmt.Errorf("%w: it names a user", ErrAddress)
	case local:
		return nil
	case noIP == nil && c.guard.SafeAddr(ip) != nil:
		return fmt.Errorf("%w: it is not public", ErrAddress)
	}
	port, err := strconv.ParseUint(cmp.Or(u.Port(), "443"), 10, 16)
	if err != nil || !slices.Contains(c.ports, uint16(port)) {
		return fmt.Errorf("%w: its port is none of %v", ErrAddress, c.ports)
	}
	return nil
}

// transport sends a request by its scheme, when its URL passes.
type transport struct {
	client       *Client
	https, plain *http.Transport
}

func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.client.check(r.URL); err != nil {
		return nil, err
	}
	by := t.https
	if r.URL.Scheme == "http" {
		by = t.plain
	}
	resp, err := by.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: MaxBody}
	return resp, nil
}

// bounded ends a body that is too long in an error, where a reader that just ends
// would hand on half a document.
type bounded struct {
	io.ReadCloser
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if len(p) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.ReadCloser.Read(p)
	if b.left -= n; b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// Get reads what is at a URL now: an answer 200 of at most MaxBody bytes. Fails:
// ErrAddress, ErrUnread.
func (c *Client) Get(ctx context.Context, raw string) ([]byte, error) {
	if err := c.Check(raw); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, raw, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAddress, err)
	}
	if !c.hosts.allow(strings.ToLower(req.URL.Hostname())) {
		return nil, errBusy
	}
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	default:
		return nil, errBusy
	}
	req.Header.Set("User-Agent", "bindery")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, unread(err)
	}
	defer func() { _ = resp.Body.Close() }() // it was only read
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%w: the answer is %d", ErrUnread, resp.StatusCode)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, unread(err)
	}
	return body, nil
}

// unread is what went wrong with a call.
func unread(err error) error {
	if errors.Is(err, ErrAddress) || errors.Is(err, ErrUnread) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnread, err)
}
