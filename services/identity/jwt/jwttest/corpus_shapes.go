package jwttest

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"crypto/rsa"
	"encoding/base64"
	"fmt"
	"io"
	"slices"
	"strings"
)

// shapes are tokens that are cut, padded, packed, or too long.
func shapes(h Holder) []Case {
	good := h.Token()
	header, claims, sig := parts(good)
	all := []Case{
		{"nothing", ""},
		{"a dot", "."},
		{"two dots", ".."},
		{"a space", " "},
		{"an IAM token", "t1.AAAA." + strings.Repeat("A", 86)},
		{"an OAuth token", "y0_" + strings.Repeat("A", 43)},
		{"four parts", good + ".AAAA"},
		{"five parts, as of a JWE", strings.Join([]string{header, "AAAA", "AAAA", claims, sig}, ".")},
		{"the parts in another order", claims + "." + header + "." + sig},
		{"no header", "." + claims + "." + sig},
		{"no claims", header + ".." + sig},
		{"detached claims", header + ".." + sig},
		{"after Bearer", "Bearer " + good},
		{"in quotes", `"` + good + `"`},
		{"twice", good + good},
		{"as JSON", fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, header, claims, sig)},
		{"as JSON with many signatures", fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, claims, header, sig)},
		{"encoded once more", encode(good)},
		{"100 KiB of a claim", h.with(map[string]any{"pad": strings.Repeat("a", 100<<10)})},
		{"100 KiB of an audience", h.with(map[string]any{"aud": strings.Repeat("a", 100<<10)})},
		{"100 KiB of letters", strings.Repeat("A", 100<<10)},
		{"100 KiB of dots", strings.Repeat(".", 100<<10)},
		{"100 KiB after it", good + strings.Repeat("A", 100<<10)},
		{"100 KiB of brackets", h.sign(h.Header(), `{"deep":`+strings.Repeat("[", 50<<10)+strings.Repeat("]", 50<<10)+","+h.claims(nil)[1:])},
		{"a character too long", h.fill(8001)},
		{"of 5000 brackets that do not close", h.sign(h.Header(), `{"a":`+strings.Repeat("[", 5000))},
	}
	for _, n := range []int{1, 2, 10, len(good) / 2, len(good) - 10, len(good) - 1} {
		all = append(all, Case{fmt.Sprintf("cut to %d characters", n), good[:n]})
	}
	return append(all, packed(h)...)
}

// fill is a well signed token of n characters, or one more.
func (h Holder) fill(n int) string {
	short := len(h.with(map[string]any{"pad": ""}))
	return h.with(map[string]any{"pad": strings.Repeat("a", (n-short+1)*3/4)})
}

// packed are tokens whose claims are compressed.
func packed(h Holder) []Case {
	deflate := func(s string) string {
		var b bytes.Buffer
		w, err := flate.NewWriter(&b, flate.BestCompression)
		if err != nil {
			h.T.Fatal(err)
		}
		return h.pack(&b, w, s)
	}
	unzip := func(s string) string {
		var b bytes.Buffer
		return h.pack(&b, gzip.NewWriter(&b), s)
	}
	zipped := fmt.Sprintf(`{"alg":"PS256","kid":%q,"typ":"JWT","zip":"DEF"}`, h.KeyID)
	bomb := h.claims(map[string]any{"pad": strings.Repeat("a", 1<<20)})
	return []Case{
		{"deflated", h.sign(zipped, deflate(h.claims(nil)))},
		{"deflated, not said", h.sign(h.Header(), deflate(h.claims(nil)))},
		{"gzipped", h.sign(zipped, unzip(h.claims(nil)))},
		{"a megabyte, deflated", h.sign(zipped, deflate(bomb))},
	}
}

func (h Holder) pack(b *bytes.Buffer, w io.WriteCloser, s string) string {
	if _, err := io.WriteString(w, s); err != nil {
		h.T.Fatal(err)
	}
	if err := w.Close(); err != nil {
		h.T.Fatal(err)
	}
	return b.String()
}

// spellings are other ways to write a good token.
func spellings(h Holder) []Case {
	good := h.Token()
	header, claims, sig := parts(good)
	join := func(parts ...string) string { return strings.Join(parts, ".") }
	all := []Case{
		{"padded", join(header, claims, sig) + "="},
		{"padded twice", join(header, claims, sig) + "=="},
		{"padded header", h.seal(header+"=."+claims, rsa.PSSSaltLengthEqualsHash)},
		{"a line feed at the end", good + "\n"},
		{"a line feed at the beginning", "\n" + good},
		{"CR LF within the signature", join(header, claims, sig[:8]+"\r\n"+sig[8:])},
		{"a line feed within the claims, signed", h.seal(header+"."+claims[:8]+"\n"+claims[8:], rsa.PSSSaltLengthEqualsHash)},
		{"a space within the claims, signed", h.seal(header+"."+claims[:8]+" "+claims[8:], rsa.PSSSaltLengthEqualsHash)},
		{"spaces around a dot", header + " . " + claims + "." + sig},
		{"a tab at the end", good + "\t"},
		{"a zero byte at the end", good + "\x00"},
		{"a full width dot", strings.Replace(good, ".", "．", 1)},
		{"a zero width space", good + "\u200b"},
		{"in capitals", strings.ToUpper(good)},
		{"percent encoded", strings.ReplaceAll(good, ".", "%2E")},
	}
	if standard := strings.NewReplacer("-", "+", "_", "/").Replace(sig); standard != sig {
		all = append(all, Case{"signature in the other alphabet", join(header, claims, standard)})
	}
	return append(all, spareBits(h)...)
}

const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

// spareBits are the other spellings of the same bytes that a lenient decoder takes;
// where the signature is over them, they are well signed.
func spareBits(h Holder) []Case {
	var all []Case
	header, claims, sig := parts(h.Token())
	for _, last := range h.others(sig) {
		all = append(all, Case{"spare bits of the signature: " + last, header + "." + claims + "." + sig[:len(sig)-1] + last})
	}
	for len(claims)%4 == 0 { // no spare bits: make it longer
		claims = encode(h.claims(map[string]any{"pad": strings.Repeat("a", len(claims)%3+1)}))
		if len(claims)%4 == 0 {
			claims = encode(h.claims(nil) + " ")
		}
	}
	for _, last := range h.others(claims) {
		all = append(all, Case{"spare bits of the claims: " + last, h.seal(header+"."+claims[:len(claims)-1]+last, rsa.PSSSaltLengthEqualsHash)})
	}
	return all
}

// others are up to three last characters that a lenient decoder reads as the one of
// a text.
func (h Holder) others(text string) []string {
	want, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		h.T.Fatal(err)
	}
	var found []string
	for _, c := range alphabet {
		got, err := base64.RawURLEncoding.DecodeString(text[:len(text)-1] + string(c))
		if err == nil && slices.Equal(got, want) && string(c) != text[len(text)-1:] && len(found) < 3 {
			found = append(found, string(c))
		}
	}
	return found
}
