package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// CertFiles names the certificates of production. Cert and Key empty mean the one
// made in the data directory.
type CertFiles struct {
	Cert string // PEM, the leaf first
	Key  string // PEM
	CA   string // PEM, authorities of peers; empty means those of the system
}

const (
	caLife   = 10 * 365 * 24 * time.Hour
	leafLife = 90 * 24 * time.Hour
	// renewBefore is how long before its end a certificate is made anew, at start.
	renewBefore = 30 * 24 * time.Hour
)

// CAPath is the file to hand to clients of a certificate made here, by
// SSL_CERT_FILE or as their root certificate.
func CAPath(dataDir string) string { return filepath.Join(dataDir, "tls", "ca.pem") }

// loadTLS returns the TLS configuration of the port: the given certificate, or one
// for localhost, 127.0.0.1 and ::1 under an authority of its own, both made at
// first start in <data-dir>/tls and renewed by a start near their end.
func loadTLS(files CertFiles, dataDir string, now time.Time) (*tls.Config, error) {
	if (files.Cert == "") != (files.Key == "") {
		return nil, errors.New("certificate and key go together: one of them is missing")
	}
	if files.Cert == "" {
		made, err := localCert(filepath.Join(dataDir, "tls"), now)
		if err != nil {
			return nil, fmt.Errorf("make certificate: %w", err)
		}
		files = made
	}
	cert, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("load certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// loadCAs returns the authorities of a file, nil for no file.
func loadCAs(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	text, err := os.ReadFile(file) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, fmt.Errorf("authorities of peers: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("authorities of peers: no certificate in %s", file)
	}
	return pool, nil
}

// localCert makes or renews the authority and the leaf, and names the leaf's files.
func localCert(dir string, now time.Time) (CertFiles, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return CertFiles{}, err
	}
	files := CertFiles{Cert: filepath.Join(dir, "localhost.pem"), Key: filepath.Join(dir, "localhost-key.pem")}
	ca, caKey, err := readPair(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"))
	if err != nil || now.After(ca.NotAfter.Add(-renewBefore)) {
		if ca, caKey, err = makeCA(dir, now); err != nil {
			return CertFiles{}, err
		}
	}
	leaf, _, err := readPair(files.Cert, files.Key)
	if err == nil && now.Before(leaf.NotAfter.Add(-renewBefore)) && leaf.CheckSignatureFrom(ca) == nil {
		return files, nil
	}
	tmpl := template("localhost", now, leafLife)
	tmpl.DNSNames = []string{"localhost"}
	tmpl.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	tmpl.KeyUsage = x509.KeyUsageDigitalSignature
	tmpl.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return CertFiles{}, err
	}
	_, err = writePair(files.Cert, files.Key, tmpl, ca, key, caKey)
	return files, err
}

func makeCA(dir string, now time.Time) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	tmpl := template("bindery local authority", now, caLife)
	tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.MaxPathLenZero = true, true, true
	tmpl.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	cert, err := writePair(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca-key.pem"), tmpl, tmpl, key, key)
	return cert, key, err
}

func template(name string, now time.Time, life time.Duration) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)) // crypto/rand does not fail
	return &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(life),
	}
}

func writePair(certPath, keyPath string, tmpl, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	rawKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := writeFile(keyPath, "PRIVATE KEY", rawKey, 0o600); err != nil {
		return nil, err
	}
	if err := writeFile(certPath, "CERTIFICATE", der, 0o644); err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// writeFile replaces a file in one step, so that a crash leaves the old or the new.
func writeFile(path, kind string, der []byte, mode os.FileMode) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func readPair(certPath, keyPath string) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	pair, err := tls.LoadX509KeyPair(certPath, keyPath)
	if err != nil {
		return nil, nil, err
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, errors.New("not a key made here")
	}
	cert, err := x509.ParseCertificate(pair.Certificate[0])
	return cert, key, err
}
