package accessbindings

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync/atomic"

	"github.com/bindery-iam/bindery/pkg/catalog"
	"github.com/bindery-iam/bindery/pkg/checker"
	"github.com/bindery-iam/bindery/services/accessbindings/rules"
)

// seals makes tokens that say something to this unit alone: decision ids, and the
// places in lists of one revision. Each process seals by a key of its own, made of the
// one that all replicas share and a random salt, and counts its tokens from a random
// number on: so no nonce comes twice under a key, however many are sealed, and none needs
// random bytes. Two processes of one salt would have to meet in the count as well.
type seals struct {
	shared []byte
	salt   [saltSize]byte
	aead   cipher.AEAD
	count  atomic.Uint64
	words  words
}

const (
	sealKeySize = 32 // bytes of the key that all replicas share
	saltSize    = 8
	countSize   = 8
	headSize    = saltSize + countSize
	tagSize     = 16
)

func newSeals(key []byte, common words) (*seals, error) {
	s := &seals{shared: key, words: common}
	_, _ = rand.Read(s.salt[:]) // never fails: the runtime ends the process instead
	var first [countSize]byte
	_, _ = rand.Read(first[:]) // so that a token does not tell how many there were
	s.count.Store(binary.BigEndian.Uint64(first[:]))
	var err error
	s.aead, err = s.by(s.salt[:])
	return s, err
}

// by is what seals and opens the tokens of a process.
func (s *seals) by(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.shared, salt, "bindery seal", sealKeySize)
	if err != nil {
		return nil, fmt.Errorf("derive key of seals: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("make seals: %w", err)
	}
	return cipher.NewGCM(block)
}

// nonceOf is the nonce of a token with this count.
func nonceOf(count []byte) [12]byte {
	var nonce [12]byte
	copy(nonce[12-countSize:], count)
	return nonce
}

// token seals a text that room ends with, after the space of a head (roomFor), for one
// use. It writes into room.
func (s *seals) token(room, use []byte) string {
	head := room[:headSize]
	copy(head, s.salt[:])
	binary.BigEndian.PutUint64(head[saltSize:], s.count.Add(1))
	nonce := nonceOf(head[saltSize:])
	var text [256]byte // most stay on the stack
	return string(base64.RawURLEncoding.AppendEncode(text[:0], s.aead.Seal(head, nonce[:], room[headSize:], use)))
}

// roomFor is the space for a text of at most a size, so that sealing it allocates no
// more: the text is appended.
func roomFor(size int) []byte { return make([]byte, headSize, headSize+size+tagSize) }

// open returns the text of a token of one use; false for anything else.
func (s *seals) open(token string, use []byte) ([]byte, bool) {
	encoding := base64.RawURLEncoding.Strict()
	sealed, err := encoding.DecodeString(token)
	// The decoder skips line ends: one token would have many spellings.
	if err != nil || len(token) != encoding.EncodedLen(len(sealed)) || len(sealed) < headSize+tagSize {
		return nil, false
	}
	aead := s.aead
	if !bytes.Equal(sealed[:saltSize], s.salt[:]) {
		if aead, err = s.by(sealed[:saltSize]); err != nil {
			return nil, false
		}
	}
	nonce := nonceOf(sealed[saltSize:headSize])
	text, err := aead.Open(nil, nonce[:], sealed[headSize:], use)
	return text, err == nil
}

// decision is what a decision id holds: nothing is stored for it (EX-8).
type decision struct {
	checker.Query // without tokens
	epoch         int64
	revision      int64
	outOfScope    bool // by the scopes of an API key, whatever its account may do
}

var useDecision = []byte("decision 2")

// words are texts that many decisions hold. An id has the checksum of one in its place,
// which keeps it short: it is part of every denial, and encoded twice in it. A number
// would mean something else after the catalogue has changed.
type words struct {
	sums  map[string]uint32
	texts map[uint32]string
}

const sumSize = 4

// newWords leaves out those whose checksum is that of another.
func newWords(of ...string) words {
	w := words{make(map[string]uint32, len(of)), make(map[uint32]string, len(of))}
	for _, text := range of {
		sum := crc32.ChecksumIEEE([]byte(text))
		if other, taken := w.texts[sum]; taken && other != text {
			w.texts[sum] = ""
			delete(w.sums, other)
			continue
		}
		w.texts[sum], w.sums[text] = text, sum
	}
	return w
}

// commonWords are the types of subjects and resources, and the permissions.
func commonWords(c *catalog.Catalog) words {
	_, all := c.Matrix()
	all = append(slices.Clone(all), rules.UserAccount, rules.ServiceAccount, rules.FederatedUser)
	for _, t := range c.ResourceTypes() {
		all = append(all, t.ID)
	}
	return newWords(all...)
}

// appendTo appends a text: its size and 1 more before it, or 0 before the checksum of a
// word.
func (w *words) appendTo(b []byte, text string) []byte {
	if sum, known := w.sums[text]; known {
		return binary.BigEndian.AppendUint32(append(b, 0), sum)
	}
	return append(binary.AppendUvarint(b, uint64(len(text))+1), text...)
}

// read takes a text off the front.
func (w *words) read(b []byte) (text string, rest []byte, ok bool) {
	n, size := binary.Uvarint(b)
	switch b = b[max(size, 0):]; {
	case size <= 0 || n > uint64(len(b))+1:
		return "", nil, false
	case n > 0:
		return string(b[:n-1]), b[n-1:], true
	case len(b) < sumSize:
		return "", nil, false
	default:
		text = w.texts[binary.BigEndian.Uint32(b)]
		return text, b[sumSize:], text != ""
	}
}

// scopeMark ends the text of a decision that the scopes of a key made.
const scopeMark = 's'

// id is the decision id.
func (d *decision) id(s *seals) string {
	texts := [...]string{d.Subject.Type, d.Subject.ID, d.Permission, d.Resource.Type, d.Resource.ID}
	size := 3*binary.MaxVarintLen64 + 1
	for _, t := range texts {
		size += len(t) + 2
	}
	b := roomFor(size)
	for _, n := range [...]int64{d.epoch, d.revision, d.Now} {
		b = binary.AppendVarint(b, n)
	}
	for _, t := range texts {
		b = s.words.appendTo(b, t)
	}
	if d.outOfScope {
		b = append(b, scopeMark)
	}
	return s.token(b, useDecision)
}

// decisionOf reads a decision id.
func decisionOf(s *seals, id string) (d decision, ok bool) {
	b, ok := s.open(id, useDecision)
	if !ok {
		return decision{}, false
	}
	for _, n := range [...]*int64{&d.epoch, &d.revision, &d.Now} {
		v, size := binary.Varint(b)
		if size <= 0 {
			return decision{}, false
		}
		*n, b = v, b[size:]
	}
	for _, t := range [...]*string{&d.Subject.Type, &d.Subject.ID, &d.Permission, &d.Resource.Type, &d.Resource.ID} {
		if *t, b, ok = s.words.read(b); !ok {
			return decision{}, false
		}
	}
	d.outOfScope = string(b) == string(scopeMark)
	return d, d.outOfScope || len(b) == 0
}
