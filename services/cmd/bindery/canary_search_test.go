package main

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// window is how many bytes of a secret in a row are a leak of it. Fewer are in a
// masked secret, and a line of a log may cut what it shows.
const window = 16

// canaries are the secrets of one run: what was sent, what was given out, and what the
// program was set up with.
type canaries struct {
	mu      sync.Mutex
	secrets map[string]string // what it is, by the secret
	kinds   map[string]int
}

func newCanaries() *canaries {
	return &canaries{secrets: make(map[string]string), kinds: make(map[string]int)}
}

// add notes a secret. What has fewer characters than a window is none that could be
// told from other text.
func (c *canaries) add(kind, value string) {
	if len(value) < window {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.secrets[value]; !known {
		c.secrets[value] = kind
		c.kinds[kind]++
	}
}

// learn notes the secrets in a message, which are marked in its proto, and returns the
// message without them.
func (c *canaries) learn(m proto.Message) proto.Message {
	m = proto.Clone(m)
	c.take(m.ProtoReflect())
	return m
}

func (c *canaries) take(m protoreflect.Message) {
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		options, _ := fd.Options().(*descriptorpb.FieldOptions)
		switch {
		case options.GetDebugRedact():
			if fd.Kind() == protoreflect.StringKind && !fd.IsList() {
				c.credential(string(fd.Name()), v.String())
			}
			m.Clear(fd)
		case fd.IsMap() || fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				c.take(v.List().Get(i).Message())
			}
		default:
			c.take(v.Message())
		}
		return true
	})
}

// signed are tokens whose last part alone proves something: the others say whose they
// are, and so do records and logs.
var signed = regexp.MustCompile(`^(?:[tu]1|rt1|eyJ[\w-]+)\..+\.([\w-]{32,})={0,2}$`)

// credential notes what is secret in a credential.
func (c *canaries) credential(kind, value string) {
	if m := signed.FindStringSubmatch(value); m != nil {
		c.add(kind, m[1])
		return
	}
	if _, text, ok := strings.Cut(value, "-----BEGIN"); ok {
		c.private(kind, "-----BEGIN"+text)
		return
	}
	c.add(kind, value)
}

// private notes what is secret in a private key: not what its public half shows, too.
func (c *canaries) private(kind, text string) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		c.add(kind, text)
		return
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		key, err = x509.ParseECPrivateKey(block.Bytes)
	}
	k, ok := key.(*rsa.PrivateKey)
	if err != nil || !ok {
		c.add(kind, string(block.Bytes[len(block.Bytes)/4:len(block.Bytes)/2]))
		return
	}
	for _, secret := range [][]byte{k.D.Bytes(), k.Primes[0].Bytes(), k.Primes[1].Bytes()} {
		c.add(kind, string(secret))
	}
}

// spellings are the ways in which a secret may stand in a text, whatever stands before
// and behind it there.
func spellings(secret string) map[string]bool {
	quoted, _ := json.Marshal(secret) //nolint:errchkjson // a string
	all := map[string]bool{
		secret: true, strings.Trim(string(quoted), `"`): true, url.QueryEscape(secret): true, url.PathEscape(secret): true,
		hex.EncodeToString([]byte(secret)): true, strings.ToUpper(hex.EncodeToString([]byte(secret))): true,
	}
	for before := range 3 { // base64 is another text at each place of its groups of three
		text := base64.StdEncoding.EncodeToString(append(make([]byte, before), secret...))
		text = text[(before*8+5)/6 : len(text)-4]
		all[text], all[strings.NewReplacer("+", "-", "/", "_").Replace(text)] = true, true
	}
	return all
}

// hunt looks for secrets by windows of all their spellings.
type hunt struct {
	windows map[string]string // whose it is, by the window
	maybe   [1 << 16]uint64   // bits of what windows begin with
}

func (c *canaries) hunt() *hunt {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := &hunt{windows: make(map[string]string)}
	for secret, kind := range c.secrets {
		for text := range spellings(secret) {
			for at := 0; ; at += window / 2 {
				at = min(at, len(text)-window)
				if at < 0 {
					break
				}
				h.put(text[at:at+window], kind)
				if at == len(text)-window {
					break
				}
			}
		}
	}
	return h
}

// put notes a window, unless it has so few different bytes that it is no secret of
// anybody: generated bad values repeat one.
func (h *hunt) put(w, kind string) {
	different := make(map[byte]bool, window)
	for i := range len(w) {
		different[w[i]] = true
	}
	if len(different) < 6 {
		return
	}
	h.windows[w] = kind
	bit := bitOf([]byte(w))
	h.maybe[bit>>6] |= 1 << (bit & 63)
}

func bitOf(b []byte) uint64 {
	return binary.LittleEndian.Uint64(b) * 0x9e3779b97f4a7c15 >> 42 // 22 bits
}

// find returns what of a text shows a secret: the kinds, each with one place.
func (h *hunt) find(text []byte) map[string]string {
	found := make(map[string]string)
	for at := 0; at+window <= len(text); at++ {
		bit := bitOf(text[at:])
		if h.maybe[bit>>6]&(1<<(bit&63)) == 0 {
			continue
		}
		kind, ok := h.windows[string(text[at:at+window])]
		if ok && found[kind] == "" {
			found[kind] = fmt.Sprintf("%q", text[max(0, at-200):min(len(text), at+60)])
		}
	}
	return found
}

// credentialForm is what looks like a credential, whoever's it is: those by which the
// units call each other are in no request of a client.
var credentialForm = regexp.MustCompile(`\b[tu]1\.[\w.-]{8,}\.[\w-]{43,86}\b|\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{32,}|PRIVATE KEY-----|postgres(?:ql)?://[^:/@ ]+:(?:[^x@ ]|x[^x@ ])[^@ ]*@|whsec_[\w+/=]{16,}`)

// shown is all that a run has shown, by where.
type shown struct {
	mu sync.Mutex
	at map[string]*bytes.Buffer
}

func (x *shown) add(where string, text []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.at == nil {
		x.at = make(map[string]*bytes.Buffer)
	}
	if x.at[where] == nil {
		x.at[where] = new(bytes.Buffer)
	}
	x.at[where].Write(append(text, '\n'))
}

// leaked is one secret where it must not be.
type leaked struct{ where, kind, text string }

// search looks through all of it.
func (x *shown) search(c *canaries) (all []leaked) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := c.hunt()
	for _, where := range slices.Sorted(maps.Keys(x.at)) {
		text := x.at[where].Bytes()
		found := h.find(text)
		if form := credentialForm.Find(text); form != nil {
			found["something that looks like a credential"] = fmt.Sprintf("%q", form)
		}
		for _, kind := range slices.Sorted(maps.Keys(found)) {
			all = append(all, leaked{where, kind, found[kind]})
		}
	}
	return all
}
