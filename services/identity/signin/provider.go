package signin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Provider is an OpenID provider that people sign in by, as the operator described it.
type Provider struct {
	// Name in URLs: lower-case letters, digits and dashes.
	Name string `json:"-"`

	// Title that people read; the name when empty.
	Title string `json:"title"`

	// Issuer as the provider calls itself: https, or http on this machine.
	Issuer string `json:"issuer"`

	// ClientID by which the provider knows this installation.
	ClientID string `json:"clientId"`

	// ClientSecretFile holds the secret of the client; none for a public client. A
	// relative path begins at the file that names it.
	ClientSecretFile string `json:"clientSecretFile"`

	// OrganizationID of which everybody is a member who signs in for the first time.
	// Without one only those may sign in who were linked or invited.
	OrganizationID string `json:"organizationId"`

	// Scopes that are asked for beside openid; profile and email when nil.
	Scopes []string `json:"scopes"`

	secret string
}

var providerName = regexp.MustCompile(`^[a-z][-a-z0-9]{0,30}$`)

// reserved are the paths under /login that are no provider's.
var reserved = []string{"authorize", "callback", "iam-token", "token", "device", "saml"}

// maxFile bounds the files of a provider.
const maxFile = 64 << 10

// ReadProvider reads the description of a provider, a JSON object, and its secret.
func ReadProvider(name, file string) (Provider, error) {
	text, err := readFile(file)
	if err != nil {
		return Provider{}, err
	}
	p := Provider{Name: name}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		return Provider{}, fmt.Errorf("%s: %w", file, err)
	}
	if p.ClientSecretFile != "" {
		at := p.ClientSecretFile
		if !filepath.IsAbs(at) {
			at = filepath.Join(filepath.Dir(file), at)
		}
		secret, err := readFile(at)
		if err != nil {
			return Provider{}, err
		}
		if p.secret = strings.TrimSpace(string(secret)); p.secret == "" {
			return Provider{}, fmt.Errorf("%s: no secret in it", at)
		}
	}
	if err := p.Validate(); err != nil {
		return Provider{}, fmt.Errorf("%s: %w", file, err)
	}
	return p, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the operator names it
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: more than %d bytes", name, maxFile)
	}
	return text, err
}

// Validate reports everything that is wrong with the description.
func (p Provider) Validate() error {
	var problems []error
	if !providerName.MatchString(p.Name) || slices.Contains(reserved, p.Name) {
		problems = append(problems, fmt.Errorf("provider %q: a name has up to 31 of a-z, 0-9 and -, begins with a letter, and is none of %s", p.Name, strings.Join(reserved, ", ")))
	}
	if err := checkURL(p.Issuer); err != nil {
		problems = append(problems, fmt.Errorf("issuer: %w", err))
	}
	if p.ClientID == "" {
		problems = append(problems, errors.New("clientId is missing"))
	}
	return errors.Join(problems...)
}

// checkURL refuses what no address of a site or provider can be.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q is not a URL without user, query and fragment", raw)
	case u.Scheme == "https":
		return nil
	case u.Scheme == "http" && isLoopback(u.Hostname()):
		return nil
	default:
		return fmt.Errorf("%q must begin with https://; http:// is for this machine", raw)
	}
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// title is what people read.
func (p Provider) title() string {
	if p.Title != "" {
		return p.Title
	}
	return p.Name
}

// Identity is somebody as a provider vouches for them.
type Identity struct {
	Issuer        string
	Subject       string // of the issuer
	Email         string // "" when it was not told
	EmailVerified bool   // whether the provider says so
	GivenName     string
	FamilyName    string
	Username      string // preferred_username; chosen by the person
}

// Times and sizes of what a provider is asked.
const (
	askWithin     = 10 * time.Second
	maxAnswer     = 1 << 20
	discoverAgain = 10 * time.Minute
	maxSubject    = 255 // OpenID Connect Core 2
)

// algorithms by which ID tokens may be signed: all have a public key, so that no
// provider's client secret makes tokens, and none is "none".
var algorithms = []string{
	oidc.RS256, oidc.RS384, oidc.RS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.EdDSA,
}

// client is a provider and what it says of itself.
type client struct {
	Provider
	http *http.Client
	now  func() time.Time

	mu    sync.Mutex
	known *discovered // nil before
}

// discovered is the discovery document of a provider.
type discovered struct {
	at       time.Time
	provider *oidc.Provider

	KeysURL        string   `json:"jwks_uri"`
	EndSessionURL  string   `json:"end_session_endpoint"`
	SaysIssuer     bool     `json:"authorization_response_iss_parameter_supported"`
	ChallengeKinds []string `json:"code_challenge_methods_supported"`
}

func newClient(p Provider, now func() time.Time) *client {
	return &client{Provider: p, now: now, http: &http.Client{
		Timeout: askWithin, Transport: bounded{http.DefaultTransport},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// bounded cuts answers that are too long.
type bounded struct{ http.RoundTripper }

// RoundTrip sends one request.
func (b bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	}
	return resp, err
}

// discover reads what the provider says of itself, from time to time anew. What was read
// before does while it cannot be read.
func (c *client) discover(ctx context.Context) (*discovered, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known != nil && c.now().Sub(c.known.at) < discoverAgain {
		return c.known, nil
	}
	d := &discovered{at: c.now()}
	var err error
	d.provider, err = oidc.NewProvider(oidc.ClientContext(ctx, c.http), c.Issuer)
	if err == nil {
		err = d.provider.Claims(d)
	}
	if err == nil && d.ChallengeKinds != nil && !slices.Contains(d.ChallengeKinds, "S256") {
		err = errors.New("the provider does not know PKCE by S256")
	}
	if err != nil {
		if c.known != nil {
			return c.known, nil
		}
		return nil, fmt.Errorf("discover %s: %w", c.Issuer, err)
	}
	c.known = d
	return d, nil
}

func (c *client) oauth(d *discovered, redirect string) *oauth2.Config {
	scopes := c.Scopes
	if scopes == nil {
		scopes = []string{"profile", "email"}
	}
	return &oauth2.Config{
		ClientID: c.ClientID, ClientSecret: c.secret, Endpoint: d.provider.Endpoint(), RedirectURL: redirect,
		Scopes: append([]string{oidc.ScopeOpenID}, scopes...),
	}
}

// refusal is why an answer of a provider was not accepted: a word for records, and what
// was found, which is for the log and holds no secret.
type refusal struct {
	reason string
	cause  error
}

// Error is what was found.
func (r *refusal) Error() string {
	if r.cause == nil {
		return r.reason
	}
	return r.reason + ": " + r.cause.Error()
}

func refuse(reason string, cause error) *refusal { return &refusal{reason, cause} }

// identify exchanges a code for an ID token and verifies it, by the keys that the
// provider has now: one that it took back is good for nothing.
func (c *client) identify(ctx context.Context, d *discovered, redirect, code, verifier, nonce string) (Identity, error) {
	ctx, cancel := context.WithTimeout(oidc.ClientContext(ctx, c.http), askWithin)
	defer cancel()
	token, err := c.oauth(d, redirect).Exchange(ctx, code, oauth2.VerifierOption(verifier))
	if err != nil {
		return Identity{}, refuse("CODE_REFUSED", safe(err))
	}
	raw, ok := token.Extra("id_token").(string)
	if !ok {
		return Identity{}, refuse("ID_TOKEN_MISSING", nil)
	}
	idToken, err := oidc.NewVerifier(c.Issuer, oidc.NewRemoteKeySet(ctx, d.KeysURL), &oidc.Config{
		ClientID: c.ClientID, SupportedSigningAlgs: algorithms, Now: c.now,
	}).Verify(ctx, raw)
	if err != nil {
		return Identity{}, refuse("ID_TOKEN_INVALID", err)
	}
	who, err := c.claimed(idToken, nonce)
	if err != nil || who.Email != "" || d.provider.UserInfoEndpoint() == "" {
		return who, err
	}
	return c.ask(ctx, d, token, who)
}

// safe leaves out of an error what the provider answered but for its code.
func safe(err error) error {
	var answered *oauth2.RetrieveError
	if errors.As(err, &answered) {
		return fmt.Errorf("the provider answered %s %.64q", answered.Response.Status, answered.ErrorCode)
	}
	return err
}

// claims are what a provider tells of somebody.
type claims struct {
	Authorized string `json:"azp"`
	Email      string `json:"email"`
	Verified   any    `json:"email_verified"` // some tell a string, which is no yes
	GivenName  string `json:"given_name"`
	FamilyName string `json:"family_name"`
	Username   string `json:"preferred_username"`
}

// claimed reads an ID token whose signature, issuer, audience and end are good.
func (c *client) claimed(t *oidc.IDToken, nonce string) (Identity, error) {
	var told claims
	if err := t.Claims(&told); err != nil {
		return Identity{}, refuse("ID_TOKEN_INVALID", err)
	}
	switch {
	case !equal(t.Nonce, nonce):
		return Identity{}, refuse("NONCE_MISMATCH", nil)
	case len(t.Audience) > 1 && told.Authorized != c.ClientID || told.Authorized != "" && told.Authorized != c.ClientID:
		return Identity{}, refuse("ID_TOKEN_INVALID", errors.New("made for another client"))
	case t.Subject == "" || len(t.Subject) > maxSubject || strings.ContainsFunc(t.Subject, func(r rune) bool { return r < ' ' || r > '~' }):
		return Identity{}, refuse("ID_TOKEN_INVALID", errors.New("sub is not 1 to 255 characters of ASCII"))
	case t.IssuedAt.After(c.now().Add(time.Minute)):
		return Identity{}, refuse("ID_TOKEN_INVALID", errors.New("issued in the future"))
	}
	return told.identity(c.Issuer, t.Subject), nil
}

func (c claims) identity(issuer, subject string) Identity {
	return Identity{
		Issuer: issuer, Subject: subject, Email: c.Email, EmailVerified: c.Verified == true,
		GivenName: c.GivenName, FamilyName: c.FamilyName, Username: c.Username,
	}
}

// ask reads what the ID token does not tell from the provider's UserInfo endpoint, which
// must speak of the same person (OpenID Connect Core 5.3.2).
func (c *client) ask(ctx context.Context, d *discovered, token *oauth2.Token, who Identity) (Identity, error) {
	info, err := d.provider.UserInfo(ctx, oauth2.StaticTokenSource(token))
	if err != nil {
		return Identity{}, refuse("USER_INFO_UNREAD", nil) // the error holds what was answered
	}
	if info.Subject != who.Subject {
		return Identity{}, refuse("USER_INFO_MISMATCH", nil)
	}
	var told claims
	if err := info.Claims(&told); err != nil {
		return Identity{}, refuse("USER_INFO_UNREAD", err)
	}
	return told.identity(who.Issuer, who.Subject), nil
}

// SetSecret gives the secret of the client that ReadProvider would have read.
func (p *Provider) SetSecret(secret string) { p.secret = secret }
