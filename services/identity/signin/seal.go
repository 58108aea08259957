package signin

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"time"
)

// KeySize is the size of the key that seals cookies and codes, in bytes.
const KeySize = 32

// sealer seals what travels through browsers: nobody reads or changes it, and it ends.
type sealer struct {
	aead cipher.AEAD
	now  func() time.Time
}

func newSealer(key []byte, now func() time.Time) (*sealer, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &sealer{aead: aead, now: now}, nil
}

// errSealed says no more, whatever is wrong with what was sealed.
var errSealed = errors.New("not sealed here for this, or too old")

// sealed is what is in the text.
type sealed[T any] struct {
	Ends  int64 `json:"e"` // unix seconds
	Value T     `json:"v"`
}

// seal makes a text of a value, which opens for the same purpose alone, and for so long.
func seal[T any](s *sealer, purpose string, value T, life time.Duration) (string, error) {
	text, err := json.Marshal(sealed[T]{s.now().Add(life).Unix(), value})
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, text, []byte(purpose))), nil //nolint:gosec // the AEAD makes the nonce
}

// open is the reverse of seal.
func open[T any](s *sealer, purpose, text string) (T, error) {
	var in sealed[T]
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil {
		return in.Value, errSealed
	}
	plain, err := s.aead.Open(nil, nil, raw, []byte(purpose))
	if err != nil || json.Unmarshal(plain, &in) != nil || s.now().Unix() >= in.Ends {
		var none T
		return none, errSealed
	}
	return in.Value, nil
}

// random returns 256 random bits as text.
func random() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime ends the process instead
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// digest is what is kept of a secret.
func digest(text string) []byte {
	h := sha256.Sum256([]byte(text))
	return h[:]
}

// equal compares secrets; the empty one equals none.
func equal(a, b string) bool { return a != "" && subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
