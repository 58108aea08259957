package outbound

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"
)

var _ oidc.KeySet = (*KeySet)(nil)

var unlimited = rate.NewLimiter(rate.Inf, math.MaxInt)

// issuer has keys, of which it shows some.
type issuer struct {
	t     *testing.T
	url   string
	reads atomic.Int64
	shown atomic.Value // []byte
	clock *clock
	sets  *KeySets
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	i := &issuer{t: t, clock: newClock()}
	srv, conf := issuerServer(t, func(w http.ResponseWriter, _ *http.Request) {
		i.reads.Add(1)
		_, _ = w.Write(i.shown.Load().([]byte))
	})
	i.url = srv.URL
	i.sets = NewKeySets(NewClient(conf), i.clock.now)
	return i
}

func (i *issuer) show(keys ...jose.JSONWebKey) {
	i.t.Helper()
	raw, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		i.t.Fatal(err)
	}
	i.shown.Store(raw)
}

func public(kid string, key crypto.Signer) jose.JSONWebKey {
	return jose.JSONWebKey{KeyID: kid, Key: key.Public(), Use: "sig"}
}

func signed(t *testing.T, alg jose.SignatureAlgorithm, kid string, key any) string {
	t.Helper()
	opts := (&jose.SignerOptions{})
	if kid != "" {
		opts = opts.WithHeader("kid", kid)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign([]byte(`{"sub":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func rsaKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ecKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestKeySetVerifies(t *testing.T) {
	i := newIssuer(t)
	r, e := rsaKey(t), ecKey(t)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i.show(public("r", r), public("e", e), public("d", ed))
	keys := i.sets.At(i.url)
	for name, token := range map[string]string{
		"RS256": signed(t, jose.RS256, "r", r), "RS512": signed(t, jose.RS512, "r", r), "PS256": signed(t, jose.PS256, "r", r),
		"ES256": signed(t, jose.ES256, "e", e), "EdDSA": signed(t, jose.EdDSA, "d", ed), "no kid": signed(t, jose.ES256, "", e),
	} {
		if payload, err := keys.VerifySignature(t.Context(), token); err != nil || string(payload) != `{"sub":"x"}` {
			t.Errorf("%s: %s, %v", name, payload, err)
		}
	}
	good := signed(t, jose.RS256, "r", r)
	parts := strings.Split(good, ".")
	n := r.N.Bytes()
	for name, token := range map[string]string{
		"another key":            signed(t, jose.RS256, "r", rsaKey(t)),
		"the kid of another key": signed(t, jose.RS256, "e", r),
		"a shared secret":        signed(t, jose.HS256, "r", n[:32]),
		"the modulus as secret":  signed(t, jose.HS256, "r", n),
		"none":                   "eyJhbGciOiJub25lIiwia2lkIjoiciJ9." + parts[1] + ".",
		"no signature":           parts[0] + "." + parts[1] + ".",
		"another payload":        parts[0] + "." + "eyJzdWIiOiJ5In0" + "." + parts[2],
		"not a token":            "x",
		"empty":                  "",
	} {
		if _, err := keys.VerifySignature(t.Context(), token); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, want it to be refused", name, err)
		}
	}
}

// A new key is found by reading again, but a made up one costs one read in a period,
// whatever is made up.
func TestKeySetRotation(t *testing.T) {
	i := newIssuer(t)
	first, second := ecKey(t), ecKey(t)
	i.show(public("1", first))
	keys := i.sets.At(i.url)
	if _, err := keys.VerifySignature(t.Context(), signed(t, jose.ES256, "1", first)); err != nil {
		t.Fatal(err)
	}
	i.show(public("2", second))
	for n := range 50 {
		if _, err := keys.VerifySignature(t.Context(), signed(t, jose.ES256, "made up "+strconv.Itoa(n), second)); !errors.Is(err, ErrSignature) {
			t.Fatal(err)
		}
	}
	if n := i.reads.Load(); n != 1 {
		t.Errorf("%d reads within the period, want 1", n)
	}
	i.clock.pass(Period)
	for range 50 {
		if _, err := keys.VerifySignature(t.Context(), signed(t, jose.ES256, "2", second)); err != nil {
			t.Fatal(err)
		}
		if _, err := keys.VerifySignature(t.Context(), signed(t, jose.ES256, "1", first)); !errors.Is(err, ErrSignature) {
			t.Fatalf("the rotated key: %v", err)
		}
	}
	if n := i.reads.Load(); n != 2 {
		t.Errorf("%d reads, want 2", n)
	}
}

// Key sets that verify nothing, or too much, are not taken.
func TestKeySetsRefused(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	e := ecKey(t)
	many := make([]jose.JSONWebKey, mostKeys+1)
	for i := range many {
		many[i] = public(strconv.Itoa(i), e)
	}
	i := newIssuer(t)
	for name, show := range map[string]func(){
		"weak":              func() { i.show(public("k", weak)) },
		"secret":            func() { i.show(jose.JSONWebKey{KeyID: "k", Key: []byte("0123456789abcdef0123456789abcdef")}) },
		"private":           func() { i.show(jose.JSONWebKey{KeyID: "k", Key: e}) },
		"for encryption":    func() { i.show(jose.JSONWebKey{KeyID: "k", Key: e.Public(), Use: "enc"}) },
		"too many":          func() { i.show(many...) },
		"none":              func() { i.show() },
		"another algorithm": func() { i.show(jose.JSONWebKey{KeyID: "k", Key: e.Public(), Algorithm: "ES512"}) },
		"no JSON":           func() { i.shown.Store([]byte("<html>")) },
		"twice keys":        func() { i.shown.Store([]byte(`{"keys":[],"keys":[]}`)) },
		"empty":             func() { i.shown.Store([]byte(`{}`)) },
	} {
		show()
		i.sets = NewKeySets(i.sets.docs.client, i.clock.now)
		token := signed(t, jose.ES256, "k", e)
		if name == "weak" {
			token = strings.Join([]string{"eyJhbGciOiJSUzI1NiIsImtpZCI6ImsifQ", "e30", strings.Repeat("A", 171)}, ".")
		}
		if _, err := i.sets.At(i.url).VerifySignature(t.Context(), token); !errors.Is(err, ErrUnread) && !errors.Is(err, ErrSignature) {
			t.Errorf("%s: %v, want it to be refused", name, err)
		}
	}
}

func TestProviders(t *testing.T) {
	var answer atomic.Value
	srv, conf := issuerServer(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		_, _ = w.Write([]byte(answer.Load().(string)))
	})
	for path, want := range map[string]string{"": "", "/": "", "/tenant": ""} {
		issuer := srv.URL + path
		answer.Store(`{"issuer":"` + issuer + `","jwks_uri":"https://issuer.example/keys"}`)
		got, err := NewProviders(NewClient(conf), nil).Get(t.Context(), issuer)
		if err != nil || got.KeysURL != "https://issuer.example/keys" {
			t.Errorf("%s: %+v, %v%s", issuer, got, err, want)
		}
	}
	for name, text := range map[string]string{
		"of another": `{"issuer":"https://issuer.example","jwks_uri":"https://issuer.example/keys"}`, "with a slash": `{"issuer":"` + srv.URL + `/","jwks_uri":"x"}`,
		"without keys": `{"issuer":"` + srv.URL + `"}`, "no JSON": "x", "twice issuer": `{"issuer":"x","issuer":"` + srv.URL + `","jwks_uri":"x"}`,
	} {
		answer.Store(text)
		if _, err := NewProviders(NewClient(conf), nil).Get(t.Context(), srv.URL); !errors.Is(err, ErrUnread) {
			t.Errorf("%s: %v, want it to be refused", name, err)
		}
	}
}
