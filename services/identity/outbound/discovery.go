package outbound

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4/json"
)

// Provider is what an OpenID provider says of itself (OpenID Connect Discovery 1.0,
// section 3), as far as it is needed here.
type Provider struct {
	Issuer                string   `json:"issuer"`
	AuthorizationEndpoint string   `json:"authorization_endpoint"`
	TokenEndpoint         string   `json:"token_endpoint"`
	UserinfoEndpoint      string   `json:"userinfo_endpoint"`
	DeviceEndpoint        string   `json:"device_authorization_endpoint"`
	EndSessionEndpoint    string   `json:"end_session_endpoint"`
	KeysURL               string   `json:"jwks_uri"`
	Algorithms            []string `json:"id_token_signing_alg_values_supported"`
}

// Providers reads the discovery documents of issuers. Safe for concurrent use.
type Providers struct{ docs *Documents[Provider] }

// NewProviders returns the providers that a client reads. now may be nil.
func NewProviders(client *Client, now func() time.Time) *Providers {
	return &Providers{docs: NewDocuments(client, now, func(raw []byte) (p Provider, err error) {
		if json.Unmarshal(raw, &p) != nil || p.Issuer == "" || p.KeysURL == "" {
			return Provider{}, errors.New("it is no discovery document")
		}
		return p, nil
	})}
}

// Get returns the document of an issuer, which must name that issuer to the letter.
// Fails: ErrAddress, ErrUnread.
func (p *Providers) Get(ctx context.Context, issuer string) (Provider, error) {
	doc, err := p.docs.Get(ctx, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration")
	if err != nil {
		return Provider{}, err
	}
	if doc.Issuer != issuer {
		return Provider{}, fmt.Errorf("%w: it is that of another issuer", ErrUnread)
	}
	return doc, nil
}
