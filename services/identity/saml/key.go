package saml

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"github.com/bindery-iam/bindery/pkg/secret"
)

// SealedKeys are the private keys of federations.
var SealedKeys = secret.Column{Table: "identity_saml_keys", ID: "federation_id", Value: "private_key", Kind: "saml federation key"}

const (
	keyBits = 2048
	// keyLife is how long the certificate says that the key is good. Providers take it
	// for a wrapping of the key; nothing here depends on it.
	keyLife = 20 * 365 * 24 * time.Hour
)

// NewKey makes the key of a federation, and a certificate in its name.
func NewKey(federationID string, now time.Time) (Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return Key{}, fmt.Errorf("make key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return Key{}, fmt.Errorf("make serial number: %w", err)
	}
	about := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: federationID}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(keyLife),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, private.Public(), private)
	if err != nil {
		return Key{}, fmt.Errorf("make certificate: %w", err)
	}
	c, err := x509.ParseCertificate(der)
	return Key{private, c}, err
}

// ReadKey reads a key: the private one in PKCS #1, its certificate in DER.
func ReadKey(private, certificate []byte) (Key, error) {
	k, err := x509.ParsePKCS1PrivateKey(private)
	if err != nil {
		return Key{}, fmt.Errorf("read key: %w", err)
	}
	c, err := x509.ParseCertificate(certificate)
	if err != nil {
		return Key{}, fmt.Errorf("read certificate: %w", err)
	}
	return Key{k, c}, nil
}
