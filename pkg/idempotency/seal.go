package idempotency

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"
)

// sealInfo separates the sealing key from all else that is derived from a key.
const sealInfo = "bindery idempotency answer 1"

var errSealed = errors.New("kept answer cannot be opened")

// aead is the cipher that seals the answer of this key, with a random nonce.
func (k *Key) aead() (cipher.AEAD, error) {
	secret, err := hkdf.Key(sha256.New, []byte(k.text), k.ref[:], sealInfo, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal encrypts an answer; it is bound to the request.
func (k *Key) seal(answer proto.Message) ([]byte, error) {
	text, err := proto.Marshal(answer)
	if err != nil {
		return nil, fmt.Errorf("seal answer: %w", err)
	}
	c, err := k.aead()
	if err != nil {
		return nil, fmt.Errorf("seal answer: %w", err)
	}
	return c.Seal(nil, nil, text, k.request[:]), nil //nolint:gosec // the cipher makes the nonce itself
}

// open decrypts what seal made into answer, whose fields it replaces.
func (k *Key) open(sealed []byte, answer proto.Message) error {
	c, err := k.aead()
	if err != nil {
		return fmt.Errorf("open answer: %w", err)
	}
	text, err := c.Open(nil, nil, sealed, k.request[:])
	if err != nil {
		return errSealed
	}
	if err := proto.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("open answer: %w", err)
	}
	return nil
}
