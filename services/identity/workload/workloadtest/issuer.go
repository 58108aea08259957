// Package workloadtest is an issuer of tokens for tests, with the tokens that nobody
// may accept.
package workloadtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Issuer signs tokens of workloads and shows its keys to whoever asks.
type Issuer struct {
	URL   string       // iss
	Reads atomic.Int64 // of its keys
	Down  atomic.Bool  // answers nothing but 503

	t   testing.TB
	mu  sync.Mutex
	kid string
	key *ecdsa.PrivateKey
}

// New returns an issuer with a key.
func New(t testing.TB, url string) *Issuer {
	i := &Issuer{URL: url, t: t}
	i.Rotate("first")
	return i
}

// Rotate takes another key and shows it alone.
func (i *Issuer) Rotate(kid string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.kid, i.key = kid, newKey(i.t)
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (i *Issuer) signing() (string, *ecdsa.PrivateKey) {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.kid, i.key
}

// ServeHTTP shows discovery document and keys.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	i.Reads.Add(1)
	if i.Down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	kid, key := i.signing()
	var body any = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{KeyID: kid, Key: key.Public(), Use: "sig", Algorithm: "ES256"}}}
	if strings.HasSuffix(r.URL.Path, "/.well-known/openid-configuration") {
		body = map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}}
	}
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(body); err != nil {
		i.t.Error(err)
	}
}

// Claims are those of a good token at a time.
func (i *Issuer) Claims(subject, audience string, now time.Time) map[string]any {
	return map[string]any{
		"iss": i.URL, "sub": subject, "aud": []string{audience}, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"jti": rand.Text(), "repository": "acme/app",
	}
}

// Token signs claims.
func (i *Issuer) Token(claims map[string]any) string {
	kid, _ := i.signing()
	return i.sign(map[string]any{"alg": "ES256", "kid": kid, "typ": "JWT"}, mustJSON(i.t, claims))
}

// sign signs by the issuer's key, whatever the header says.
func (i *Issuer) sign(header map[string]any, payload []byte) string {
	_, key := i.signing()
	return signES256(i.t, key, mustJSON(i.t, header), payload)
}

func signES256(t testing.TB, key *ecdsa.PrivateKey, header, payload []byte) string {
	t.Helper()
	text := encode(header) + "." + encode(payload)
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	return text + "." + encode(sig)
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// Bad are tokens of which none may be accepted for a subject and an audience at a time,
// by what is wrong with them.
func (i *Issuer) Bad(subject, audience string, now time.Time) map[string]string {
	c := &corpus{
		Issuer: i, subject: subject, audience: audience, now: now, good: i.Claims(subject, audience, now),
		bad: map[string]string{"empty": "", "no token": "x", "two dots": "..", "spaces": " ", "not three parts": "a.b"},
	}
	c.kid, c.key = i.signing()
	c.header = map[string]any{"alg": "ES256", "kid": c.kid, "typ": "JWT"}
	c.plain = string(mustJSON(i.t, c.good))
	c.audiences()
	c.subjects()
	c.times()
	c.shapes()
	c.headers()
	c.signatures()
	return c.bad
}

// corpus is the tokens so far, and what they are made from.
type corpus struct {
	*Issuer
	subject, audience string
	now               time.Time
	kid               string
	key               *ecdsa.PrivateKey
	header, good      map[string]any
	plain             string // the good claims
	bad               map[string]string
}

// claims adds a token whose claims are the good ones but for a change; nil takes one
// away.
func (c *corpus) claims(name string, change map[string]any) {
	claims := maps.Clone(c.good)
	for k, v := range change {
		if claims[k] = v; v == nil {
			delete(claims, k)
		}
	}
	c.bad[name] = c.sign(c.header, mustJSON(c.t, claims))
}

func (c *corpus) audiences() {
	c.claims("another audience", map[string]any{"aud": "https://other.example"})
	c.claims("no audience", map[string]any{"aud": nil})
	c.claims("an empty list of audiences", map[string]any{"aud": []string{}})
	c.claims("an empty audience", map[string]any{"aud": ""})
	c.claims("an audience that begins like it", map[string]any{"aud": c.audience + "x"})
	c.claims("an audience in upper case", map[string]any{"aud": strings.ToUpper(c.audience)})
	c.claims("a number as audience", map[string]any{"aud": 7})
	c.claims("an object as audience", map[string]any{"aud": map[string]any{"aud": c.audience}})
	c.claims("many audiences", map[string]any{"aud": append(strings.Split(strings.Repeat("x,", 200), ","), c.audience)})
	c.claims("another issuer", map[string]any{"iss": "https://evil.example"})
	c.claims("an issuer with a slash", map[string]any{"iss": c.URL + "/"})
	c.claims("no issuer", map[string]any{"iss": nil})
	c.claims("a list as issuer", map[string]any{"iss": []string{c.URL}})
}

func (c *corpus) subjects() {
	c.claims("another subject", map[string]any{"sub": "repo:acme/other"})
	c.claims("a subject that begins like it", map[string]any{"sub": c.subject + "x"})
	c.claims("the beginning of the subject", map[string]any{"sub": c.subject[:len(c.subject)-1]})
	c.claims("a subject in upper case", map[string]any{"sub": strings.ToUpper(c.subject)})
	c.claims("a wildcard as subject", map[string]any{"sub": "*"})
	c.claims("no subject", map[string]any{"sub": nil})
	c.claims("an empty subject", map[string]any{"sub": ""})
	c.claims("a list as subject", map[string]any{"sub": []string{c.subject}})
	c.claims("a subject with NUL", map[string]any{"sub": c.subject + "\x00"})
	c.claims("huge", map[string]any{"pad": strings.Repeat("x", 20_000)})
}

func (c *corpus) times() {
	at := func(d time.Duration) int64 { return c.now.Add(d).Unix() }
	c.claims("expired", map[string]any{"iat": at(-2 * time.Hour), "nbf": at(-2 * time.Hour), "exp": at(-2 * time.Minute)})
	c.claims("not yet valid", map[string]any{"nbf": at(5 * time.Minute)})
	c.claims("issued in the future", map[string]any{"iat": at(5 * time.Minute), "exp": at(time.Hour)})
	c.claims("too old", map[string]any{"iat": at(-25 * time.Hour), "nbf": at(-25 * time.Hour), "exp": at(365 * 24 * time.Hour)})
	c.claims("ends before it begins", map[string]any{"exp": at(-30 * time.Second), "nbf": nil})
	c.claims("no end", map[string]any{"exp": nil})
	c.claims("no beginning", map[string]any{"iat": nil})
	c.claims("an end of zero", map[string]any{"exp": 0})
	c.claims("a text as end", map[string]any{"exp": "9999999999"})
	c.claims("an end beyond numbers", map[string]any{"exp": 1e300})
	c.claims("a negative end", map[string]any{"exp": -1})
}

// shapes adds claims that are no object of distinct names.
func (c *corpus) shapes() {
	for name, payload := range map[string]string{
		"two subjects":        `{"sub":"repo:acme/other",` + c.plain[1:],
		"two subjects, after": c.plain[:len(c.plain)-1] + `,"sub":"` + c.subject + `"}`,
		"two issuers":         `{"iss":"https://evil.example",` + c.plain[1:],
		"two audiences":       c.plain[:len(c.plain)-1] + `,"aud":"` + c.audience + `"}`,
		"two ends":            c.plain[:len(c.plain)-1] + `,"exp":99999999999}`,
		"names in upper case": strings.NewReplacer(`"sub"`, `"SUB"`, `"iss"`, `"ISS"`).Replace(c.plain),
		"null":                `null`, "a list": `[` + c.plain + `]`, "a text": `"x"`, "two objects": c.plain + c.plain,
		"broken": c.plain[:len(c.plain)-1], "nothing": ``,
	} {
		c.bad["claims: "+name] = c.sign(c.header, []byte(payload))
	}
}

func (c *corpus) headers() {
	for name, change := range map[string]map[string]any{
		"none": {"alg": "none"}, "None": {"alg": "None"}, "HS256": {"alg": "HS256"}, "RS256": {"alg": "RS256"}, "ES512": {"alg": "ES512"},
		"a number as alg": {"alg": 7}, "an empty alg": {"alg": ""}, "typ at+jwt": {"typ": "at+jwt"}, "typ JOSE": {"typ": "JOSE"},
		"typ logout": {"typ": "logout+jwt"}, "typ dpop": {"typ": "dpop+jwt"}, "a number as typ": {"typ": 1}, "another kid": {"kid": "nobody's"},
		"crit": {"crit": []string{"exp"}}, "crit b64": {"crit": []string{"b64"}, "b64": false}, "zip": {"zip": "DEF"}, "cty": {"cty": "JWT"},
		"jku": {"jku": "https://evil.example/keys"}, "x5u": {"x5u": "https://evil.example/cert"},
	} {
		h := maps.Clone(c.header)
		maps.Copy(h, change)
		c.bad["header: "+name] = c.sign(h, []byte(c.plain))
	}
	for n := range 20 {
		h := maps.Clone(c.header)
		h["kid"] = fmt.Sprintf("made up %d", n)
		c.bad[fmt.Sprintf("header: kid %d", n)] = signES256(c.t, newKey(c.t), mustJSON(c.t, h), []byte(c.plain))
	}
	c.bad["header: alg twice"] = signES256(c.t, c.key, []byte(`{"alg":"none","alg":"ES256","kid":"`+c.kid+`"}`), []byte(c.plain))
	c.bad["header: null"] = signES256(c.t, c.key, []byte(`null`), []byte(c.plain))
}

func (c *corpus) signatures() {
	other := newKey(c.t)
	h := maps.Clone(c.header)
	h["jwk"] = jose.JSONWebKey{Key: other.Public(), KeyID: c.kid, Algorithm: "ES256"}
	c.bad["signature: by a key that it brings"] = signES256(c.t, other, mustJSON(c.t, h), []byte(c.plain))
	c.bad["signature: by another key"] = signES256(c.t, other, mustJSON(c.t, c.header), []byte(c.plain))
	token := c.Token(c.good)
	parts := strings.Split(token, ".")
	c.bad["signature: none"] = parts[0] + "." + parts[1] + "."
	c.bad["signature: of another token"] = parts[0] + "." + parts[1] + "." + strings.Split(c.Token(c.Claims("other", c.audience, c.now)), ".")[2]
	c.bad["signature: short"] = token[:len(token)-4]
	c.bad["signature: zeros"] = parts[0] + "." + parts[1] + "." + encode(make([]byte, 64))
	c.bad["alg none, no signature"] = encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
	c.bad["four parts"] = token + ".x"
	c.bad["a space before"], c.bad["a line end after"], c.bad["Bearer"] = " "+token, token+"\n", "Bearer "+token
	c.bad["HS256 by the public key"] = hs256(c.t, c.key.Public(), c.kid, []byte(c.plain))
	c.bad["as JSON"] = `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`
}

// hs256 signs by a shared secret that everybody knows: the public key.
func hs256(t testing.TB, public crypto.PublicKey, kid string, payload []byte) string {
	t.Helper()
	text := encode(mustJSON(t, map[string]any{"alg": "HS256", "kid": kid})) + "." + encode(payload)
	mac := hmac.New(sha256.New, mustJSON(t, jose.JSONWebKey{Key: public}))
	_, _ = mac.Write([]byte(text)) // never fails
	return text + "." + encode(mac.Sum(nil))
}
