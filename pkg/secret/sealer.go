package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
)

const (
	// SealKeySize is the number of bytes of a seal key.
	SealKeySize = 32

	sealVersion = 1
	keyIDSize   = 4
	headSize    = 1 + keyIDSize
	// sealedMin is the length of a sealed empty text: head, nonce and tag.
	sealedMin = headSize + 12 + 16
)

// Errors of Open. Neither says what was sealed.
var (
	// ErrSealKeyUnknown: sealed by a key that is not among those of the Sealer.
	ErrSealKeyUnknown = errors.New("sealed by a key that is not in the seal key file")
	// ErrSealBroken: nothing that Seal made for this purpose, or damaged since.
	ErrSealBroken = errors.New("not sealed for this purpose, or damaged")
)

// Sealer seals secrets that a unit must read again and keeps in its database, by
// keys that are kept outside of it: whoever has the database alone, or a backup,
// has none of them. AES-256-GCM with random nonces; a key is good for 2^32 secrets.
// It is safe for concurrent use and shows its keys to nobody.
type Sealer struct{ keys []sealKey }

type sealKey struct {
	id   [keyIDSize]byte
	aead cipher.AEAD
}

// NewSealer returns a Sealer that seals by the first key and opens what any of them
// sealed. Each has SealKeySize bytes; the same one twice is an error.
func NewSealer(keys ...[]byte) (*Sealer, error) {
	if len(keys) == 0 {
		return nil, errors.New("no seal key")
	}
	s := new(Sealer)
	for i, key := range keys {
		if len(key) != SealKeySize {
			return nil, fmt.Errorf("seal key %d has %d bytes, not %d", i+1, len(key), SealKeySize)
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return nil, fmt.Errorf("seal key %d: %w", i+1, err)
		}
		aead, err := cipher.NewGCMWithRandomNonce(block)
		if err != nil {
			return nil, fmt.Errorf("seal key %d: %w", i+1, err)
		}
		k := sealKey{id: keyID(key), aead: aead}
		if s.find(k.id) != nil {
			return nil, fmt.Errorf("seal key %d is there twice", i+1)
		}
		s.keys = append(s.keys, k)
	}
	return s, nil
}

// keyID names a key in what it sealed, and tells nothing of it.
func keyID(key []byte) (id [keyIDSize]byte) {
	h := sha256.New()
	h.Write([]byte("bindery seal key id\x00")) // a hash never fails
	h.Write(key)
	copy(id[:], h.Sum(nil))
	return id
}

func (s *Sealer) find(id [keyIDSize]byte) *sealKey {
	for i := range s.keys {
		if s.keys[i].id == id {
			return &s.keys[i]
		}
	}
	return nil
}

// Seal returns text sealed for a purpose, which names what it is and whose: a sealed
// text that is moved to another row does not open there.
func (s *Sealer) Seal(purpose string, text []byte) []byte {
	k := &s.keys[0]
	head := append([]byte{sealVersion}, k.id[:]...)
	return k.aead.Seal(head, nil, text, bind(head, purpose)) //nolint:gosec // the cipher makes the nonce itself
}

// Open returns the text that was sealed for the purpose. Fails: ErrSealKeyUnknown,
// ErrSealBroken.
func (s *Sealer) Open(purpose string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealedMin || sealed[0] != sealVersion {
		return nil, ErrSealBroken
	}
	head := sealed[:headSize]
	k := s.find([keyIDSize]byte(head[1:]))
	if k == nil {
		return nil, fmt.Errorf("%w (its id is %s)", ErrSealKeyUnknown, hex.EncodeToString(head[1:]))
	}
	text, err := k.aead.Open(nil, nil, sealed[headSize:], bind(head, purpose))
	if err != nil {
		return nil, ErrSealBroken
	}
	return text, nil
}

// Fresh reports whether the key that seals now sealed it.
func (s *Sealer) Fresh(sealed []byte) bool {
	return len(sealed) >= sealedMin && sealed[0] == sealVersion && [keyIDSize]byte(sealed[1:headSize]) == s.keys[0].id
}

// bind is what a sealed text is bound to beside its key.
func bind(head []byte, purpose string) []byte {
	return append(append(make([]byte, 0, len(head)+len(purpose)), head...), purpose...)
}
