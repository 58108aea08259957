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
func (i *Issuer) Bad(subject, audience string, now time.Time) map[string]string { //nolint:revive // a list
	kid, key := i.signing()
	header := map[string]any{"alg": "ES256", "kid": kid, "typ": "JWT"}
	good := i.Claims(subject, audience, now)
	bad := map[string]string{"empty": "", "no token": "x", "two dots": "..", "spaces": " ", "not three parts": "a.b"}
	claims := func(name string, change map[string]any) {
		c := maps.Clone(good)
		for k, v := range change {
			if c[k] = v; v == nil {
				delete(c, k)
			}
		}
		bad[name] = i.sign(header, mustJSON(i.t, c))
	}
	at := func(d time.Duration) int64 { return now.Add(d).Unix() }
	claims("another audience", map[string]any{"aud": "https://other.example"})
	claims("no audience", map[string]any{"aud": nil})
	claims("an empty list of audiences", map[string]any{"aud": []string{}})
	claims("an empty audience", map[string]any{"aud": ""})
	claims("an audience that begins like it", map[string]any{"aud": audience + "x"})
	claims("an audience in upper case", map[string]any{"aud": strings.ToUpper(audience)})
	claims("a number as audience", map[string]any{"aud": 7})
	claims("an object as audience", map[string]any{"aud": map[string]any{"aud": audience}})
	claims("many audiences", map[string]any{"aud": append(strings.Split(strings.Repeat("x,", 200), ","), audience)})
	claims("another issuer", map[string]any{"iss": "https://evil.example"})
	claims("an issuer with a slash", map[string]any{"iss": i.URL + "/"})
	claims("no issuer", map[string]any{"iss": nil})
	claims("a list as issuer", map[string]any{"iss": []string{i.URL}})
	claims("another subject", map[string]any{"sub": "repo:acme/other"})
	claims("a subject that begins like it", map[string]any{"sub": subject + "x"})
	claims("the beginning of the subject", map[string]any{"sub": subject[:len(subject)-1]})
	claims("a subject in upper case", map[string]any{"sub": strings.ToUpper(subject)})
	claims("a wildcard as subject", map[string]any{"sub": "*"})
	claims("no subject", map[string]any{"sub": nil})
	claims("an empty subject", map[string]any{"sub": ""})
	claims("a list as subject", map[string]any{"sub": []string{subject}})
	claims("a subject with NUL", map[string]any{"sub": subject + "\x00"})
	claims("expired", map[string]any{"iat": at(-2 * time.Hour), "nbf": at(-2 * time.Hour), "exp": at(-2 * time.Minute)})
	claims("not yet valid", map[string]any{"nbf": at(5 * time.Minute)})
	claims("issued in the future", map[string]any{"iat": at(5 * time.Minute), "exp": at(time.Hour)})
	claims("too old", map[string]any{"iat": at(-25 * time.Hour), "nbf": at(-25 * time.Hour), "exp": at(365 * 24 * time.Hour)})
	claims("ends before it begins", map[string]any{"exp": at(-30 * time.Second), "nbf": nil})
	claims("no end", map[string]any{"exp": nil})
	claims("no beginning", map[string]any{"iat": nil})
	claims("an end of zero", map[string]any{"exp": 0})
	claims("a text as end", map[string]any{"exp": "9999999999"})
	claims("an end beyond numbers", map[string]any{"exp": 1e300})
	claims("a negative end", map[string]any{"exp": -1})
	claims("huge", map[string]any{"pad": strings.Repeat("x", 20_000)})

	plain := string(mustJSON(i.t, good))
	for name, payload := range map[string]string{
		"two subjects":        `{"sub":"repo:acme/other",` + plain[1:],
		"two subjects, after": plain[:len(plain)-1] + `,"sub":"` + subject + `"}`,
		"two issuers":         `{"iss":"https://evil.example",` + plain[1:],
		"two audiences":       plain[:len(plain)-1] + `,"aud":"` + audience + `"}`,
		"two ends":            plain[:len(plain)-1] + `,"exp":99999999999}`,
		"names in upper case": strings.NewReplacer(`"sub"`, `"SUB"`, `"iss"`, `"ISS"`).Replace(plain),
		"null":                `null`, "a list": `[` + plain + `]`, "a text": `"x"`, "two objects": plain + plain, "broken": plain[:len(plain)-1], "nothing": ``,
	} {
		bad["claims: "+name] = i.sign(header, []byte(payload))
	}
	for name, change := range map[string]map[string]any{
		"none": {"alg": "none"}, "None": {"alg": "None"}, "HS256": {"alg": "HS256"}, "RS256": {"alg": "RS256"}, "ES512": {"alg": "ES512"},
		"a number as alg": {"alg": 7}, "an empty alg": {"alg": ""}, "typ at+jwt": {"typ": "at+jwt"}, "typ JOSE": {"typ": "JOSE"},
		"typ logout": {"typ": "logout+jwt"}, "typ dpop": {"typ": "dpop+jwt"}, "a number as typ": {"typ": 1}, "another kid": {"kid": "nobody's"},
		"crit": {"crit": []string{"exp"}}, "crit b64": {"crit": []string{"b64"}, "b64": false}, "zip": {"zip": "DEF"}, "cty": {"cty": "JWT"},
		"jku": {"jku": "https://evil.example/keys"}, "x5u": {"x5u": "https://evil.example/cert"},
	} {
		h := maps.Clone(header)
		maps.Copy(h, change)
		bad["header: "+name] = i.sign(h, []byte(plain))
	}
	for n := range 20 {
		h := maps.Clone(header)
		h["kid"] = fmt.Sprintf("made up %d", n)
		bad[fmt.Sprintf("header: kid %d", n)] = signES256(i.t, newKey(i.t), mustJSON(i.t, h), []byte(plain))
	}
	bad["header: alg twice"] = signES256(i.t, key, []byte(`{"alg":"none","alg":"ES256","kid":"`+kid+`"}`), []byte(plain))
	bad["header: null"] = signES256(i.t, key, []byte(`null`), []byte(plain))

	other := newKey(i.t)
	own := jose.JSONWebKey{Key: other.Public(), KeyID: kid, Algorithm: "ES256"}
	h := maps.Clone(header)
	h["jwk"] = own
	bad["signature: by a key that it brings"] = signES256(i.t, other, mustJSON(i.t, h), []byte(plain))
	bad["signature: by another key"] = signES256(i.t, other, mustJSON(i.t, header), []byte(plain))
	token := i.Token(good)
	parts := strings.Split(token, ".")
	bad["signature: none"] = parts[0] + "." + parts[1] + "."
	bad["signature: of another token"] = parts[0] + "." + parts[1] + "." + strings.Split(i.Token(i.Claims("other", audience, now)), ".")[2]
	bad["signature: short"] = token[:len(token)-4]
	bad["signature: zeros"] = parts[0] + "." + parts[1] + "." + encode(make([]byte, 64))
	bad["alg none, no signature"] = encode([]byte(`{"alg":"none","typ":"JWT"}`)) + "." + parts[1] + "."
	bad["four parts"] = token + ".x"
	bad["a space before"], bad["a line end after"], bad["Bearer"] = " "+token, token+"\n", "Bearer "+token
	bad["HS256 by the public key"] = hs256(i.t, key.Public(), kid, []byte(plain))
	bad["as JSON"] = `{"payload":"` + parts[1] + `","signatures":[{"protected":"` + parts[0] + `","signature":"` + parts[2] + `"}]}`
	return bad
}

// hs256 signs by a shared secret that everybody knows: the public key.
func hs256(t testing.TB, public crypto.PublicKey, kid string, payload []byte) string {
	t.Helper()
	text := encode(mustJSON(t, map[string]any{"alg": "HS256", "kid": kid})) + "." + encode(payload)
	mac := hmac.New(sha256.New, mustJSON(t, jose.JSONWebKey{Key: public}))
	_, _ = mac.Write([]byte(text)) // never fails
	return text + "." + encode(mac.Sum(nil))
}
