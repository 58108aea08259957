package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/bindery-iam/bindery/services/identity/signin"
)

// loginWithin is how long a person may take in the browser.
const loginWithin = 10 * time.Minute

type loginCommand struct {
	Server     string `required:"" placeholder:"URL" help:"Public URL of the installation, as serve was given by --public-url."`
	TLSCA      string `name:"tls-ca" placeholder:"FILE" help:"Authorities of the certificate of the server, PEM; those of the system when empty."`
	NoBrowser  bool   `help:"Only print the address to open, which must be opened on this machine."`
	Federation string `placeholder:"ID" help:"Id of the SAML federation to sign in through; the browser asks when empty."`
	Device     bool   `help:"Show a code to type in by a browser on any other machine."`
	sessionFlags
}

// Run lets a person sign in by a browser, on this machine (RFC 8252, with PKCE) or on
// another one (RFC 8628), and keeps the session in a file.
func (c loginCommand) Run(ctx context.Context, out io.Writer) error {
	server := strings.TrimSuffix(c.Server, "/")
	if err := signin.CheckPublicURL(server); err != nil {
		return err
	}
	s := &keptSession{Server: server, CA: c.TLSCA}
	if _, err := s.client(); err != nil {
		return err
	}
	file, err := c.file()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, loginWithin)
	defer cancel()
	if c.Device {
		err = c.byDevice(ctx, s, out)
	} else {
		err = c.byBrowser(ctx, s, out)
	}
	if err != nil {
		return err
	}
	if err := s.save(file); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "Signed in as %s until %s.\n", s.Login, s.Ends.Local().Format(time.RFC1123))
	return err
}

// device is what the person is shown of this machine.
func device() string {
	name, _ := os.Hostname() // nobody relies on it
	return name[:min(len(name), 100)]
}

// byBrowser sends a browser of this machine to sign in.
func (c loginCommand) byBrowser(ctx context.Context, s *keptSession, out io.Writer) error {
	answer, err := listenForCode(ctx)
	if err != nil {
		return err
	}
	defer answer.close()
	verifier, state := oauth2.GenerateVerifier(), rand.Text()
	query := url.Values{
		"response_type": {"code"}, "client_id": {signin.CLI}, "redirect_uri": {answer.uri}, "state": {state}, "device": {device()},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"},
	}
	if c.Federation != "" {
		query.Set("federation", c.Federation)
	}
	at := s.Server + "/login/authorize?" + query.Encode()
	if _, err := fmt.Fprintf(out, "To sign in, open\n\n  %s\n\n", at); err != nil {
		return err
	}
	if !c.NoBrowser {
		_ = openBrowser(ctx, at) // the address is printed
	}
	code, err := answer.wait(ctx, state, s.Server)
	if err != nil {
		return err
	}
	return s.exchange(ctx, url.Values{
		"grant_type": {"authorization_code"}, "client_id": {signin.CLI}, "code": {code}, "redirect_uri": {answer.uri}, "code_verifier": {verifier},
	})
}

// byDevice shows a code, and waits until a person has typed it in elsewhere.
func (c loginCommand) byDevice(ctx context.Context, s *keptSession, out io.Writer) error {
	var made struct {
		DeviceCode  string `json:"device_code"`
		UserCode    string `json:"user_code"`
		URI         string `json:"verification_uri"`
		Interval    int    `json:"interval"`
		Description string `json:"error_description"`
	}
	status, err := s.send(ctx, "/login/device", formType, nil, []byte(url.Values{"client_id": {signin.CLI}, "device": {device()}}.Encode()), &made)
	if err != nil {
		return err
	}
	if status != http.StatusOK {
		return fmt.Errorf("%s: %s", s.Server, made.Description)
	}
	if _, err := fmt.Fprintf(out, "To sign in, open\n\n  %s\n\nand type in %s\n", made.URI, made.UserCode); err != nil {
		return err
	}
	pause := time.Duration(max(made.Interval, 1)) * time.Second
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("nobody signed in: %w", ctx.Err())
		case <-time.After(pause):
		}
		err := s.exchange(ctx, url.Values{"grant_type": {signin.DeviceGrant}, "client_id": {signin.CLI}, "device_code": {made.DeviceCode}})
		var refused *exchangeError
		switch {
		case errors.As(err, &refused) && refused.code == "authorization_pending":
		case errors.As(err, &refused) && refused.code == "slow_down":
			pause += 5 * time.Second // RFC 8628, 3.5
		default:
			return err
		}
	}
}

// openBrowser shows a page to whoever sits at this machine.
func openBrowser(ctx context.Context, at string) error {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	}
	return exec.CommandContext(ctx, program, at).Start() //nolint:gosec // the address was made here
}

// codeListener waits on a loopback address for where the browser is sent.
type codeListener struct {
	uri    string
	server *http.Server
	got    chan url.Values
}

// closePage is what the browser shows in the end.
const closePage = "<!doctype html><meta charset=\"utf-8\"><title>bindery</title><p>You may close this window and go back to the command line.\n"

func listenForCode(ctx context.Context) (*codeListener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the browser: %w", err)
	}
	c := &codeListener{uri: "http://" + l.Addr().String() + "/callback", got: make(chan url.Values, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /callback", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = io.WriteString(w, closePage) // the browser is gone if it fails
		select {
		case c.got <- r.URL.Query():
		default: // one is enough
		}
	})
	c.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = c.server.Serve(l) }() // until close
	return c, nil
}

// close lets the browser read its page, and ends.
func (c *codeListener) close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = c.server.Shutdown(ctx)
}

// wait returns the code that the browser brings. An answer that was not asked for is
// passed over: any page may send the browser here.
func (c *codeListener) wait(ctx context.Context, state, issuer string) (string, error) {
	for {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("nobody signed in: %w", ctx.Err())
		case v := <-c.got:
			if v.Get("state") != state || v.Get("iss") != issuer || v.Get("code") == "" {
				continue
			}
			return v.Get("code"), nil
		}
	}
}

type tokenShowCommand struct {
	Export bool `help:"Print a line that a shell takes as the setting of YC_TOKEN."`
	sessionFlags
}

// Run prints an IAM token of the session that bindery login began, a new one when the old
// one is about to end.
func (c tokenShowCommand) Run(ctx context.Context, out io.Writer) error {
	return c.locked(func(file string) error {
		s, err := readSession(file)
		if err != nil {
			return err
		}
		if time.Until(s.IAMTokenEnds) < tokenReserve {
			if err := s.refresh(ctx, file); err != nil {
				return err
			}
		}
		line := s.IAMToken
		if c.Export {
			line = "export YC_TOKEN=" + line
		}
		_, err = fmt.Fprintln(out, line)
		return err
	})
}

type logoutCommand struct{ sessionFlags }

// Run ends the session with all its tokens, and forgets it.
func (c logoutCommand) Run(ctx context.Context) error {
	return c.locked(func(file string) error {
		s, err := readSession(file)
		if err != nil {
			return err
		}
		if err := s.end(ctx, file); err != nil {
			return err
		}
		return os.Remove(file)
	})
}

// decodeJSON reads an answer.
func decodeJSON(r io.Reader, into any) error {
	return json.NewDecoder(io.LimitReader(r, 1<<20)).Decode(into)
}
