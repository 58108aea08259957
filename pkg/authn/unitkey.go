package authn

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Kinds of the PEM blocks of unit keys, as openssl writes them.
const (
	pemPrivate = "PRIVATE KEY" // PKCS #8
	pemPublic  = "PUBLIC KEY"  // PKIX
)

// CreateUnitKey makes a unit key and writes its private half to file, for its owner
// alone, and its public half to file.pub. It returns the text of the latter. A file
// that is there is never replaced: the key in it may be in use (fs.ErrExist).
func CreateUnitKey(file string) (public []byte, err error) {
	pub, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make unit key: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write unit key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("write unit key: %w", err)
	}
	public = pem.EncodeToMemory(&pem.Block{Type: pemPublic, Bytes: der})
	// The public half first: with it alone nothing can be done.
	if err := writeNew(file+".pub", public, 0o644); err != nil {
		return nil, fmt.Errorf("write unit key: %w", err)
	}
	if err := writeNew(file, pem.EncodeToMemory(&pem.Block{Type: pemPrivate, Bytes: private}), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("write unit key: %w", err), os.Remove(file+".pub"))
	}
	return public, nil
}

// writeNew writes a file that is not there yet, and sees that it lasts.
func writeNew(file string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) //nolint:gosec // the operator names the file
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// ReadUnitKey reads the private half of a unit key.
func ReadUnitKey(file string) (ed25519.PrivateKey, error) {
	der, err := readPEM(file, pemPrivate)
	if err != nil {
		return nil, fmt.Errorf("unit key: %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("unit key: %s: %w", file, err)
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("unit key: %s holds no Ed25519 key", file)
	}
	return key, nil
}

// ReadUnitPublicKey reads the public half of a unit key.
func ReadUnitPublicKey(file string) (ed25519.PublicKey, error) {
	der, err := readPEM(file, pemPublic)
	if err != nil {
		return nil, fmt.Errorf("public unit key: %w", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("public unit key: %s: %w", file, err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("public unit key: %s holds no Ed25519 key", file)
	}
	return key, nil
}

// readPEM returns the bytes of a file's one block, which is of that kind.
func readPEM(file, kind string) ([]byte, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(text)
	if block == nil || block.Type != kind || len(rest) > 0 {
		return nil, fmt.Errorf("%s is not one PEM block %q", file, kind)
	}
	return block.Bytes, nil
}
