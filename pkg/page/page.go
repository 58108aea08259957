// Package page makes the page tokens of lists (NM-7).
//
// A token holds the position of the last item of a page: a time and an id, the
// keyset by which the list is ordered. It is sealed, so that a client can neither
// read nor make one, and bound to its scope: the method and whatever narrows the
// list (parent, filter). A token of another scope is refused like a forged one.
// It is not bound to the caller: whoever passes it on passes on a position, and
// what is shown from there is decided anew.
package page

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"

	"github.com/bindery-iam/bindery/pkg/apierr"
)

const (
	// DefaultSize is the number of items when a request asks for 0.
	DefaultSize = 100
	// MaxSize is the largest number of items on a page.
	MaxSize = 1000
	// KeySize is the number of bytes of a Sealer's key.
	KeySize = 32
	// MaxToken is the largest number of characters of a token, the smallest
	// limit in the contract.
	MaxToken = 100
	// MaxLongToken is that of a token of Long.
	MaxLongToken = 1000
	// MaxID is the largest number of bytes of a Position's ID: what is left of
	// MaxToken after base64 (4 characters per 3 bytes), nonce, tag and time.
	MaxID = MaxToken*3/4 - nonceSize - tagSize - timeSize

	nonceSize = 12
	tagSize   = 16
	timeSize  = 8
)

// Size returns the number of items on a page for a requested page_size: 100 for
// 0, at most 1000.
func Size(requested int64) int {
	if requested <= 0 {
		return DefaultSize
	}
	return int(min(requested, MaxSize))
}

// MaxBytes is about how many bytes a page has at most: clients take answers of 4 MiB.
const MaxBytes = 3 << 20

// Fit returns how many of the first n items make a page: all of them, or as many as
// MaxBytes hold, at least one. size is that of an item.
func Fit(n int, size func(i int) int) int {
	bytes := 0
	for i := range n {
		if bytes += size(i); bytes > MaxBytes && i > 0 {
			return i
		}
	}
	return n
}

// Position is the keyset of the last item shown. A list that is ordered by an id
// alone leaves Time 0. The zero Position is the beginning of a list.
type Position struct {
	Time int64  // microseconds, as stored
	ID   string // at most MaxID bytes
}

// Sealer makes and reads tokens. It is safe for concurrent use.
type Sealer struct {
	aead cipher.AEAD
	max  int // characters of a token
}

// New returns a Sealer with a key of KeySize bytes, which all processes that
// serve the list share (package secret). A key is good for 2^32 tokens.
func New(key []byte) (*Sealer, error) {
	if len(key) != KeySize {
		return nil, fmt.Errorf("page key has %d bytes, not %d", len(key), KeySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return &Sealer{aead, MaxToken}, nil
}

// Long returns a Sealer whose tokens have up to MaxLongToken characters, for lists that are
// ordered by longer texts and whose contract takes such a token.
func (s *Sealer) Long() *Sealer { return &Sealer{s.aead, MaxLongToken} }

// Seal returns the token for what follows pos in the list of scope: the method,
// then what narrows the list. An ID longer than MaxID is an error.
func (s *Sealer) Seal(pos Position, scope ...string) (string, error) {
	if most := s.max*3/4 - nonceSize - tagSize - timeSize; len(pos.ID) > most {
		return "", fmt.Errorf("seal page token: id %q has more than %d bytes", pos.ID, most)
	}
	nonce := make([]byte, nonceSize, nonceSize+timeSize+len(pos.ID)+tagSize)
	_, _ = rand.Read(nonce)                                       // never fails: the runtime ends the process instead
	plain := binary.BigEndian.AppendUint64(nil, uint64(pos.Time)) //nolint:gosec // the same 64 bits
	plain = append(plain, pos.ID...)
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nonce, nonce, plain, bind(scope))), nil
}

// Open returns the position in a token of scope; the zero Position for an empty
// token. Anything that Seal did not make for this scope is an InvalidField error
// of "page_token".
func (s *Sealer) Open(token string, scope ...string) (Position, error) {
	if token == "" {
		return Position{}, nil
	}
	encoding := base64.RawURLEncoding.Strict()
	sealed, err := encoding.DecodeString(token)
	// The decoder skips line ends: one token would have many spellings.
	if err != nil || len(token) > s.max || len(token) != encoding.EncodedLen(len(sealed)) || len(sealed) < nonceSize+timeSize+tagSize {
		return Position{}, errToken
	}
	plain, err := s.aead.Open(nil, sealed[:nonceSize], sealed[nonceSize:], bind(scope))
	if err != nil {
		return Position{}, errToken
	}
	at := int64(binary.BigEndian.Uint64(plain)) //nolint:gosec // the same 64 bits
	return Position{Time: at, ID: string(plain[timeSize:])}, nil
}

var errToken = apierr.InvalidField("page_token", "is not the token of a page of this list")

// bind joins the parts of a scope so that no two scopes look alike.
func bind(scope []string) []byte {
	var b []byte
	for _, part := range scope {
		b = binary.AppendUvarint(b, uint64(len(part)))
		b = append(b, part...)
	}
	return b
}
