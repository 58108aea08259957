package oauthclients

import (
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/bindery-iam/bindery/pkg/apierr"
	"github.com/bindery-iam/bindery/pkg/text"
	iamv1 "github.com/bindery-iam/bindery/proto/gen/go/yandex/cloud/iam/v1"
)

// Methods of authentication, as in RFC 7591.
const (
	methodBasic = "client_secret_basic"
	methodPost  = "client_secret_post"
	methodNone  = "none"
)

// Ids of profiles.
const (
	profileWeb    = "web"
	profileNative = "native"
)

// profile is a kind of program, and what it leaves to its clients.
type profile struct {
	id             string
	allowed        []string // methods of authentication
	usual          []string // those of clients of which nothing was said
	pkce           bool     // what pkce_required is, where it is fixed
	pkceFixed      bool
	privateSchemes bool // redirect URIs may be of a scheme that the program registers (RFC 8252, 7.1)
}

// profiles, by their ids: a program on a server, which can keep a secret, and one on a
// device or in a browser, which cannot, and so must use PKCE (RFC 9700, 2.1.1).
var profiles = []profile{
	{id: profileNative, allowed: []string{methodNone}, usual: []string{methodNone}, pkce: true, pkceFixed: true, privateSchemes: true},
	{id: profileWeb, allowed: []string{methodBasic, methodPost}, usual: []string{methodBasic, methodPost}, pkce: true},
}

func profileOf(profileID string) (profile, error) {
	if profileID == "" {
		profileID = profileWeb
	}
	for _, p := range profiles {
		if p.id == profileID {
			return p, nil
		}
	}
	return profile{}, apierr.InvalidField("profile_id", "%q is not a profile: ListProfiles names them", profileID)
}

func (p profile) proto() *iamv1.Profile {
	return &iamv1.Profile{
		Id: p.id, AuthenticationMethodsAllowedValues: p.allowed, AuthenticationMethodsDefaultValues: p.usual,
		PkceRequiredReadonly: p.pkceFixed, PkceRequiredDefaultValue: p.pkce,
	}
}

// fit completes a client by its profile, and refuses what the profile does not allow.
func (p profile) fit(c *Client) error {
	if len(c.Methods) == 0 {
		c.Methods = p.usual
	}
	if p.pkceFixed {
		c.PKCE = p.pkce
	}
	for _, method := range c.Methods {
		if !slices.Contains(p.allowed, method) {
			return apierr.InvalidField("authentication_methods", "%q is not one of those of profile %s: %s", method, p.id, strings.Join(p.allowed, ", "))
		}
	}
	for _, list := range []struct {
		field string
		uris  []string
	}{{"redirect_uris", c.RedirectURIs}, {"post_logout_redirect_uris", c.LogoutURIs}} {
		for _, uri := range list.uris {
			if problem := p.problem(uri); problem != "" {
				return apierr.InvalidField(list.field, "%.200q %s", uri, problem)
			}
		}
	}
	return nil
}

// problem says what is wrong with a URI to which people are sent; "" for nothing. It is
// compared to the letter later on, so it must have one form.
func (p profile) problem(uri string) string {
	if problem := text.Problem(uri); problem != "" {
		return problem
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil || !u.IsAbs():
		return "must be an absolute URI"
	case strings.Contains(uri, "#"):
		return "must have no fragment (RFC 6749, 3.1.2)"
	case strings.ContainsAny(uri, "*\\") || strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return "must have no wildcard, backslash, space or letter beyond ASCII"
	case u.User != nil:
		return "must have no user or password"
	}
	switch u.Scheme {
	case "https":
		if u.Hostname() == "" {
			return "must have a host"
		}
	case "http":
		if host := u.Hostname(); host != "localhost" && !net.ParseIP(host).IsLoopback() {
			return "must be https, but on a loopback address (RFC 8252, 7.3)"
		}
	default:
		// A name of a domain backwards: "javascript" and "data" have no dot.
		if !p.privateSchemes || !strings.Contains(u.Scheme, ".") {
			return "must be https, or http on a loopback address; profile native takes schemes that are domains backwards as well"
		}
	}
	return ""
}
