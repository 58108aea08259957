package outbound

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json"
)

// Algorithms are those that tokens may be signed by: of key pairs, none by a shared
// secret, never "none".
var Algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// Bounds of a key set.
const (
	mostKeys   = 100
	minRSABits = 2048
	maxRSABits = 8192
)

// ErrSignature is a token that no key of its issuer has signed.
var ErrSignature = errors.New("no key of the issuer has signed the token")

// KeySets reads the keys of issuers (RFC 7517). Safe for concurrent use.
type KeySets struct{ docs *Documents[keySet] }

// NewKeySets returns the key sets that a client reads. now may be nil.
func NewKeySets(client *Client, now func() time.Time) *KeySets {
	return &KeySets{docs: NewDocuments(client, now, parseKeySet)}
}

// keySet are keys that signatures are verified by; of a kid there may be several, of
// different algorithms.
type keySet struct{ keys []jose.JSONWebKey }

// parseKeySet reads a key set. Keys of other uses and kinds are left out (RFC 7517,
// section 5); a private key or a shared secret is no key to verify by.
func parseKeySet(raw []byte) (keySet, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil || set.Keys == nil {
		return keySet{}, errors.New("it is no key set")
	}
	if len(set.Keys) > mostKeys {
		return keySet{}, fmt.Errorf("it has %d keys, more than %d", len(set.Keys), mostKeys)
	}
	var out keySet
	for _, raw := range set.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) != nil || key.Use != "" && key.Use != "sig" || !verifies(key) {
			continue
		}
		out.keys = append(out.keys, key)
	}
	if len(out.keys) == 0 {
		return keySet{}, errors.New("it has no key that verifies signatures")
	}
	return out, nil
}

// verifies reports whether a key is a public one that is strong enough.
func verifies(key jose.JSONWebKey) bool {
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return public.N.BitLen() >= minRSABits && public.N.BitLen() <= maxRSABits
	case *ecdsa.PublicKey, ed25519.PublicKey:
		return key.Valid()
	default:
		return false
	}
}

// named returns the keys for a signature: those of its kid, all when it names none.
func (s keySet) named(header jose.Header) []jose.JSONWebKey {
	var out []jose.JSONWebKey
	for _, key := range s.keys {
		if header.KeyID != "" && key.KeyID != header.KeyID || key.Algorithm != "" && key.Algorithm != header.Algorithm {
			continue
		}
		out = append(out, key)
	}
	return out
}

// mostTried bounds the keys that a token without a kid is tried by.
const mostTried = 4

// KeySet are the keys at one URL. It is a KeySet of coreos/go-oidc.
type KeySet struct {
	sets *KeySets
	url  string
}

// At returns the keys at a URL, which is read when they are needed.
func (k *KeySets) At(url string) *KeySet { return &KeySet{sets: k, url: url} }

// VerifySignature returns the claims of a token in compact form that one of the keys
// has signed, and judges none of them. Keys are read again, at most once in a Period,
// when the token names one that is not known. Fails: ErrSignature, ErrAddress,
// ErrUnread.
func (k *KeySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	signed, err := jose.ParseSignedCompact(token, Algorithms)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no token of an algorithm that is taken", ErrSignature)
	}
	return k.Verify(ctx, signed)
}

// Verify returns the payload of what one of the keys has signed, as VerifySignature.
func (k *KeySet) Verify(ctx context.Context, signed *jose.JSONWebSignature) ([]byte, error) {
	if len(signed.Signatures) != 1 {
		return nil, fmt.Errorf("%w: it has %d signatures", ErrSignature, len(signed.Signatures))
	}
	header := signed.Signatures[0].Protected
	set, err := k.sets.docs.Get(ctx, k.url)
	if err != nil {
		return nil, err
	}
	keys := set.named(header)
	if len(keys) == 0 {
		if set, err = k.sets.docs.Newer(ctx, k.url); err != nil {
			return nil, err
		}
		keys = set.named(header)
	}
	for _, key := range keys[:min(len(keys), mostTried)] {
		if payload, err := signed.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	return nil, ErrSignature
}
